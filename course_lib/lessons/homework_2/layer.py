"""Homework 2, a layer: the feed-forward half, one layer of a real model, and a block to repair."""

import functools
from functools import partial

import torch
from torch.nn.functional import silu

from course_lib import assets
from course_lib.classroom.answers import same
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons import parts
from course_lib.lessons.parts import SLIPS_OF_ATTENTION, SLIPS_OF_NORM, block, gated, rms, scaled, turning
from course_lib.lessons.tools import draw, shuffled, some, vectors
from course_lib.pretrained.checkpoints import transformer_from_gguf
from course_lib.pretrained.gguf import read_gguf
from course_lib.pretrained.vocabularies import tokenizer_from_gguf_metadata

# ---- the feed-forward half -----------------------------------------------------------------------


def feed_forward_half(
    x, weight, eps, gate, up, down, norm=rms, bend=parts.swiglu, add=lambda x, normed, more: x + more
):
    normed = norm(x, weight, eps)
    return add(x, normed, gated(normed, gate, up, down, bend))


def normed_last(x, weight, eps, gate, up, down):
    return x + rms(gated(x, gate, up, down), weight, eps)


def post_normed(x, weight, eps, gate, up, down):
    return rms(x + gated(x, gate, up, down), weight, eps)


def halves(random, shapes, sizes=(1.0,), steps=(1e-5,)):
    for shape, d_ff in shapes:
        for size, eps in zip(sizes, steps, strict=True):
            d_model = shape[-1]
            matrices = (
                2 * scaled(random, d_ff, d_model),
                2 * scaled(random, d_ff, d_model),
                scaled(random, d_model, d_ff),
            )
            yield size * wide_rows(random, *shape), 1 + vectors(random, d_model) / 2, eps, *matrices


def wide_rows(random, *shape):
    """Rows so far from 0, and from their mean, that eps shows where it is meant to and rounding nowhere."""
    rows = torch.zeros(shape)
    while rows.square().mean(-1).min() < 0.8 or rows.var(-1).min() < 0.2:
        rows = vectors(random, *shape) + 0.5
    return rows


def one_text(feed, random):
    """each token's row by itself: normalized, widened, gated, narrowed, and added to the stream"""
    feed.compare(halves(random, (((1, 2, 3), 5), ((1, 4, 4), 6), ((1, 3, 6), 9))))


def batches(feed, random):
    """also several texts in a batch"""
    feed.compare(halves(random, (((2, 3, 4), 6), ((3, 2, 6), 10), ((2, 1, 3), 1))))


def small_rows(feed, random):
    """also where a row is so small that eps decides"""
    feed.compare(halves(random, (((1, 2, 4), 6), ((2, 3, 5), 8)), sizes=(1e-2, 0.3), steps=(1e-3, 0.05)))


FEED_FORWARD_HALF = Exercise(
    name="feed_forward_half",
    lesson="hw2",
    title="the second half of a block: RMSNorm, gated feed-forward, residual",
    oracle=feed_forward_half,
    may_call=(),
    checks={"half": (one_text, batches, small_rows)},
    mistakes={
        "the stream is lost: the result is added to x": partial(feed_forward_half, add=lambda x, normed, more: more),
        "the result is added to the normalized rows: it is added to x itself": partial(
            feed_forward_half, add=lambda x, normed, more: normed + more
        ),
        "x enters the network as it is: normalize it first": partial(feed_forward_half, norm=parts.as_it_is),
        "it normalizes what comes out of the network: what goes in is normalized": normed_last,
        "it normalizes the sum at the end, which is post-norm: here the network's input is normalized": post_normed,
        "its eps is always 1e-5: take the one that is given": partial(
            feed_forward_half, norm=lambda x, weight, eps: rms(x, weight, 1e-5)
        ),
        "gate and up are swapped: the activation is on the gate": partial(feed_forward_half, bend=parts.bent_up),
        "the gate passes sigmoid alone: SiLU is x · sigmoid(x)": partial(feed_forward_half, bend=parts.sigmoid_gate),
        "the gate passes a ReLU: here it is SiLU": partial(feed_forward_half, bend=lambda gate, up: gate.relu() * up),
        "the gate passes a GELU: here it is SiLU": partial(feed_forward_half, bend=parts.gelu_gate),
        "the activation is on both: on the gate alone": partial(
            feed_forward_half, bend=lambda gate, up: silu(gate) * silu(up)
        ),
        "the activation comes after the product: on the gate alone, before it": partial(
            feed_forward_half, bend=parts.bent_product
        ),
        "gate and up are added: they are multiplied, number by number": partial(feed_forward_half, bend=parts.summed),
        "there is no activation: the gate passes SiLU": partial(feed_forward_half, bend=parts.unbent),
        "`up` is not used: the gate is multiplied with it": partial(feed_forward_half, bend=parts.gate_alone),
    }
    | {sentence: partial(feed_forward_half, norm=norm) for sentence, norm in SLIPS_OF_NORM.items()},
    hints=(
        "Three steps: the normalized rows, the network on them, and the sum with x as it came in.",
        "The mean of the squares of each row: `x.pow(2).mean(dim=-1, keepdim=True)`. `keepdim` leaves a dimension of "
        "size 1, so that each row is divided by its own root. Where does eps go?",
        "A weight (d_out, d_in) is applied by `rows @ weight.T`. Apply `gate` and `up` to the normalized rows; SiLU of "
        "the first times the second is d_ff wide, and `down` makes it d_model wide again. x is still what it was.",
    ),
)


# ---- one layer of a real model -------------------------------------------------------------------


STORED = {  # our name: the name in a GGUF file, after "blk.7."
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def run_layer(
    x, tensors, layer, settings,
    pairs="neighbours", theta=None, eps=None, renamed=None, which=lambda layer: layer, **slips,
):  # fmt: skip
    """The activations after a layer; the keywords are somebody's slips."""
    prefix = f"blk.{which(layer)}."
    if f"{prefix}attn_q.weight" not in tensors:
        raise IndexError  # such a layer is not there, and the formula says nothing
    weights = {ours: tensors[f"{prefix}{theirs}.weight"] for ours, theirs in (STORED | (renamed or {})).items()}
    turn = turning(theta or settings["theta"], pairs)
    eps = settings["eps"] if eps is None else eps
    return block(x, weights, settings["n_heads"], settings["n_kv_heads"], turn, eps, **slips)


def small_file(random, layers, n_heads=4, n_kv_heads=2, d_head=4, d_ff=10, wider=1):
    """Layers of a made-up model, under the names of a GGUF file.

    The heads together are `wider` times as wide as the stream; in SmolLM2 they are as wide.
    """
    width = n_heads * d_head
    d_model = width // wider
    shapes = {
        "attn_q": (width, d_model),
        "attn_k": (n_kv_heads * d_head, d_model),
        "attn_v": (n_kv_heads * d_head, d_model),
        "attn_output": (d_model, width),
        "ffn_gate": (d_ff, d_model),
        "ffn_up": (d_ff, d_model),
        "ffn_down": (d_model, d_ff),
    }
    tensors = {}
    for layer in layers:
        for name, shape in shapes.items():
            # what goes back to the stream stays small: rounding is in proportion to the largest number in a sum
            size = 0.5 if name in ("attn_output", "ffn_down") else 2
            tensors[f"blk.{layer}.{name}.weight"] = size * scaled(random, *shape)
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = 1 + vectors(random, d_model) / 2
    return tensors


def made_up_layers(run, random):
    """a layer of a small made-up model"""
    inputs = []
    for layer, heads, others in ((2, (2, 1), (0, 1, 3)), (1, (4, 2), (0, 2, 11)), (11, (6, 3), (0, 10, 12))):
        tensors = small_file(random, shuffled(random, [layer, *others]), *heads)
        settings = {"n_heads": heads[0], "n_kv_heads": heads[1], "theta": 50.0, "eps": 0.01}
        x = vectors(random, 1, 5, 4 * heads[0]) * 0.3
        inputs.append((x, tensors, layer, settings))
    run.compare(inputs)
    batches = [(torch.cat([x, x.flip(1), -x]), dict(reversed(tensors.items())), *rest) for x, tensors, *rest in inputs]
    run.compare([*batches, *((x[:, :1], *rest) for x, *rest in inputs)])


TWICE_AS_WIDE = {  # slips that show where the heads together are twice as wide as the stream
    "the scores are divided by the root of d_model / n_heads: attn_q's rows say how wide a head is": dict(
        divide=lambda d_head, d_model: (d_head / 2) ** 0.5
    ),
    "its heads are d_model / n_heads wide, and so there are too many of them: attn_q's rows say how wide a head is": (
        dict(
            cut=lambda rows, n_heads: parts.by_position(rows, 2 * n_heads),
            share=lambda heads, n_heads: parts.in_blocks(heads, 2 * n_heads),
        )
    ),
}


def compare_wide(learner, inputs, formula):
    """As `learner.compare`, for inputs whose heads are twice as wide together; a crash there is about the width."""
    try:
        learner.compare(inputs, {sentence: formula(**slips) for sentence, slips in TWICE_AS_WIDE.items()})
    except Wrong as wrong:
        if wrong.sentence.startswith("it stops with"):
            raise Wrong(f"where n_heads · d_head is not d_model, {wrong.sentence}", wrong.shown) from None
        raise


def wide_heads(run, random):
    """also where the heads together are wider than the stream: attn_q's rows tell how wide a head is"""
    inputs = []
    for layer, heads, n in ((0, (2, 1), 3), (1, (4, 2), 5)):
        tensors = small_file(random, [layer], *heads, wider=2)
        settings = {"n_heads": heads[0], "n_kv_heads": heads[1], "theta": 50.0, "eps": 0.01}
        inputs.append((vectors(random, 1, n, 2 * heads[0]) * 0.3, tensors, layer, settings))
    compare_wide(run, inputs, partial(partial, run_layer))


TEXTS = (
    "The dog ran up the hill, and the cat watched it from the wall.",
    "Water boils at one hundred degrees; on a mountain it boils sooner.",
    "Who was it that broke the window? Nobody in the room said a word.",
    "for i in range(10):\n    total += i ** 2\nprint(total)",
    "She counted the ships in the harbour: three from Lisbon, two from Oslo.",
    "To be, or not to be, that is the question.",
)


@functools.cache
def smollm2():
    """The file, its settings, and for each text what enters each layer, with what leaves the last one at the end.

    The model itself is not kept: a layer is read from the file when it is needed (14 MB).
    """
    file = read_gguf(assets.path("smollm2-135m"))
    transformer, encode = transformer_from_gguf(file), tokenizer_from_gguf_metadata(file.metadata).encode
    config, streams = transformer.config, []
    with torch.no_grad():
        for text in TEXTS:
            x = transformer.embed(torch.tensor([encode(text)]))
            stream, run = [x], transformer.begin(x.shape[1])
            for part in transformer.blocks:
                stream.append(part(stream[-1], run))
            streams.append(stream)
    settings = dict(n_heads=config.n_heads, n_kv_heads=config.n_kv_heads, theta=config.rope_theta, eps=config.norm_eps)
    return file, settings, streams


def layer_of_smollm2(run, random):
    """a layer of SmolLM2 on a text: its activations are the model's, within a thousandth of what the layer adds"""
    if run.made:  # a mistake that has its name already: no need of 14 MB to find it again
        raise Wrong(next(iter(run.made)))
    file, settings, streams = smollm2()
    layer, stream = draw(random, 0, len(streams[0]) - 2), some(random, streams, 1)[0]
    tensors = {name: file.tensor(name) for name in file.tensors if name.startswith(f"blk.{layer}.")}
    before, after = stream[layer], stream[layer + 1]
    answer = run.answer(before, tensors, layer, settings)
    if not isinstance(answer, torch.Tensor) or answer.shape != after.shape or not answer.is_floating_point():
        run.compare([(before, tensors, layer, settings)])
    apart = ((answer - after).norm(dim=-1) / (after - before).norm(dim=-1)).max().item()
    if not apart < 1e-3:
        raise Wrong(
            "a layer of SmolLM2 gives other activations than in the model",
            f"in layer {layer}, {before.shape[1]} tokens: they differ by {100 * apart:.3g}% of what the layer adds",
        )


RUN_LAYER = Exercise(
    name="run_layer",
    lesson="hw2",
    title="one layer of SmolLM2, from the tensors of its file",
    oracle=run_layer,
    may_call=("positions",),
    checks={"activations": (made_up_layers, wide_heads, layer_of_smollm2)},
    mistakes={
        'it pairs i with i + d_head/2: a GGUF file has neighbours, `rotate(…, "neighbours")`': partial(
            run_layer, pairs="halves"
        ),
        "it ignores theta: `rotation_angles` takes 10,000 where it is not told": partial(run_layer, theta=10_000.0),
        "it ignores eps and takes 1e-5": partial(run_layer, eps=1e-5),
        "it leaves eps out": partial(run_layer, eps=0.0),
        "the two norms are swapped: attn_norm belongs to attention, ffn_norm to the feed-forward network": partial(
            run_layer, renamed={"attention_norm": "ffn_norm", "feed_forward_norm": "attn_norm"}
        ),
        "both norms have the same weight: attn_norm comes first, ffn_norm second": partial(
            run_layer, renamed={"feed_forward_norm": "attn_norm"}
        ),
        "ffn_norm is at work twice: attn_norm comes first": partial(run_layer, renamed={"attention_norm": "ffn_norm"}),
        "gate and up are swapped: their shapes are the same, their names are not": partial(
            run_layer, renamed={"gate": "ffn_up", "up": "ffn_gate"}
        ),
        "keys and values are swapped: their shapes are the same, their names are not": partial(
            run_layer, renamed={"key": "attn_v", "value": "attn_k"}
        ),
        "queries and output are swapped: their shapes are the same, their names are not": partial(
            run_layer, renamed={"query": "attn_output", "output": "attn_q"}
        ),
        "the matrix of the output is applied the wrong way round: it is square, so nothing complains; x @ weight.T": (
            partial(run_layer, output=lambda rows, matrix: rows @ matrix)
        ),
        "the matrix of the output is left out": partial(run_layer, output=lambda rows, matrix: rows),
        "it runs the layer 0, whatever `layer` says": partial(run_layer, which=lambda layer: 0),
        "it runs the layer before: layers count from 0, in the file too": partial(
            run_layer, which=lambda layer: max(layer - 1, 0)
        ),
        "it runs the layer after: layers count from 0, in the file too": partial(
            run_layer, which=lambda layer: layer + 1
        ),
        "what attention adds is lost: the stream is x + attention": partial(run_layer, wire=parts.without_attention),
        "after attention the stream is lost: x + attention": partial(run_layer, wire=parts.stream_lost_at_attention),
        "attention is added to the normalized rows: the stream itself goes on": partial(
            run_layer, wire=parts.attention_on_the_copy
        ),
        "at the end the stream is lost: what the network gives is added to it": partial(
            run_layer, wire=parts.stream_lost_at_feed
        ),
        "the network's result is added to the normalized rows: the stream itself goes on": partial(
            run_layer, wire=parts.feed_on_the_copy
        ),
        "the feed-forward network reads x as it was before attention": partial(run_layer, wire=parts.side_by_side),
        "nothing is normalized: each part reads a normalized copy of the stream": partial(
            run_layer, norm=parts.as_it_is
        ),
    }
    | {sentence: partial(run_layer, **slips) for sentence, slips in SLIPS_OF_ATTENTION.items()},
    hints=(
        'Lay the nine tensors out first: `tensors[f"blk.{layer}.attn_q.weight"]` and so on, and look at their '
        "shapes. Then two halves: x + attention(norm(x)), and the same with the feed-forward network.",
        "The width of a head is not among the settings: `attn_q` has n_heads · d_head rows. The angles: "
        "`rotation_angles(torch.arange(n), d_head, theta)`. And both halves have a norm of their own.",
        "Parts 2 and 3 are the two halves, but for three things: here queries, keys and values have a matrix each, "
        "`attn_norm` comes before attention, and x is added after it. The second half reads the *sum*. If a made-up "
        "layer is right, so is SmolLM2's.",
    ),
)


# ---- a repair ------------------------------------------------------------------------------------


repaired_block = partial(block, eps=1e-5)
# the planted bug: x becomes its normalized copy, and all that follows is added to that
loses_the_stream = partial(repaired_block, wire=parts.attention_on_the_copy)


def blocks(random, shapes, unit=False):
    """Inputs for a block. With `unit`, x is normalized already and the first norm's weight is 1: it changes nothing."""
    for n_heads, n_kv_heads, n in shapes:
        tensors = small_file(random, [0], n_heads, n_kv_heads)
        weights = {ours: tensors[f"blk.0.{theirs}.weight"] for ours, theirs in STORED.items()}
        x = vectors(random, 2, n, 4 * n_heads) * 0.7
        if unit:
            x, weights["attention_norm"] = rms(x, 1, 0), torch.ones(4 * n_heads)
        yield x, weights, n_heads, n_kv_heads, turning(50.0)


def stream_kept(repair, random):
    """the stream: what each part finds is added to x, and where both find nothing, x comes out as it went in"""
    [(x, weights, *rest)] = blocks(random, ((2, 2, 1),))
    nothing = {name: torch.zeros_like(weights[name]) for name in ("output", "down")}
    lost = {
        "the stream is lost: even where both parts find nothing, x does not come out as it went in": loses_the_stream
    }
    repair.compare([(x, weights | nothing, *rest), *blocks(random, ((2, 2, 1), (3, 1, 1), (4, 4, 1)))], lost)


def groups_right(repair, random):
    """the groups: with fewer key heads than query heads, each query head reads its own group's"""
    turns = {
        "with as many key heads as query heads all is well, with fewer the result is another: who reads whom?": (
            partial(repaired_block, share=parts.in_turns)
        )
    }
    repair.compare(blocks(random, ((4, 2, 1), (6, 2, 1), (6, 3, 1)), unit=True), turns)
    # from the last of several tokens nothing is hidden, so its row says nothing about the other bugs
    several = list(blocks(random, ((4, 2, 3), (6, 3, 4)), unit=True))
    found = [(given, repair.answer(*given)) for given in several]
    if all(is_last_row_of(repaired_block, *one) for one in found):
        return
    half_mended = {
        f"the {name} still go to the query heads in turns: each group has its own, keys and values alike": partial(
            repaired_block, share_keys=keys, share=values
        )
        for name, keys, values in (
            ("keys", parts.in_turns, parts.in_blocks),
            ("values", parts.in_blocks, parts.in_turns),
        )
    }
    for sentence, formula in (half_mended | repair.exercise.mistakes).items():
        if all(is_last_row_of(formula, *one) for one in found):
            raise Wrong(sentence, "with several tokens, the last one's row is another")
    raise Wrong("with one token the groups are right, and with several the last one's row is another")


def is_last_row_of(formula, given, answer):
    right = formula(*given)
    return isinstance(answer, torch.Tensor) and answer.shape == right.shape and same(answer[:, -1], right[:, -1])


def future_hidden(repair, random):
    """the future: what comes later changes nothing about a token"""
    [(x, weights, *rest)] = blocks(random, ((2, 2, 4),), unit=True)
    other = x.clone()
    other[:, -1] = -x[:, -1]
    one, two = repair.answer(x, weights, *rest), repair.answer(other, weights, *rest)
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor) and one.shape == two.shape == x.shape:
        apart = (one - two)[:, :-1].abs().max()
        if apart > 1e-4:
            raise Wrong(
                "the future leaks: another last token changes the rows of the tokens before it",
                f"the first 3 of 4 rows change by up to {apart:.3f}",
            )
    repair.compare(blocks(random, ((2, 2, 2), (3, 3, 4), (4, 4, 5)), unit=True))


REPAIRED_BLOCK = Exercise(
    name="repaired_block",
    lesson="hw2",
    title="a block with three planted bugs, repaired",
    oracle=repaired_block,
    may_call=(),
    checks={"stream": (stream_kept,), "groups": (groups_right,), "future": (future_hidden,)},
    mistakes={
        "a token does not see itself any more": partial(repaired_block, see=parts.before_itself),
        "attention reads the stream as it is: a normalized copy is what it reads": partial(
            repaired_block, norm=parts.as_it_is
        ),
        "the feed-forward network reads x as it was before attention": partial(repaired_block, wire=parts.side_by_side),
        "what attention finds is lost": partial(repaired_block, wire=parts.without_attention),
        "at the end the stream is lost: the network's result is added to it": partial(
            repaired_block, wire=parts.stream_lost_at_feed
        ),
        "the scores are not divided any more": partial(repaired_block, divide=parts.undivided),
        "nothing is turned any more: queries and keys were, and rightly": partial(repaired_block, turned=()),
        "all query heads read the first key head": partial(repaired_block, share=parts.first_for_all),
    },
    hints=(
        "The three symptoms are three bugs, and no line has two. Look at what a symptom is about: what is added to "
        "what; which key head a query head reads; and what a weight knows of the tokens that are hidden.",
        "Try it small: a block whose `output` and `down` are zeros should give x back. Four heads that are called "
        "0, 1, 2, 3 and two key heads a and b: what does `repeat` make of a b, and what should stand there?",
        "A hidden token's weight is 0 in the end, and still it takes part: in which sum? When would a hidden score "
        "have to be gone, so that it is not in that sum? As for the stream: how often is the name `x` given away?",
    ),
)
