"""Homework 2: a transformer block that runs one layer of SmolLM2, an induction head, parameters by hand, a repair."""

import functools

import torch
from torch.nn.functional import silu

from course_lib import assets
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons.tools import draw, shuffled, some, vectors
from course_lib.pretrained.checkpoints import transformer_from_gguf
from course_lib.pretrained.gguf import read_gguf
from course_lib.pretrained.vocabularies import tokenizer_from_gguf_metadata

# ---- who may look at whom ------------------------------------------------------------------------


def hidden_first(scores, visible):
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)


def hidden_last(scores, visible):
    return scores.softmax(dim=-1) * visible


def weighed(see, hide=hidden_first, first_query=lambda n_query, n_key: n_key - n_query):
    """Weights from scores, where `see(distance, window)` says who is seen: the distance is 0 for a token itself."""

    def answer(scores, window=None):
        n_query, n_key = scores.shape[-2:]
        query = torch.arange(n_query)[:, None] + first_query(n_query, n_key)
        return hide(scores, see(query - torch.arange(n_key), n_key if window is None else window))

    return answer


def in_window(distance, window):
    return (distance >= 0) & (distance < window)


masked_weights = weighed(in_window)


def after_cached_keys(weigh, random):
    """the queries are the last tokens: each sees all keys up to its own"""
    shapes = ((1, 2), (2, 4), (2, 5), (2, 3, 2, 4), (2, 2, 3, 7))
    weigh.compare((vectors(random, *shape), None) for shape in shapes)


def nothing_cached(weigh, random):
    """also where nothing was cached: as many queries as keys"""
    weigh.compare((vectors(random, *shape), None) for shape in ((1, 1), (2, 2), (3, 3), (2, 3, 5, 5)))


def windows(weigh, random):
    """with a window: a token sees itself and the last ones before it"""
    inputs = [(vectors(random, 4, 4), window) for window in (1, 2, 3, 4, 9)]
    weigh.compare([*inputs, (vectors(random, 2, 2, 3, 8), 3), (vectors(random, 2, 6), 4), (vectors(random, 1, 9), 2)])


def large_scores(weigh, random):
    """also where scores are so large that e to their power is infinite"""
    weigh.compare((200 * vectors(random, 2, *shape), window) for shape, window in (((3, 4), None), ((5, 5), 2)))


MASKED_WEIGHTS = Exercise(
    name="masked_weights",
    lesson="hw2",
    title="attention weights, after cached keys and within a window",
    oracle=masked_weights,
    may_call=(),
    checks={"weights": (after_cached_keys, nothing_cached, windows, large_scores)},
    mistakes={
        "it lines the queries up with the first keys: they are the last tokens, and the keys before are the past": (
            weighed(in_window, first_query=lambda n_query, n_key: 0)
        ),
        "a token does not see itself: its own key is the last that it may look at": weighed(
            lambda distance, window: (distance > 0) & (distance < window)
        ),
        "it sees the future and not the past: the mask is the wrong way round": weighed(
            lambda distance, window: (distance <= 0) & (distance > -window)
        ),
        "it hides nothing: what comes later must not be seen": weighed(lambda distance, window: distance < torch.inf),
        "each query sees one token of the future": weighed(
            lambda distance, window: (distance >= -1) & (distance < window)
        ),
        "the window hides the far past, and the future must be hidden as well": weighed(
            lambda distance, window: distance.abs() < window
        ),
        "the window hides the far past, but here it has put the future back into sight": weighed(
            lambda distance, window: distance < window
        ),
        "it ignores the window": weighed(lambda distance, window: distance >= 0),
        "its window is one too wide: the token itself is one of the `window`": weighed(
            lambda distance, window: (distance >= 0) & (distance <= window)
        ),
        "its window is one too narrow: the token itself is only one of the `window`": weighed(
            lambda distance, window: (distance >= 0) & ((distance < window - 1) | (distance == 0))
        ),
        "what is hidden gets the score 0, and e to the power of 0 is 1: take −∞": weighed(
            in_window, lambda scores, visible: (scores * visible).softmax(dim=-1)
        ),
        "its rows do not sum to 1: the mask comes after the softmax": weighed(in_window, hidden_last),
        "its columns sum to 1, not its rows: softmax runs over the keys, the last dimension": weighed(
            in_window, lambda scores, visible: scores.masked_fill(~visible, -torch.inf).softmax(dim=-2)
        ),
        "it gives the masked scores; the weights that softmax makes of them are asked for": weighed(
            in_window, lambda scores, visible: scores.masked_fill(~visible, -torch.inf)
        ),
        "it divides the scores by a root, and they are divided already": lambda scores, window: masked_weights(
            scores / scores.shape[-1] ** 0.5, window
        ),
    },
    hints=(
        "First the mask, a table (query, key) of True and False; then `masked_fill` and softmax. Count distances: "
        "where stands the query, where the key, and how many steps lie between?",
        "With 2 queries and 5 keys the queries stand at the positions 3 and 4. In general the first one stands at "
        "n_key − n_query. A column of query positions minus a row of key positions is the table of distances.",
        "A distance of 0 is the token itself, a negative one the future. So what may be seen has a distance from 0 to "
        "window − 1. Everything else gets the score −∞ *before* the softmax, and so the weight 0.",
    ),
)

# ---- one attention, one feed-forward network, one block, each with the slips that one makes ------


def by_position(rows, n_heads):  # (batch, position, n_heads · d_head) → (batch, n_heads, position, d_head)
    return rows.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def across_positions(rows, n_heads):
    return rows.reshape(len(rows), n_heads, rows.shape[1], -1)


def scattered(rows, n_heads):
    return rows.unflatten(-1, (-1, n_heads)).movedim(-1, 1)


def in_blocks(heads, n_heads):
    return heads.repeat_interleave(n_heads // heads.shape[1], dim=1)


def in_turns(heads, n_heads):
    return heads.repeat(1, n_heads // heads.shape[1], 1, 1)


def times(rows, matrix):
    return rows @ matrix.T


def attended(
    x,
    weights,
    n_heads,
    n_kv_heads,
    turn,
    cut=by_position,
    share=in_blocks,
    turned=("query", "key"),
    divide=lambda d_head, d_model: d_head**0.5,
    weigh=masked_weights,
    join=lambda heads: heads.transpose(1, 2),
    output=times,
    values_of=None,
):
    sizes = {"query": n_heads, "key": n_kv_heads, "value": n_kv_heads}
    read = {"query": x, "key": x, "value": x if values_of is None else values_of}
    heads = {name: cut(times(read[name], weights[name]), size) for name, size in sizes.items()}
    heads |= {name: turn(heads[name]) for name in turned}
    query, key, value = heads["query"], share(heads["key"], n_heads), share(heads["value"], n_heads)
    scores = query @ key.transpose(-2, -1) / divide(query.shape[-1], x.shape[-1])
    mixed = join(weigh(scores) @ value)
    return output(mixed.reshape(*x.shape[:2], -1), weights["output"])


def rms(x, weight, eps):
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def gated(x, gate, up, down, bend=lambda gate, up: silu(gate) * up):
    return times(bend(times(x, gate), times(x, up)), down)


def layer_norm(x, weight, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    return rms(centred, weight, eps)


SLIPS_OF_NORM = {  # of RMSNorm, wherever it stands
    "it takes the mean away first, as LayerNorm does: RMSNorm only scales": layer_norm,
    "it divides by the mean of the squares: by its root": lambda x, weight, eps: (
        x / (x.pow(2).mean(-1, keepdim=True) + eps) * weight
    ),
    "it divides by the length of the row: the mean of the squares is meant, not their sum": lambda x, weight, eps: (
        x / (x.pow(2).sum(-1, keepdim=True) + eps).sqrt() * weight
    ),
    "it takes one mean for all tokens: each row has its own": lambda x, weight, eps: (
        x / (x.pow(2).mean() + eps).sqrt() * weight
    ),
    "its mean runs over the tokens: it runs over the numbers of one row": lambda x, weight, eps: (
        x / (x.pow(2).mean(-2, keepdim=True) + eps).sqrt() * weight
    ),
    "the norm's weight is left out": lambda x, weight, eps: rms(x, 1, eps),
    "it multiplies by 1 + the norm's weight: some models store it so, this one does not": lambda x, weight, eps: rms(
        x, 1 + weight, eps
    ),
    "eps is left out: it stands beside the mean of the squares": lambda x, weight, eps: rms(x, weight, 0),
    "eps is added after the root: it stands under it": lambda x, weight, eps: (
        x / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps) * weight
    ),
}

SLIPS_OF_ATTENTION = {  # the sentences of grouped_attention and of run_layer
    "the groups go wrong: with 4 query heads and 2 key heads, the query heads 0 and 1 share the key head 0": dict(
        share=in_turns
    ),
    "all query heads look at the first key head: each group has its own": dict(
        share=lambda heads, n_heads: in_blocks(heads[:, :1], n_heads)
    ),
    "the future is not hidden: a token sees itself and the past": dict(
        weigh=weighed(lambda distance, window: distance < torch.inf)
    ),
    "a token does not see itself, so the first one sees nothing and becomes NaN": dict(
        weigh=weighed(lambda distance, window: distance > 0)
    ),
    "a row of weights does not sum to 1: the mask comes after the softmax": dict(weigh=weighed(in_window, hidden_last)),
    "softmax runs over the queries: a query's weights over the keys have to sum to 1": dict(
        weigh=weighed(in_window, lambda scores, visible: scores.masked_fill(~visible, -torch.inf).softmax(dim=-2))
    ),
    "the scores are not divided by the root of d_head": dict(divide=lambda d_head, d_model: 1),
    "the scores are divided by d_head itself, not by its root": dict(divide=lambda d_head, d_model: d_head),
    "the scores are divided by the root of d_model: it is the width of one head that counts": dict(
        divide=lambda d_head, d_model: d_model**0.5
    ),
    "the scores are multiplied by the root of d_head: divide": dict(divide=lambda d_head, d_model: d_head**-0.5),
    "nothing is turned: without positions a query cannot tell near from far": dict(turned=()),
    "the keys are not turned: queries and keys both are": dict(turned=("query",)),
    "the queries are not turned: queries and keys both are": dict(turned=("key",)),
    "the values are turned, too: positions concern the scores alone": dict(turned=("query", "key", "value")),
    "a head's numbers are mixed from several tokens: cut each row first, then swap the dimensions": dict(
        cut=across_positions
    ),
    "a head's numbers are picked from all over the row: each head has d_head neighbours": dict(cut=scattered),
    "the heads are put back without swapping the dimensions: a token's row has all heads of that token": dict(
        join=lambda heads: heads
    ),
    "a token's heads are put back number by number: the whole of the first head comes first": dict(
        join=lambda heads: heads.movedim(1, -1)
    ),
}


def turning(theta, pairs="halves", start=0):
    """A function that turns rows for their positions, start, start + 1 … , as the notebook makes one."""

    def turn(x):
        return rotate(x, rotation_angles(torch.arange(start, start + x.shape[-2]), x.shape[-1], theta), pairs)

    return turn


def stay(x):
    """A turn by nothing."""
    return x.clone()


def scaled(random, *shape):
    """A matrix that keeps the size of what it is given about as it was."""
    return vectors(random, *shape) / shape[-1] ** 0.5


# ---- grouped-query attention ---------------------------------------------------------------------


def taken_apart(qkv, n_heads, n_kv_heads, order=("query", "key", "value")):
    d_head = len(qkv) // (n_heads + 2 * n_kv_heads)
    sizes = [d_head * (n_heads if name == "query" else n_kv_heads) for name in order]
    return dict(zip(order, qkv.split(sizes), strict=True))


def attending(order=("query", "key", "value"), give=lambda x, found: found, **slips):
    def answer(x, qkv, output, n_heads, n_kv_heads, turn):
        weights = taken_apart(qkv, n_heads, n_kv_heads, order) | {"output": output}
        return give(x, attended(x, weights, n_heads, n_kv_heads, turn, **slips))

    return answer


grouped_attention = attending()


def attentions(random, turn, shapes):
    """Inputs with so many heads and key heads; no two sizes of one input are the same."""
    for n_heads, n_kv_heads, d_head, n in shapes:
        d_model = n_heads * d_head + 3
        qkv = 2 * scaled(random, (n_heads + 2 * n_kv_heads) * d_head, d_model)
        output = scaled(random, d_model, n_heads * d_head)
        yield vectors(random, 2, n, d_model), qkv, output, n_heads, n_kv_heads, turn


GROUPED = ((4, 2, 2, 3), (6, 3, 4, 4), (6, 2, 6, 5))


def groups(attend, random):
    """fewer key heads than query heads: each serves as many query heads, the first ones first"""
    attend.compare(attentions(random, stay, GROUPED))


def extremes(attend, random):
    """also with as many key heads as query heads, and with a single one"""
    attend.compare(attentions(random, stay, ((1, 1, 4, 2), (3, 3, 2, 4), (4, 1, 2, 3))))


def positions(attend, random):
    """queries and keys are turned for their positions"""
    attend.compare(attentions(random, turning(some(random, (10.0, 100.0), 1)[0], start=3), GROUPED))


def one_token(attend, random):
    """one token alone: what it sees is itself"""
    attend.compare(attentions(random, turning(100.0, "neighbours"), ((2, 1, 2, 1), (6, 3, 4, 1))))


GROUPED_ATTENTION = Exercise(
    name="grouped_attention",
    lesson="hw2",
    title="grouped-query attention",
    oracle=grouped_attention,
    may_call=("positions",),
    checks={"attention": (groups, extremes, positions, one_token)},
    mistakes={
        "keys and values are swapped: after the queries' rows come the keys', then the values'": attending(
            order=("query", "value", "key")
        ),
        "the queries' rows are not the first: queries, keys, values is the order": attending(
            order=("key", "value", "query")
        ),
        "x is added: what attention adds to the stream is asked for, and that alone": attending(
            give=lambda x, found: x + found
        ),
    }
    | {sentence: attending(**slips) for sentence, slips in SLIPS_OF_ATTENTION.items()},
    hints=(
        "Six steps: multiply by `qkv`, take the three pieces apart, cut each into heads, turn queries and keys, "
        "let the heads attend, put them together and multiply by `output`.",
        "`len(qkv)` is (n_heads + 2 · n_kv_heads) · d_head, which tells d_head. `rows.split([…], dim=-1)` takes the "
        "pieces apart; their sizes differ. `repeat_interleave` gives each query head its key head.",
        "Heads are cut as in lesson 06: (batch, position, n · d_head) → (batch, position, n, d_head) → "
        "(batch, n, position, d_head), and put together the same way backwards. A weight (d_out, d_in) is applied by "
        "`x @ weight.T`. Give keys and values their heads' copies before the scores; hide the future with −∞.",
    ),
)

# ---- the feed-forward half -----------------------------------------------------------------------


def fed(norm=rms, bend=lambda gate, up: silu(gate) * up, add=lambda x, normed, more: x + more):
    def answer(x, weight, eps, gate, up, down):
        normed = norm(x, weight, eps)
        return add(x, normed, gated(normed, gate, up, down, bend))

    return answer


feed_forward_half = fed()


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
    feed.compare(halves(random, (((2, 3, 4), 6), ((3, 2, 6), 10))))


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
        "the stream is lost: the result is added to x": fed(add=lambda x, normed, more: more),
        "the result is added to the normalized rows: it is added to x itself": fed(
            add=lambda x, normed, more: normed + more
        ),
        "x enters the network as it is: normalize it first": fed(norm=lambda x, weight, eps: x),
        "it normalizes what comes out of the network: what goes in is normalized": normed_last,
        "it normalizes the sum at the end, which is post-norm: here the network's input is normalized": post_normed,
        "its eps is always 1e-5: take the one that is given": fed(norm=lambda x, weight, eps: rms(x, weight, 1e-5)),
        "gate and up are swapped: the activation is on the gate": fed(bend=lambda gate, up: gate * silu(up)),
        "the gate passes sigmoid alone: SiLU is x · sigmoid(x)": fed(bend=lambda gate, up: gate.sigmoid() * up),
        "the gate passes a ReLU: here it is SiLU": fed(bend=lambda gate, up: gate.relu() * up),
        "the gate passes a GELU: here it is SiLU": fed(bend=lambda gate, up: torch.nn.functional.gelu(gate) * up),
        "the activation is on both: on the gate alone": fed(bend=lambda gate, up: silu(gate) * silu(up)),
        "the activation comes after the product: on the gate alone, before it": fed(
            bend=lambda gate, up: silu(gate * up)
        ),
        "gate and up are added: they are multiplied, number by number": fed(bend=lambda gate, up: silu(gate) + up),
        "there is no activation: the gate passes SiLU": fed(bend=lambda gate, up: gate * up),
        "`up` is not used: the gate is multiplied with it": fed(bend=lambda gate, up: silu(gate)),
    }
    | {sentence: fed(norm=norm) for sentence, norm in SLIPS_OF_NORM.items()},
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


def block(
    x,
    weights,
    n_heads,
    n_kv_heads,
    turn,
    eps,
    bend=lambda gate, up: silu(gate) * up,
    first=lambda x, normed, gathered: x + gathered,
    last=lambda x, normed, more: x + more,
    reads=lambda x, stream: stream,
    norm=rms,
    **slips,
):
    normed = norm(x, weights["attention_norm"], eps)
    stream = first(x, normed, attended(normed, weights, n_heads, n_kv_heads, turn, **slips))
    normed = norm(reads(x, stream), weights["feed_forward_norm"], eps)
    return last(stream, normed, gated(normed, weights["gate"], weights["up"], weights["down"], bend))


def running(pairs="neighbours", theta=None, eps=None, renamed=None, which=lambda layer: layer, **slips):
    def answer(x, tensors, layer, settings):
        prefix = f"blk.{which(layer)}."
        if f"{prefix}attn_q.weight" not in tensors:
            raise IndexError  # such a layer is not there, and the formula says nothing
        weights = {ours: tensors[f"{prefix}{theirs}.weight"] for ours, theirs in (STORED | (renamed or {})).items()}
        turn = turning(theta or settings["theta"], pairs)
        eps_used = settings["eps"] if eps is None else eps
        return block(x, weights, settings["n_heads"], settings["n_kv_heads"], turn, eps_used, **slips)

    return answer


run_layer = running()


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


TWICE_AS_WIDE = {  # slips that show where the heads together are twice as wide as the stream
    "the scores are divided by the root of d_model / n_heads: attn_q's rows say how wide a head is": dict(
        divide=lambda d_head, d_model: (d_head / 2) ** 0.5
    ),
    "its heads are d_model / n_heads wide, and so there are too many of them: attn_q's rows say how wide a head is": (
        dict(
            cut=lambda rows, n_heads: by_position(rows, 2 * n_heads),
            share=lambda heads, n_heads: in_blocks(heads, 2 * n_heads),
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
    compare_wide(run, inputs, running)


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
            stream, angles = [x], transformer.angles(0, x.shape[1])
            for part in transformer.blocks:
                stream.append(part(stream[-1], angles)[0])
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
        'it pairs i with i + d_head/2: a GGUF file has neighbours, `rotate(…, "neighbours")`': running(pairs="halves"),
        "it ignores theta: `rotation_angles` takes 10,000 where it is not told": running(theta=10_000.0),
        "it ignores eps and takes 1e-5": running(eps=1e-5),
        "it leaves eps out": running(eps=0.0),
        "the two norms are swapped: attn_norm belongs to attention, ffn_norm to the feed-forward network": running(
            renamed={"attention_norm": "ffn_norm", "feed_forward_norm": "attn_norm"}
        ),
        "both norms have the same weight: attn_norm comes first, ffn_norm second": running(
            renamed={"feed_forward_norm": "attn_norm"}
        ),
        "ffn_norm is at work twice: attn_norm comes first": running(renamed={"attention_norm": "ffn_norm"}),
        "gate and up are swapped: their shapes are the same, their names are not": running(
            renamed={"gate": "ffn_up", "up": "ffn_gate"}
        ),
        "keys and values are swapped: their shapes are the same, their names are not": running(
            renamed={"key": "attn_v", "value": "attn_k"}
        ),
        "queries and output are swapped: their shapes are the same, their names are not": running(
            renamed={"query": "attn_output", "output": "attn_q"}
        ),
        "the matrix of the output is applied the wrong way round: it is square, so nothing complains; x @ weight.T": (
            running(output=lambda rows, matrix: rows @ matrix)
        ),
        "the matrix of the output is left out": running(output=lambda rows, matrix: rows),
        "it runs the layer 0, whatever `layer` says": running(which=lambda layer: 0),
        "it runs the layer before: layers count from 0, in the file too": running(
            which=lambda layer: max(layer - 1, 0)
        ),
        "it runs the layer after: layers count from 0, in the file too": running(which=lambda layer: layer + 1),
        "what attention adds is lost: the stream is x + attention": running(first=lambda x, normed, gathered: x),
        "after attention the stream is lost: x + attention": running(first=lambda x, normed, gathered: gathered),
        "attention is added to the normalized rows: the stream itself goes on": running(
            first=lambda x, normed, gathered: normed + gathered
        ),
        "at the end the stream is lost: what the network gives is added to it": running(
            last=lambda x, normed, more: more
        ),
        "the network's result is added to the normalized rows: the stream itself goes on": running(
            last=lambda x, normed, more: normed + more
        ),
        "the feed-forward network reads x as it was before attention": running(reads=lambda x, stream: x),
        "nothing is normalized: each part reads a normalized copy of the stream": running(
            norm=lambda x, weight, eps: x
        ),
    }
    | {sentence: running(**slips) for sentence, slips in SLIPS_OF_ATTENTION.items()},
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

# ---- induction heads -----------------------------------------------------------------------------


def scored(offset=lambda half: half - 1, queries=lambda half: range(half, 2 * half), mean=lambda w, half: w.mean(-1)):
    """Each head's mean weight on the key that stands `offset` before the query."""

    def score(attention):
        half = attention.shape[-1] // 2
        rows = [query for query in queries(half) if 0 <= query - offset(half) < 2 * half]
        return mean(attention[..., rows, [row - offset(half) for row in rows]], half)

    return score


INDUCTION = scored()


def found(score=INDUCTION, pick=torch.argmax, name=lambda layer, head, n_heads: (layer, head)):
    def answer(attention):
        table = score(attention)
        layer, head = divmod(int(pick(table)), table.shape[1])
        return *name(layer, head, table.shape[1]), table[layer, head].item()

    return answer


find_induction_head = found()


def head_first(attention):
    """One who takes the best head of the mean over all layers, then its best layer."""
    table = INDUCTION(attention)
    head = int(table.mean(0).argmax())
    layer = int(table[:, head].argmax())
    return layer, head, table[layer, head].item()


def attentions_of_repeats(random, sizes):
    """Made-up weights: in one head each query leans to the token after its earlier copy, in others to decoys.

    The decoys lean to the copy itself, to the token before, to the copy's predecessor; and one leans to the right
    place in the first half only, or from one query only. So every slip finds another head or another score.
    """
    for n_layers, n_heads, half in sizes:
        n = 2 * half
        scores = vectors(random, n_layers, n_heads, n, n)
        places = torch.randperm(n_layers * n_heads, generator=random)
        strengths = {half - 1: 3.0, half: 5.0, 1: 5.0, half + 1: 5.0}
        for place, (offset, strength) in zip(places.tolist(), strengths.items(), strict=False):
            layer, head = divmod(place, n_heads)
            scores[layer, head].diagonal(-offset).add_(strength)
        if len(places) > len(strengths):  # one query that is sure of itself
            layer, head = divmod(int(places[len(strengths)]), n_heads)
            scores[layer, head, n - 1, half] += 9.0
        yield hidden_first(scores, torch.ones(n, n, dtype=torch.bool).tril())


def one_layer(find, random):
    """one layer of a few heads: the number of the head, and its score"""
    find.compare(attentions_of_repeats(random, ((1, 3, 4), (1, 5, 3), (1, 6, 5))))


def many_layers(find, random):
    """several layers: the layer, the head, and the score"""
    find.compare(attentions_of_repeats(random, ((2, 3, 4), (5, 2, 3), (4, 6, 7), (6, 3, 12))))


FIND_INDUCTION_HEAD = Exercise(
    name="find_induction_head",
    lesson="hw2",
    title="the strongest induction head, by score",
    oracle=find_induction_head,
    may_call=(),
    checks={"head": (one_layer, many_layers)},
    mistakes={
        "it measures the weight on the earlier copy itself: the token *after* it is what counts": found(
            scored(lambda half: half)
        ),
        "it measures the weight on the token before the earlier copy: the one after it is what counts": found(
            scored(lambda half: half + 1)
        ),
        "it measures the weight on the previous token: that is another kind of head": found(scored(lambda half: 1)),
        "it has one query too many: the last token of the first half has no earlier copy": found(
            scored(queries=lambda half: range(half - 1, 2 * half))
        ),
        "it has one query too few: the second half begins at position n": found(
            scored(queries=lambda half: range(half + 1, 2 * half))
        ),
        "its last query is missing": found(scored(queries=lambda half: range(half, 2 * half - 1))),
        "it divides by all queries: only those of the second half have an earlier copy": found(
            scored(mean=lambda weights, half: weights.sum(-1) / (2 * half))
        ),
        "it sums the weights up: their mean is asked for": found(scored(mean=lambda weights, half: weights.sum(-1))),
        "it takes each head's best query: the mean over all queries of the second half counts": found(
            scored(mean=lambda weights, half: weights.amax(-1))
        ),
        "it finds the head with the lowest score": found(pick=torch.argmin),
        "layer and head are swapped": found(name=lambda layer, head, n_heads: (head, layer)),
        "it counts layers and heads from 1: they count from 0": found(
            name=lambda layer, head, n_heads: (layer + 1, head + 1)
        ),
        "it numbers the heads through all layers: a layer, and a head in it": found(
            name=lambda layer, head, n_heads: (layer, layer * n_heads + head)
        ),
        "the score is missing: a layer, a head, and the head's score are asked for": lambda attention: (
            find_induction_head(attention)[:2]
        ),
        "it compares means over layers first: each head of each layer is a candidate of its own": head_first,
        "queries and keys are swapped: a row belongs to a query, a column to a key": found(
            lambda attention: INDUCTION(attention.transpose(-2, -1))
        ),
    },
    hints=(
        "First draw it: positions 0 to 5 with the tokens a b c a b c. The query at position 3 is the second a. Where "
        "stands the token that came after the first a? And for the query at 4?",
        "The key is always n − 1 before the query, and the queries are n, n + 1, … 2n − 1. You can collect these "
        "weights in a loop, or by `attention[..., queries, keys]` with two lists of the same length.",
        "The mean over those n weights gives a table (layer, head). `table.argmax()` is one number, counted through "
        "all heads of all layers: `divmod` by the number of heads makes a layer and a head of it.",
    ),
)

# ---- parameters by hand --------------------------------------------------------------------------


def tally(shape):
    """How many numbers each thing has, all layers together."""
    d_model, layers, n_experts = shape["d_model"], shape["n_layers"], shape["n_experts"]
    expert = layers * 3 * d_model * shape["d_ff"]
    queries, keys = (layers * d_model * shape[name] * shape["d_head"] for name in ("n_heads", "n_kv_heads"))
    return {
        "table": shape["vocab_size"] * d_model,
        "query": queries,
        "key": keys,
        "value": keys,
        "output": queries,
        "expert": expert,
        "experts": n_experts * expert,
        "active": shape["n_active_experts"] * expert,
        "router": layers * d_model * n_experts if n_experts > 1 else 0,
        "norms": layers * 2 * d_model,
        "final": d_model,
        "head": 0 if shape["tied"] else shape["vocab_size"] * d_model,
    }


def counted(change=lambda shape, of: {}, active=lambda shape, of: {}, shape_as=lambda shape: shape):
    """One who counts something else in both numbers, or in the active one alone."""

    def answer(shape):
        shape = shape_as(shape)
        of = tally(shape) | change(shape, tally(shape))
        fixed = ("table", "query", "key", "value", "output", "router", "norms", "final", "head")
        used = of | active(shape, of)
        return sum(of[name] for name in fixed) + of["experts"], sum(used[name] for name in fixed) + used["active"]

    return answer


count_by_shape = counted()


def as_many(name, times):
    """A change of one thing, for all of `counted`'s."""
    return lambda shape, of: {name: times(shape, of)}


def two_matrices(shape, of):
    return {name: of[name] * 2 // 3 for name in ("expert", "experts", "active")}


def one_layer_only(shape, of):
    layers = shape["n_layers"]
    names = ("query", "key", "value", "output", "experts", "active", "router", "norms")
    return {name: of[name] // layers for name in names}


SMOLLM2 = dict(
    vocab_size=49_152, d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, d_head=64, d_ff=1536,
    n_experts=1, n_active_experts=1, tied=True,
)  # fmt: skip


def shapes(random, tied, number=6, experts=(1,)):
    """Shapes whose numbers tell each slip from the others. Mixtures have as many key heads as query heads, and heads
    that are d_model wide together: who has miscounted the attention of a dense model may still count their experts."""
    for i in range(number):
        n_kv_heads, d_head, groups = draw(random, 2, 4), 2 * draw(random, 2, 6), draw(random, 2, 4)
        n_heads, n_experts = n_kv_heads * groups, experts[i % len(experts)]
        d_model = n_heads * (d_head + (2 if n_experts == 1 else 0))
        yield dict(
            vocab_size=draw(random, 300, 900),
            d_model=d_model,
            n_layers=draw(random, 2, 5),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads if n_experts == 1 else n_heads,
            d_head=d_head,
            d_ff=draw(random, 30, 90),
            n_experts=n_experts,
            n_active_experts=1 if n_experts == 1 else draw(random, 2, n_experts - 2),
            tied=tied[i % len(tied)],
        )


def compare_whole(count, inputs):
    """As `count.compare`; and the numbers have to be whole ones, as a float is exact only up to 2⁵³."""
    for shape in inputs:
        answer = count.answer(shape)
        if isinstance(answer, tuple) and any(isinstance(number, float) for number in answer):
            raise Wrong(
                "its numbers are floats: whole numbers are asked for, and `//` divides without making a float",
                f"for one shape it gave {answer}",
            )
    count.compare(inputs)


def dense(count, random):
    """a dense model, its two embedding tables tied or not"""
    compare_whole(count, [*shapes(random, tied=(True, False))])


def real_one(count, random):
    """SmolLM2, to the last number"""
    compare_whole(count, [SMOLLM2])


def mixtures(count, random):
    """a mixture of experts: all of its numbers, and those that one token passes"""
    compare_whole(count, [*shapes(random, tied=(False,), experts=(5, 8, 16))])


COUNT_BY_SHAPE = Exercise(
    name="count_by_shape",
    lesson="hw2",
    title="a model's parameters, from its published shape",
    oracle=count_by_shape,
    may_call=(),
    checks={"dense": (dense, real_one), "mixture": (mixtures,)},
    mistakes={
        "keys and values have fewer heads than queries, and so smaller matrices": counted(
            lambda shape, of: {"key": of["query"], "value": of["query"]}
        ),
        "it takes d_model / n_heads for the width of a head: the shape says d_head": counted(
            shape_as=lambda shape: shape | {"d_head": shape["d_model"] // shape["n_heads"]}
        ),
        "the matrix of the output is missing: attention has four": counted(as_many("output", lambda shape, of: 0)),
        "the matrix of the output has n_heads · d_head columns and d_model rows; it takes d_model · d_model": counted(
            as_many("output", lambda shape, of: shape["n_layers"] * shape["d_model"] ** 2)
        ),
        "the gated feed-forward network has three matrices: gate, up and down": counted(two_matrices),
        "a tied table is counted twice: it is one table": counted(as_many("head", lambda shape, of: of["table"])),
        "where the tables are not tied, the output head is a second one": counted(as_many("head", lambda shape, of: 0)),
        "the table of the embedding is missing": counted(as_many("table", lambda shape, of: 0)),
        "the norms are missing: each learns d_model numbers": counted(lambda shape, of: {"norms": 0, "final": 0}),
        "the final norm is missing, after the last block": counted(as_many("final", lambda shape, of: 0)),
        "a block has two norms": counted(as_many("norms", lambda shape, of: of["norms"] // 2)),
        "only the final norm is counted: each block has two more": counted(as_many("norms", lambda shape, of: 0)),
        "it counts one block: there are n_layers": counted(one_layer_only),
        "a dense model has no router": counted(
            as_many("router", lambda shape, of: shape["n_layers"] * shape["d_model"] * shape["n_experts"])
        ),
        "the routers are missing: each has d_model · n_experts numbers": counted(
            as_many("router", lambda shape, of: 0)
        ),
        "there is a router in each block": counted(
            as_many("router", lambda shape, of: of["router"] // shape["n_layers"])
        ),
        "a router scores all experts, not only the active ones": counted(
            as_many("router", lambda shape, of: shape["n_layers"] * shape["d_model"] * shape["n_active_experts"])
        ),
        "a token passes the router as well: all of it is active": counted(
            active=as_many("router", lambda shape, of: 0)
        ),
        "the active number has only the active experts' part of the router: a token meets all of it": counted(
            active=as_many("router", lambda shape, of: shape["n_layers"] * shape["d_model"] * shape["n_active_experts"])
        ),
        "it counts all experts as active: a token passes n_active_experts": counted(
            active=as_many("active", lambda shape, of: of["experts"])
        ),
        "it counts one expert as active: a token passes n_active_experts": counted(
            active=as_many("active", lambda shape, of: of["expert"])
        ),
        "the total has one expert only: all n_experts are there": counted(
            as_many("experts", lambda shape, of: of["expert"])
        ),
        "the tables count as active, too: whole, as the makers count them": counted(
            active=lambda shape, of: {"table": 0, "head": 0}
        ),
        "the embedding's table counts as active, too: whole, as the makers count it": counted(
            active=as_many("table", lambda shape, of: 0)
        ),
        "the two numbers are swapped: the total comes first": lambda shape: count_by_shape(shape)[::-1],
    },
    hints=(
        "Count one block first: four matrices of attention, the three of the feed-forward network, two norms. Then "
        "n_layers blocks, one norm after them, and the tables.",
        "Queries: d_model · (n_heads · d_head). Keys: d_model · (n_kv_heads · d_head), values alike. Output: from "
        "n_heads · d_head back to d_model. In a mixture each expert has three matrices, and the router one.",
        "The two numbers differ in one thing alone, the experts: n_experts of them, or n_active_experts. All else is "
        "in both: tables, attention, norms, routers. A dense model is a mixture of one, without a router.",
    ),
)

# ---- a repair ------------------------------------------------------------------------------------


def repairing(**slips):
    def answer(x, weights, n_heads, n_kv_heads, turn):
        return block(x, weights, n_heads, n_kv_heads, turn, 1e-5, **slips)

    return answer


repaired_block = repairing()


def loses_the_stream(slips):
    """The planted bug: x becomes its normalized copy, and all that follows is added to that."""
    return repairing(first=lambda x, normed, gathered: normed + gathered, **slips)


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
    lost = {"the stream is lost: even where both parts find nothing, x does not come out as it went in": LOST}
    repair.compare([(x, weights | nothing, *rest), *blocks(random, ((2, 2, 1), (3, 1, 1), (4, 4, 1)))], lost)


def groups_right(repair, random):
    """the groups: with fewer key heads than query heads, each query head reads its own group's"""
    turns = {
        "with as many key heads as query heads all is well, with fewer the result is another: who reads whom?": (
            repairing(share=in_turns)
        )
    }
    repair.compare(blocks(random, ((4, 2, 1), (6, 2, 1), (6, 3, 1)), unit=True), turns)


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


LOST = loses_the_stream({})

REPAIRED_BLOCK = Exercise(
    name="repaired_block",
    lesson="hw2",
    title="a block with three planted bugs, repaired",
    oracle=repaired_block,
    may_call=(),
    checks={"stream": (stream_kept,), "groups": (groups_right,), "future": (future_hidden,)},
    mistakes={
        "a token does not see itself any more": repairing(weigh=weighed(lambda distance, window: distance > 0)),
        "attention reads the stream as it is: a normalized copy is what it reads": repairing(
            norm=lambda x, weight, eps: x
        ),
        "the feed-forward network reads x as it was before attention": repairing(reads=lambda x, stream: x),
        "what attention finds is lost": repairing(first=lambda x, normed, gathered: x),
        "at the end the stream is lost: the network's result is added to it": repairing(
            last=lambda x, normed, more: more
        ),
        "the scores are not divided any more": repairing(divide=lambda d_head, d_model: 1),
        "nothing is turned any more: queries and keys were, and rightly": repairing(turned=()),
        "all query heads read the first key head": repairing(
            share=lambda heads, n_heads: in_blocks(heads[:, :1], n_heads)
        ),
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

EXERCISES = (
    MASKED_WEIGHTS,
    GROUPED_ATTENTION,
    FEED_FORWARD_HALF,
    RUN_LAYER,
    FIND_INDUCTION_HEAD,
    COUNT_BY_SHAPE,
    REPAIRED_BLOCK,
)
