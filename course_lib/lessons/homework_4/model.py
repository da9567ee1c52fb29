"""Homework 4, the model: positions, the first half of a block, and all of it."""

import functools
from functools import partial

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons import parts
from course_lib.lessons.homework_2.layer import STORED, compare_wide, small_file
from course_lib.lessons.homework_4.file import smollm2, tokenizer
from course_lib.lessons.parts import SLIPS_OF_ATTENTION, SLIPS_OF_NORM, block, layer_norm, rms, stay, turning
from course_lib.lessons.tools import draw, some, vectors
from course_lib.pretrained.names import GGUF, translate

# ---- positions -----------------------------------------------------------------------------------


def turned(
    x, theta,
    places=lambda x: torch.arange(x.shape[-2]), exponent=lambda d: torch.arange(0, d, 2) / d,
    angle=lambda place, exponent, theta: place * theta**-exponent,
    apart=parts.neighbours, together=parts.as_neighbours, turn=parts.anticlockwise,
):  # fmt: skip
    """RoPE over neighbours; the keywords are somebody's slips."""
    return parts.turned(x, angle(places(x)[:, None].float(), exponent(x.shape[-1]), theta), apart, together, turn)


def one_head(turn, random):
    """one head: neighbours turn together, the first pair by a radian a position, later pairs more slowly"""
    turn.compare((vectors(random, *shape), 50.0) for shape in ((2, 2), (3, 4), (5, 8)))


def many_heads(turn, random):
    """many heads: the positions are the last dimension but one"""
    turn.compare((vectors(random, *shape), 20.0) for shape in ((2, 3, 4), (4, 2, 6), (2, 3, 5, 4)))


def other_bases(turn, random):
    """any base, SmolLM2's 100,000, too"""
    turn.compare((vectors(random, *shape), theta) for shape, theta in (((7, 4), 50.0), ((9, 3, 8), 100_000.0)))


TURN_HEADS = Exercise(
    name="turn_heads",
    lesson="hw4",
    title="rotary positions, with the pairs of a GGUF file",
    oracle=turned,
    may_call=(),
    checks={"turned": (one_head, many_heads, other_bases)},
    mistakes={
        "it pairs number i with i + d_head/2: in this file neighbours are pairs, 2i and 2i + 1": partial(
            turned, apart=parts.halves, together=parts.as_halves
        ),
        "the right pairs turn and come out as halves: each number goes back to its place": partial(
            turned, together=parts.as_halves
        ),
        "halves turn and come out as neighbours: neighbours go in, too": partial(turned, apart=parts.halves),
        "it turns the other way round": partial(
            turned, turn=lambda a, b, cos, sin: (a * cos + b * sin, b * cos - a * sin)
        ),
        "the positions count from 1: the first token stands at 0, and is not turned": partial(
            turned, places=lambda x: torch.arange(1, x.shape[-2] + 1)
        ),
        "every row is turned as the last one: each position has its own angle": partial(
            turned, places=lambda x: torch.full((x.shape[-2],), x.shape[-2] - 1)
        ),
        "nothing is turned": partial(turned, turn=lambda a, b, cos, sin: (a, b)),
        "the base is always 10,000: it is theta": lambda x, theta: turned(x, 10_000.0),
        "all pairs turn by the first pair's angle: pair i by theta^(−2i/d_head) of it": partial(
            turned, exponent=lambda d: torch.zeros(d // 2)
        ),
        "the angles fall too slowly: the power is −2i/d_head, for pair i": partial(
            turned, exponent=lambda d: torch.arange(d // 2) / d
        ),
        "the angles fall too fast: the power is −2i/d_head, for pair i": partial(
            turned, exponent=lambda d: 2 * torch.arange(0, d, 2) / d
        ),
        "later pairs turn faster: the power of theta is negative": partial(
            turned, angle=lambda place, exponent, theta: place * theta**exponent
        ),
        "the angles are taken as degrees: they are radians": partial(
            turned, angle=lambda place, exponent, theta: (place * theta**-exponent).deg2rad()
        ),
        "sine and cosine have changed places: an angle of 0 turns nothing": partial(
            turned, turn=parts.sine_and_cosine_swapped
        ),
        "the second number is made from the first after it has changed: keep the old one": partial(
            turned, turn=parts.first_one_overwritten
        ),
        "the second number has the wrong sign before b: it is a·sin + b·cos": partial(
            turned, turn=parts.second_sign_wrong
        ),
    },
    hints=(
        "A table of angles first, (position, d_head/2): a row for each position, a column for each pair.",
        "Pair i turns by `position · theta ** (−2i / d_head)`. `x[..., 0::2]` are the first numbers of all pairs, "
        "`x[..., 1::2]` the second ones.",
        "From (a, b) come a·cos − b·sin and a·sin + b·cos. `torch.stack((first, second), dim=-1).flatten(-2)` puts "
        "them back: first and second of a pair next to each other.",
    ),
)


# ---- the first half of a block -------------------------------------------------------------------


NAMES = {ours: f"{theirs}.weight" for ours, theirs in STORED.items()}


def attention_half(x, weights, settings, turn, renamed=None, wire=parts.without_feed, eps=None, **slips):
    """The stream after the first half of a block, (position, d_model); the keywords are somebody's slips."""
    own = {ours: weights[name] for ours, name in (NAMES | (renamed or {})).items() if name in weights}
    eps = settings["eps"] if eps is None else eps
    return block(x[None], own, settings["n_heads"], settings["n_kv_heads"], turn, eps, wire, **slips)[0]


def values_of_x(x, one, two, attend, feed, wire=parts.without_feed):
    return wire(x, one, two, partial(attend, values_of=x), feed)


def stream_lost(x, one, two, attend, feed):
    return attend(one(x))


def on_the_copy(x, one, two, attend, feed):
    return parts.without_feed(one(x), lambda rows: rows, two, attend, feed)


def halves_of_blocks(random, sizes, turn, wider=1):
    """Inputs: the names of one block's tensors without "blk.7." in front."""
    for n_heads, n_kv_heads, n in sizes:
        tensors = small_file(random, [0], n_heads, n_kv_heads, wider=wider)
        weights = {name.removeprefix("blk.0."): tensor for name, tensor in tensors.items() if "attn" in name}
        settings = dict(n_heads=n_heads, n_kv_heads=n_kv_heads, theta=50.0, eps=0.1 * draw(random, 1, 4))
        yield vectors(random, n, 4 * n_heads // wider) * 0.7, weights, settings, turn


def shared_heads(attend, random):
    """fewer key heads than query heads: each group of query heads shares one"""
    (x, *others), *inputs = halves_of_blocks(random, ((2, 1, 2), (4, 2, 3), (6, 3, 5), (9, 3, 4)), stay)
    attend.compare([*inputs, (0.01 * x, *others)])  # rows so small that 1e-5 is more than no eps at all


def with_positions(attend, random):
    """queries and keys are turned"""
    attend.compare(halves_of_blocks(random, ((4, 2, 3), (6, 2, 5)), turning(50.0, "neighbours")))


def plain_heads(attend, random):
    """also with as many key heads as query heads, with a single one, and with a single token"""
    attend.compare(halves_of_blocks(random, ((2, 2, 4), (3, 1, 3), (4, 2, 1)), turning(50.0, "neighbours")))


def wide_heads(attend, random):
    """also where the heads together are wider than the stream: attn_q's rows tell how wide a head is"""
    sizes = ((2, 1, 3), (4, 2, 5))
    compare_wide(
        attend, halves_of_blocks(random, sizes, turning(50.0, "neighbours"), wider=2), partial(partial, attention_half)
    )


ATTENTION_HALF = Exercise(
    name="attention_half",
    lesson="hw4",
    title="the first half of a block: norm, attention, residual",
    oracle=attention_half,
    may_call=(),
    checks={"half": (shared_heads, with_positions, plain_heads, wide_heads)},
    mistakes={
        "the stream is lost: what attention finds is added to x": partial(attention_half, wire=stream_lost),
        "what attention finds is added to the normalized rows: it is added to x itself": partial(
            attention_half, wire=on_the_copy
        ),
        "attention reads x as it is: it reads the normalized rows": partial(attention_half, norm=parts.as_it_is),
        "the values are made of x as it is: of the normalized rows, as queries and keys are": partial(
            attention_half, wire=values_of_x
        ),
        "eps is always 1e-5: it is settings['eps']": partial(attention_half, eps=1e-5),
        "this is PyTorch's LayerNorm, with an eps of its own: RMSNorm takes no mean off, and eps is settings['eps']": (
            partial(attention_half, norm=layer_norm, eps=1e-5)
        ),
        "keys and values are swapped: attn_k and attn_v": partial(
            attention_half, renamed={"key": "attn_v.weight", "value": "attn_k.weight"}
        ),
        "queries and output are swapped: attn_q and attn_output": partial(
            attention_half, renamed={"query": "attn_output.weight", "output": "attn_q.weight"}
        ),
        "the output matrix is missing": partial(attention_half, output=lambda rows, matrix: rows),
        "the output matrix is the wrong way round: x @ matrix.T": partial(
            attention_half, output=lambda rows, matrix: rows @ matrix
        ),
    }
    | {sentence: partial(attention_half, norm=norm) for sentence, norm in SLIPS_OF_NORM.items()}
    | {sentence: partial(attention_half, **slips) for sentence, slips in SLIPS_OF_ATTENTION.items()},
    hints=(
        "Norm, three matrices, heads, turn, scores, softmax over the past, values, heads together, output matrix, sum. "
        "All of it is in homework 2, there with a batch in front; here x is one text.",
        "`(rows @ matrix.T).unflatten(-1, (n, -1)).transpose(0, 1)` cuts (position, n · d_head) into "
        "(n, position, d_head). `repeat_interleave(n_heads // n_kv_heads, dim=0)` gives each query head its key head.",
        "Hide the future with −∞ before the softmax, and divide the scores by √d_head. Back together: "
        "`mixed.transpose(0, 1).flatten(1) @ weights['attn_output.weight'].T`, added to the x that came in.",
    ),
)


# ---- the whole model -----------------------------------------------------------------------------


def model(
    ids, tensor, settings,
    layers=range, which=lambda n: n, pairs="neighbours", theta=None, eps=None, enter=lambda x: x, norm=rms,
    leave=None, exit_table=lambda tied: "token_embd" if tied else "output", give=lambda scores: scores,
    renamed=None, **slips,
):  # fmt: skip
    """The scores (position, vocab); the keywords are somebody's slips."""
    x = enter(tensor("token_embd.weight")[ids])[None]
    eps = settings["eps"] if eps is None else eps
    turn = turning(settings["theta"] if theta is None else theta, pairs)
    for n in layers(settings["n_layers"]):
        own = {ours: tensor(f"blk.{which(n)}.{name}") for ours, name in (NAMES | (renamed or {})).items()}
        x = block(x, own, settings["n_heads"], settings["n_kv_heads"], turn, eps, norm=norm, **slips)
    rows = (leave or norm)(x[0], tensor("output_norm.weight"), eps)
    return give(rows @ tensor(f"{exit_table(settings['tied'])}.weight").T)


def made_up(random, n, n_layers, n_heads, n_kv_heads, tied, wider=1):
    """Arguments of `model_scores`: a small file, whose blocks are strong enough that each of them shows."""
    tensors = small_file(random, range(n_layers), n_heads, n_kv_heads, wider=wider)
    d_model = 4 * n_heads // wider
    for name, tensor in tensors.items():
        tensors[name] = tensor * (0.5 if name.endswith(("attn_output.weight", "ffn_down.weight")) else 1)
    tensors["token_embd.weight"] = vectors(random, 2 * d_model + 3, d_model) / 2
    tensors["output_norm.weight"] = 1 + vectors(random, d_model) / 2
    if not tied:
        tensors["output.weight"] = vectors(random, 2 * d_model + 3, d_model) / 2
    settings = dict(n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads, theta=50.0, tied=tied)
    settings["eps"] = 0.1 * draw(random, 1, 4)

    def tensor(name):
        return tensors[name].clone()

    return torch.randperm(2 * d_model + 3, generator=random)[:n], tensor, settings


def two_layers(run, random):
    """a made-up model of two layers, the table at the exit the one at the entrance"""
    inputs = [made_up(random, n, 2, *heads, tied=True) for n, heads in ((3, (2, 1)), (5, (4, 2)))]
    run.compare(inputs)


def own_exit(run, random):
    """a made-up model with a table of its own at the exit"""
    run.compare(made_up(random, n, 2, *heads, tied=False) for n, heads in ((3, (2, 1)), (4, (6, 3))))


def deep(run, random):
    """more layers, both tables, other settings"""
    run.compare([made_up(random, 4, 3, 4, 2, tied=False), made_up(random, 3, 4, 2, 2, tied=True)])


def wide_stack(run, random):
    """layers whose heads together are wider than the stream"""
    inputs = [made_up(random, 3, 2, 2, 1, tied=True, wider=2), made_up(random, 4, 2, 4, 2, tied=False, wider=2)]
    compare_wide(run, inputs, partial(partial, model))


@functools.cache
def real_case(text):
    """One text, and the scores that the library gets."""
    ids = torch.tensor(tokenizer().encode(text))
    with torch.no_grad():
        return ids, smollm2()(ids[None])[0]


def settings_of_smollm2():
    config = smollm2().config
    sizes = dict(n_layers=config.n_layers, n_heads=config.n_heads, n_kv_heads=config.n_kv_heads)
    return sizes | dict(theta=config.rope_theta, eps=config.norm_eps, tied=config.tie_embeddings)


def tensor_of_smollm2(name):
    """A tensor by its name in the file; the model's own, so that half a gigabyte is not unpacked for each try."""
    return _tensors()[name]


@functools.cache
def _tensors():
    with torch.no_grad():
        return {translate(ours, GGUF): tensor for ours, tensor in smollm2().state_dict().items()}


TEXTS = ("The dog ran up the hill", "Water boils at one", "Who was it?", "print(1 + 2)", "To be, or not to be")


def the_real_model(run, random):
    """SmolLM2, all thirty layers: its scores are the library's, within a thousandth"""
    if run.made:  # a mistake that has its name already
        raise Wrong(next(iter(run.made)))
    ids, scores = real_case(some(random, TEXTS, 1)[0])
    settings = settings_of_smollm2()
    with torch.no_grad():
        answer = run.answer(ids, tensor_of_smollm2, settings)
    if not isinstance(answer, torch.Tensor) or answer.shape != scores.shape or not answer.is_floating_point():
        raise Wrong(f"for {len(ids)} ids of SmolLM2 it gives no tensor of shape {tuple(scores.shape)}")
    apart = (answer - scores).abs().max().item()
    if not apart < 1e-3:
        raise Wrong("SmolLM2 gets other scores than in the library", f"{len(ids)} tokens: up to {apart:.3g} apart")


MODEL_SCORES = Exercise(
    name="model_scores",
    lesson="hw4",
    title="SmolLM2's forward pass, from the tensors of its file",
    oracle=model,
    may_call=(),
    checks={"stack": (two_layers, own_exit), "smollm2": (deep, wide_stack, the_real_model)},
    mistakes={
        "the last norm is missing: output_norm stands between the last layer and the table": partial(
            model, leave=parts.as_it_is
        ),
        "it uses the table of the entrance at the exit, where `tied` is False: there it is output.weight": partial(
            model, exit_table=lambda tied: "token_embd"
        ),
        "the layers come in the reverse order": partial(model, layers=lambda n: range(n)[::-1]),
        "every layer has layer 0's tensors": partial(model, which=lambda n: 0),
        "the last layer is missing": partial(model, layers=lambda n: range(n - 1)),
        "the first layer is missing": partial(model, layers=lambda n: range(1, n)),
        "no layer is run": partial(model, layers=lambda n: ()),
        "the pairs are halves: a GGUF file has neighbours, 2i and 2i + 1": partial(model, pairs="halves"),
        "theta is always 10,000: it is settings['theta']": partial(model, theta=10_000.0),
        "theta is always 100,000: it is settings['theta']": partial(model, theta=100_000.0),
        "eps is always 1e-5: it is settings['eps']": partial(model, eps=1e-5),
        "the feed-forward halves are missing": partial(model, wire=parts.without_feed),
        "the gate goes through GELU: SiLU": partial(model, bend=parts.gelu_gate),
        "the gate goes through a plain sigmoid: SiLU is z · sigmoid(z)": partial(model, bend=parts.sigmoid_gate),
        "gate and up are swapped: the SiLU is on the gate, ffn_gate": partial(model, bend=parts.bent_up),
        "there is no SiLU: the gate goes through it": partial(model, bend=parts.unbent),
        "the feed-forward half reads x as it is: it reads the rows normalized with ffn_norm": partial(
            model, wire=parts.second_norm_missing
        ),
        "the feed-forward half reads x as it was before attention": partial(model, wire=parts.side_by_side),
        "after attention the stream is lost: x + attention": partial(model, wire=parts.stream_lost_at_attention),
        "what attention finds is added to the normalized rows: to x itself": partial(
            model, wire=parts.attention_on_the_copy
        ),
        "after the feed-forward half the stream is lost: x + down(…)": partial(model, wire=parts.stream_lost_at_feed),
        "what the feed-forward half finds is added to the normalized rows: to x itself": partial(
            model, wire=parts.feed_on_the_copy
        ),
        "attn_norm is at work twice: the feed-forward half has ffn_norm": partial(
            model, renamed={"feed_forward_norm": NAMES["attention_norm"]}
        ),
        "ffn_norm is at work twice: attention has attn_norm": partial(
            model, renamed={"attention_norm": NAMES["feed_forward_norm"]}
        ),
        "the two norms of a layer are swapped: attn_norm comes first, ffn_norm second": partial(
            model, renamed={"attention_norm": NAMES["feed_forward_norm"], "feed_forward_norm": NAMES["attention_norm"]}
        ),
        "the output matrix is missing: attn_output": partial(model, output=lambda rows, matrix: rows),
        "the output matrix is the wrong way round: x @ matrix.T": partial(
            model, output=lambda rows, matrix: rows @ matrix
        ),
        "the values are made of x as it is: of the normalized rows": partial(
            model, wire=partial(values_of_x, wire=parts.in_order)
        ),
        "the vectors are multiplied by √d_model at the entrance: not in this model": partial(
            model, enter=lambda x: x * x.shape[-1] ** 0.5
        ),
        "these are probabilities: the scores themselves are asked for": partial(
            model, give=lambda scores: scores.softmax(dim=-1)
        ),
        "it gives the last position alone: every position is asked for": partial(model, give=lambda scores: scores[-1]),
        "attention's first step is missing: it reads the normalized rows": partial(
            model, wire=parts.first_norm_missing
        ),
        "keys and values are swapped": partial(model, renamed={"key": "attn_v.weight", "value": "attn_k.weight"}),
    }
    | {sentence: partial(model, norm=norm) for sentence, norm in SLIPS_OF_NORM.items()}
    # one that makes NaN makes nothing else in a stack, and that has a sentence of its own
    | {sentence: partial(model, **slips) for sentence, slips in SLIPS_OF_ATTENTION.items() if "NaN" not in sentence},
    hints=(
        "Look-up, then for each layer the two halves, then the last norm and the table at the exit. Your functions of "
        "the parts before may be called: a half that is right is right here, too.",
        "The names: token_embd.weight; for layer 7 blk.7.attn_norm.weight, blk.7.attn_q.weight, … and ffn_norm, "
        "ffn_gate, ffn_up, ffn_down; output_norm.weight; output.weight where `tied` is False.",
        "The second half of a layer: the rows are RMSNorm of x with ffn_norm, and x + down(SiLU(gate · rows) · "
        "(up · rows)) goes on. Last: RMSNorm with output_norm, and its product with the transposed table.",
    ),
)
