"""Lesson 09: a whole block, what a stack of them weighs and costs, and what it would say if it stopped early."""

from functools import partial

import torch
import torch.nn.functional as F

from course_lib.classroom.exercise import Exercise
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons import parts
from course_lib.lessons.tools import draw
from course_lib.transformer_block.normalization import rms_norm

# ---- block_forward --------------------------------------------------------------------------------


def tensors(random, d_model, n_heads, n_kv_heads, d_head, d_ff):
    """One block's weights by the library's names; norms far from 1, so that a forgotten one shows."""
    shapes = {
        "attention.query.weight": (n_heads * d_head, d_model),
        "attention.key.weight": (n_kv_heads * d_head, d_model),
        "attention.value.weight": (n_kv_heads * d_head, d_model),
        "attention.output.weight": (d_model, n_heads * d_head),
        "feed_forward.gate.weight": (d_ff, d_model),
        "feed_forward.up.weight": (d_ff, d_model),
        "feed_forward.down.weight": (d_model, d_ff),
    }
    weights = {name: torch.randn(*shape, generator=random) / shape[1] ** 0.5 for name, shape in shapes.items()}
    norms = {f"{part}_norm.weight": 0.5 + 2 * torch.rand(d_model, generator=random) for part in PARTS}
    return weights | norms


PARTS = ("attention", "feed_forward")


def stream(random, batch, n, d_model, n_heads, n_kv_heads, d_head, d_ff, eps, quiet=()):
    """Arguments of `block_forward`; the parts in `quiet` end in a matrix of zeros, and so add nothing."""
    x = torch.randn(batch, n, d_model, generator=random)
    weights = tensors(random, d_model, n_heads, n_kv_heads, d_head, d_ff)
    for name in quiet:
        weights[name] = torch.zeros_like(weights[name])
    angles = rotation_angles(torch.arange(n), d_head, 20.0)
    return x, weights, angles, n_heads, n_kv_heads, eps


def block(x, weights, angles, n_heads, n_kv_heads, eps=1e-5, **slips):
    own = {ours: weights[f"attention.{ours}.weight"] for ours in ("query", "key", "value", "output")}
    own |= {ours: weights[f"feed_forward.{ours}.weight"] for ours in ("gate", "up", "down")}
    own |= {f"{part}_norm": weights[f"{part}_norm.weight"] for part in PARTS}
    return parts.block(x, own, n_heads, n_kv_heads, lambda y: rotate(y, angles), eps, **slips)


def one_token(block_forward, random):
    """a single token, which can look at itself alone"""
    block_forward.compare(stream(random, batch, 1, 8, 4, 2, 2, 10, 1e-5) for batch in (1, 2))


def attention_half(block_forward, random):
    """several tokens, the feed-forward part silent: past tokens, turned by their positions"""
    quiet = ("feed_forward.down.weight",)
    block_forward.compare(stream(random, batch, n, 16, 4, 2, 4, 7, 1e-5, quiet) for batch, n in ((1, 4), (2, 5)))


def both_halves(block_forward, random):
    """both parts, and more queries than keys: heads 0 and 1 share the first key head, 2 and 3 the second"""
    block_forward.compare(stream(random, batch, n, 16, 4, 2, 4, 24, 1e-5) for batch, n in ((1, 4), (2, 5)))
    x, weights, *others = stream(random, 1, 3, 16, 4, 2, 4, 24, 1e-5)
    block_forward.compare([(x, dict(reversed(weights.items())), *others)])


def any_sizes(block_forward, random):
    """heads that are together wider than the stream, one shared key head, another eps"""
    eps = 0.1 + 0.1 * draw(random, 1, 5)
    block_forward.compare((stream(random, 2, 3, 6, 4, 2, 4, 9, eps), stream(random, 1, 6, 5, 3, 1, 4, 7, eps)))


BLOCK_FORWARD = Exercise(
    name="block_forward",
    lesson="09",
    title="a whole block of SmolLM2, from its nine tensors",
    oracle=block,
    checks={
        "token": (one_token,),
        "attention": (attention_half,),
        "whole": (both_halves, any_sizes),
    },
    mistakes={
        "the feed-forward part is missing": partial(block, wire=parts.without_feed),
        "the attention part is missing": partial(block, wire=parts.without_attention),
        "nothing is added to the stream: each part's result takes its place": partial(
            block, wire=parts.stream_lost_twice
        ),
        "attention's result takes the stream's place: add it to x": partial(block, wire=parts.stream_lost_at_attention),
        "the feed-forward part's result takes the stream's place: add it to x": partial(
            block, wire=parts.stream_lost_at_feed
        ),
        "the second sum starts from the x that came in, so what attention added is lost": partial(
            block, wire=parts.attention_lost
        ),
        "both parts read the x that came in: the feed-forward part reads the sum with attention's result": partial(
            block, wire=parts.side_by_side
        ),
        "the parts are added to the normalized copy: the stream itself is not normalized": partial(
            block, wire=parts.both_on_the_copy
        ),
        "it normalizes after each sum (post-norm): here each part reads a normalized copy": partial(
            block, wire=parts.norms_after
        ),
        "the feed-forward part comes first: attention does": partial(block, wire=parts.feed_first),
        "the two norms' weights are exchanged": partial(block, wire=parts.norms_swapped),
        "the feed-forward part reads through attention's norm: it has weights of its own": partial(
            block, wire=parts.first_norm_twice
        ),
        "the feed-forward part reads the copy that was made for attention: normalize the new x": partial(
            block, wire=parts.one_copy_for_both
        ),
        "attention reads the stream without a norm": partial(block, wire=parts.first_norm_missing),
        "the feed-forward part reads the stream without a norm": partial(block, wire=parts.second_norm_missing),
        "gate and up are exchanged: silu bends the gate": partial(block, bend=parts.bent_up),
        "silu is missing: the gate is bent before it multiplies": partial(block, bend=parts.unbent),
        "silu bends the product: only the gate is bent": partial(block, bend=parts.bent_product),
        "gate and up are added: they are multiplied": partial(block, bend=parts.summed),
        "the gate goes through a plain sigmoid: silu is z · sigmoid(z)": partial(block, bend=parts.sigmoid_gate),
        "it bends with gelu: this block's gate goes through silu": partial(block, bend=parts.gelu_gate),
        "it does not use `up`": partial(block, bend=parts.gate_alone),
        "it does not use `eps`": lambda x, w, a, h, k, eps=1e-5: block(x, w, a, h, k, 1e-5),
        "it adds eps to the root: it belongs under it, to the mean of the squares": partial(
            block, norm=parts.eps_outside
        ),
        "it takes the mean off (LayerNorm): this block's norm is RMSNorm": partial(block, norm=parts.layer_norm),
        "its norms have no weights": partial(block, norm=lambda x, w, eps: rms_norm(x, torch.ones_like(w), eps)),
        "tokens see the future: a token sees itself and the past": partial(block, see=parts.all_keys),
        "queries and keys are not turned by their positions: `rotate`": partial(block, turned=()),
        "values are turned, too: only queries and keys are": partial(block, turned=("query", "key", "value")),
        "keys are not turned: queries and keys are": partial(block, turned=("query",)),
        "queries are not turned: queries and keys are": partial(block, turned=("key",)),
        "the scores are not divided by √d_head": partial(block, divide=parts.undivided),
        "the scores are divided by √d_model: the root of a head's width": partial(
            block, divide=parts.by_root_of_d_model
        ),
        "key heads serve in turn (0, 1, 0, 1): each serves neighbours (0, 0, 1, 1)": partial(
            block, share=parts.in_turns
        ),
        "cutting into heads mixes positions: cut the last dimension into (heads, d_head), then exchange": partial(
            block, cut=parts.across_positions
        ),
        "joining the heads mixes positions: exchange heads and position first, then flatten": partial(
            block, join=parts.unswapped
        ),
        "attention's output matrix is missing": partial(block, output=lambda rows, matrix: rows),
    },
    hints=(
        "Two halves of the same form: x = x + part(norm(x)). Attention first, then the feed-forward part, which reads "
        "the x that attention has been added to. Each half has its own norm weight.",
        "A matrix is used as F.linear(y, weights[name]). Queries: F.linear, then `.unflatten(-1, (n_heads, -1))` and "
        "`.transpose(1, 2)` for (batch, heads, position, d_head); keys and values alike with n_kv_heads. Queries and "
        "keys go through `rotate(…, angles)`; `mixed, _ = attend(query, key, value)`; back with "
        "`mixed.transpose(1, 2).flatten(2)`.",
        "The first half ends in `x = x + F.linear(mixed.transpose(1, 2).flatten(2), "
        "weights['attention.output.weight'])`. The second: `y = rms_norm(x, weights['feed_forward_norm.weight'], eps)` "
        "and `inside = F.silu(F.linear(y, gate)) * F.linear(y, up)`, and x + F.linear(inside, down) is returned.",
    ),
)


# ---- transformer_parameters -----------------------------------------------------------------------


def sizes(random, tied=None, small=False):
    """vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff: no two products alike, and tied or not."""
    if small:
        values = (draw(random, 11, 19), 7 + 3 * draw(random, 0, 1), 5, 9, 3, 2 * draw(random, 2, 3), 13)
    else:
        n_kv, share = draw(random, 2, 5), 3 + 2 * draw(random, 0, 1)
        values = (
            draw(random, 20_000, 60_000), draw(random, 301, 399), draw(random, 5, 40),
            n_kv * share, n_kv, 2 * draw(random, 31, 44), draw(random, 811, 997),
        )  # fmt: skip
    return values if tied is None else (*values, tied)


def parameters(
    vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied,
    matrices=3, output=1, values=1, norms=2, final=1, tables=None, biases=0, keys=None, per_block=True,
):  # fmt: skip
    """The count; the keywords are somebody's slips."""
    queries, keys = n_heads * d_head, (n_kv_heads if keys is None else keys(n_heads, n_kv_heads)) * d_head
    attention = d_model * (queries * (1 + output) + keys * (1 + values))
    each = attention + matrices * d_model * d_ff + norms * d_model
    each += biases * (queries + 2 * keys + d_model + 2 * d_ff + d_model)
    tables = (1 if tied else 2) if tables is None else tables(tied)
    return tables * vocab_size * d_model + (n_layers if per_block else 1) * each + final * d_model


def small_blocks(transformer_parameters, random):
    """five blocks so small that a pencil is enough"""
    transformer_parameters.compare(sizes(random, tied, small=True) for tied in (True, False, True))


def one_table(transformer_parameters, random):
    """a stack whose table serves twice, and SmolLM2"""
    smollm2 = (49152, 576, 30, 9, 3, 64, 1536, True)
    transformer_parameters.compare([sizes(random, True), smollm2, sizes(random, True)])


def two_tables(transformer_parameters, random):
    """an output head of its own, and heads that are together wider than the stream"""
    wide = (151_936, 1024, 28, 16, 8, 128, 3072, False)
    transformer_parameters.compare([sizes(random, False), wide, sizes(random, False)])


TRANSFORMER_PARAMETERS = Exercise(
    name="transformer_parameters",
    lesson="09",
    title="how many numbers a Llama-like transformer learns, from its sizes",
    oracle=parameters,
    checks={"blocks": (small_blocks, one_table), "head": (two_tables,)},
    mistakes={
        "two matrices of d_model × d_ff a block: a gated feed-forward network has three, gate, up and down": partial(
            parameters, matrices=2
        ),
        "one matrix of d_model × d_ff a block: a gated network has three, gate, up and down": partial(
            parameters, matrices=1
        ),
        "the feed-forward network is missing": partial(parameters, matrices=0),
        "attention's output matrix is missing": partial(parameters, output=0),
        "the value matrix is missing": partial(parameters, values=0),
        "keys and values are counted for every query head: they have n_kv_heads": partial(
            parameters, keys=lambda h, k: h
        ),
        "keys and values are counted for a single head: they have n_kv_heads": partial(parameters, keys=lambda h, k: 1),
        "it takes d_model / n_heads for a head's width: d_head is given, and need not be that": (
            lambda v, d, n, h, k, w, f, tied: parameters(v, d, n, h, k, d // h, f, tied)
        ),
        "its query and output matrices are d_model × d_model: all heads together are n_heads · d_head wide": (
            lambda v, d, n, h, k, w, f, tied: parameters(v, d, n, h, k, w, f, tied) + 2 * n * d * (d - h * w)
        ),
        "the norms are missing: two a block and one at the end, d_model numbers each": partial(
            parameters, norms=0, final=0
        ),
        "the final norm is missing": partial(parameters, final=0),
        "one norm a block: there are two, one before each part": partial(parameters, norms=1),
        "the blocks' norms are missing": partial(parameters, norms=0),
        "norms have a bias, too, as LayerNorm: RMSNorm has a weight alone": partial(parameters, norms=4, final=2),
        "each block has a third norm: the final one is there once": (
            lambda v, d, n, *rest: parameters(v, d, n, *rest, norms=3, final=0)
        ),
        "it does not use `tied`: one table where that is True, two where it is False": partial(
            parameters, tables=lambda tied: 1
        ),
        "it counts the table twice though it is tied": partial(parameters, tables=lambda tied: 2),
        "`tied` is used the wrong way round": partial(parameters, tables=lambda tied: 2 if tied else 1),
        "the tables are missing": partial(parameters, tables=lambda tied: 0),
        "it counts a single block: there are n_layers": partial(parameters, per_block=False),
        "the tables are counted once a block": (
            lambda v, d, n, h, k, w, f, tied: (
                parameters(v, d, n, h, k, w, f, tied) + (n - 1) * v * d * (1 if tied else 2)
            )
        ),
        "the matrices have biases: these have none": partial(parameters, biases=1),
    },
    hints=(
        "Four things are learned: the table of tokens (once more as output head where not tied), in each block "
        "attention and the feed-forward network, and norms of d_model numbers: two a block, one at the end.",
        "Attention: the query matrix has n_heads · d_head rows of d_model numbers, the output matrix as many; the key "
        "and the value matrix have n_kv_heads · d_head rows each. Feed-forward: gate, up, down, d_model · d_ff each.",
        "attention = 2 · d_model · n_heads · d_head + 2 · d_model · n_kv_heads · d_head, feed_forward = 3 · d_model · "
        "d_ff, one block = attention + feed_forward + 2 · d_model. All: tables · vocab_size · d_model + n_layers · "
        "block + d_model, with tables = 1 if tied else 2.",
    ),
)


# ---- flops_per_token ------------------------------------------------------------------------------


def flops(
    vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context,
    each=2, look_up=0, head=1, pairs=4, heads=None, width=None, matrices=3, extra=0,
):  # fmt: skip
    """The count; the keywords are somebody's slips."""
    attention = d_model * (2 * n_heads * d_head + 2 * n_kv_heads * d_head)
    learned = n_layers * (attention + matrices * d_model * d_ff) + (head + look_up) * vocab_size * d_model + extra
    looking = (n_kv_heads if heads == "kv" else n_heads) * d_head if width is None else width(d_model)
    return each * learned + pairs * n_layers * looking * context


def cost_of_a_short_text(flops_per_token, random):
    """a token that sees itself alone, and one that sees a few"""
    flops_per_token.compare((*sizes(random, small=True), context) for context in (1, 2, draw(random, 5, 9)))


def cost_of_a_stack(flops_per_token, random):
    """a stack of many blocks, at several lengths of the text"""
    flops_per_token.compare(
        [
            (49152, 576, 30, 9, 3, 64, 1536, 16),
            *((*sizes(random), draw(random, low, 9 * low)) for low in (1, 101, 1001)),
        ]
    )


def cost_of_a_long_text(flops_per_token, random):
    """a text so long that looking back costs more than all the matrices"""
    flops_per_token.compare((*sizes(random), draw(random, 100_000, 200_000)) for _ in range(3))


FLOPS_PER_TOKEN = Exercise(
    name="flops_per_token",
    lesson="09",
    title="the multiplications and additions that one token costs",
    oracle=flops,
    checks={"matrices": (cost_of_a_short_text, cost_of_a_stack), "context": (cost_of_a_long_text,)},
    mistakes={
        "each number of a matrix counts once: it is a multiplication and an addition, 2": partial(flops, each=1),
        "everything is half of what it is: a product and its addition are two operations": (
            lambda *arguments: flops(*arguments) // 2
        ),
        "it counts the backward pass, too (6 a number): the forward pass costs 2": partial(flops, each=6),
        "looking up the token's row is counted as a product: a look-up costs none": partial(flops, look_up=1),
        "the product with the table at the end, one score a token of the vocabulary, is missing": partial(
            flops, head=0
        ),
        "looking at the context is missing: scores and mixing, in each layer and head": partial(flops, pairs=0),
        "looking at the context costs twice as much: a dot product with each key, then mixing as many values": partial(
            flops, pairs=2
        ),
        "looking at the context costs four times as much: a multiplication and an addition, for keys and for values": (
            partial(flops, pairs=1)
        ),
        "only key heads look: all n_heads query heads do, sharing keys": partial(flops, heads="kv"),
        "a head's width is taken as d_model / n_heads in the context's part: d_head is given": partial(
            flops, width=lambda d_model: d_model
        ),
        "a single layer looks at the context: all n_layers do": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, k, w, f, 0) + 4 * h * w * c
        ),
        "a single head looks at the context: all n_heads do": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, k, w, f, 0) + 4 * n * w * c
        ),
        "it counts the whole text, not one token: context is how many tokens this one sees": (
            lambda v, d, n, h, k, w, f, c: c * flops(v, d, n, h, k, w, f, c)
        ),
        "context counts squared: one token looks at `context` tokens, not each at each": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, k, w, f, c * c)
        ),
        "the token itself is not counted: context includes it": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, k, w, f, c - 1)
        ),
        "the token itself is counted twice: context includes it": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, k, w, f, c + 1)
        ),
        "two matrices in the feed-forward network: gate, up and down are three": partial(flops, matrices=2),
        "keys and values are counted for every query head: they have n_kv_heads": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, h, w, f, c)
        ),
        "norms are counted like matrices: they are left out here": (
            lambda v, d, n, h, k, w, f, c: flops(v, d, n, h, k, w, f, c, extra=(2 * n + 1) * d)
        ),
    },
    hints=(
        "Two sums. First: every number of every matrix that the token is multiplied with costs a multiplication and an "
        "addition. Which of the learned numbers stand in such matrices? (The table counts at the exit; at the entrance "
        "a row is only looked up.)",
        "Second: in each layer, each of the n_heads heads takes a dot product of d_head numbers with `context` keys, "
        "then adds up `context` values of d_head numbers: 2 · d_head operations a key, and 2 · d_head a value.",
        "matrices = n_layers · (2 · d_model · n_heads · d_head + 2 · d_model · n_kv_heads · d_head + 3 · d_model · "
        "d_ff) + vocab_size · d_model; the answer is 2 · matrices + n_layers · n_heads · 4 · d_head · context.",
    ),
)


# ---- logit_lens -----------------------------------------------------------------------------------


def lens(stream, final_norm_weight, table, eps=1e-5, norm=rms_norm):
    return norm(stream, final_norm_weight, eps) @ table.T


def looked_at(random, depth, n, d_model, vocab, eps=1e-5):
    stream = torch.randn(depth, n, d_model, generator=random) * torch.arange(1, depth + 1)[:, None, None]
    weight = 0.5 + 2 * torch.rand(d_model, generator=random)
    return stream, weight, torch.randn(vocab, d_model, generator=random), eps


def one_block(logit_lens, random):
    """one token, before and after a single block"""
    logit_lens.compare([looked_at(random, 2, 1, 3, 4), looked_at(random, 2, 1, 5, 3)])


def all_depths(logit_lens, random):
    """every depth and every position"""
    logit_lens.compare([looked_at(random, 4, 3, 6, 8), looked_at(random, 31, 5, 12, 20)])


def another_eps(logit_lens, random):
    """a larger eps, and a table with as many rows as columns"""
    logit_lens.compare([looked_at(random, 3, 2, 6, 6, 0.5 + draw(random, 1, 4)), looked_at(random, 2, 4, 5, 9, 2.0)])


def last_as_it_is(stream, weight, table, eps=1e-5):
    read = rms_norm(stream, weight, eps)
    return torch.cat((read[:-1], stream[-1:])) @ table.T


LOGIT_LENS = Exercise(
    name="logit_lens",
    lesson="09",
    title="what the model would say at each depth",
    oracle=lens,
    checks={"depths": (one_block, all_depths), "eps": (another_eps,)},
    mistakes={
        "the final norm is missing: rows grow with depth, and their scores with them": (
            lambda s, w, t, eps=1e-5: s @ t.T
        ),
        "the norm's weights are missing": lambda s, w, t, eps=1e-5: rms_norm(s, torch.ones_like(w), eps) @ t.T,
        "it multiplies with the norm's weights alone: the row is not brought to size": (
            lambda s, w, t, eps=1e-5: (s * w) @ t.T
        ),
        "it takes the mean off (LayerNorm): the final norm is RMSNorm": (
            lambda s, w, t, eps=1e-5: lens(s, w, t, eps, parts.layer_norm)
        ),
        "it divides by the row's length: RMSNorm divides by the root of the *mean* square": (
            lambda s, w, t, eps=1e-5: (s / (s.pow(2).sum(-1, keepdim=True) + eps).sqrt() * w) @ t.T
        ),
        "it divides by the mean square: its root is missing": (
            lambda s, w, t, eps=1e-5: (s / (s.pow(2).mean(-1, keepdim=True) + eps) * w) @ t.T
        ),
        "one size for all: each row is normalized by itself, over its last dimension": (
            lambda s, w, t, eps=1e-5: (s / (s.pow(2).mean() + eps).sqrt() * w) @ t.T
        ),
        "one size for all positions of a depth: each row is normalized by itself": (
            lambda s, w, t, eps=1e-5: (s / (s.pow(2).mean((-2, -1), keepdim=True) + eps).sqrt() * w) @ t.T
        ),
        "it normalizes over positions: over the numbers of each row": (
            lambda s, w, t, eps=1e-5: (s / (s.pow(2).mean(-2, keepdim=True) + eps).sqrt() * w) @ t.T
        ),
        "the last depth is not normalized: the stream is what leaves the block, before the final norm": last_as_it_is,
        "it does not use `eps`": lambda s, w, t, eps=1e-5: lens(s, w, t, 1e-5),
        "it adds eps to the root: it belongs under it": (
            lambda s, w, t, eps=1e-5: lens(s, w, t, eps, parts.eps_outside)
        ),
        "these are probabilities: the scores themselves are asked for, before softmax": (
            lambda s, w, t, eps=1e-5: lens(s, w, t, eps).softmax(-1)
        ),
        "these are logarithms of probabilities: the scores themselves are asked for": (
            lambda s, w, t, eps=1e-5: lens(s, w, t, eps).log_softmax(-1)
        ),
        "it compares with the table's columns: a token's vector is a row": (
            lambda s, w, t, eps=1e-5: rms_norm(s, w, eps) @ t
        ),
        "it gives the last position alone: every position is asked for": (
            lambda s, w, t, eps=1e-5: lens(s, w, t, eps)[:, -1]
        ),
        "these are cosines: the table's rows keep their lengths": (
            lambda s, w, t, eps=1e-5: rms_norm(s, w, eps) @ F.normalize(t, dim=-1).T
        ),
    },
    hints=(
        "What does the model do with the stream after its last block? Do that with every depth.",
        "First the final norm, for each row by itself: x / √(mean of its squares + eps), times the weights. Then one "
        "dot product with each row of the table.",
        "`size = (stream.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()`, then `(stream / size * final_norm_weight) @ "
        "table.T`.",
    ),
)

EXERCISES = (BLOCK_FORWARD, TRANSFORMER_PARAMETERS, FLOPS_PER_TOKEN, LOGIT_LENS)
