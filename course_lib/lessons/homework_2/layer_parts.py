"""One attention, one feed-forward network and their norms, each with the slips that one makes."""

import torch
from torch.nn.functional import silu

from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons.homework_2.masking import hidden_last, in_window, masked_weights, weighed
from course_lib.lessons.tools import vectors


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
