"""The parts of a transformer as formulas whose steps can be exchanged: a slip in an exercise is such an exchange."""

from functools import partial

import torch
from torch.nn.functional import gelu, silu

from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons.tools import vectors

# ---- rotary positions ----------------------------------------------------------------------------


def halves(x):
    return x.chunk(2, dim=-1)


def neighbours(x):
    return x[..., 0::2], x[..., 1::2]


def as_halves(a, b):
    return torch.cat((a, b), dim=-1)


def as_neighbours(a, b):
    return torch.stack((a, b), dim=-1).flatten(-2)


def anticlockwise(a, b, cos, sin):
    return a * cos - b * sin, a * sin + b * cos


def first_one_overwritten(a, b, cos, sin):
    a = a * cos - b * sin
    return a, a * sin + b * cos


def first_sign_wrong(a, b, cos, sin):
    return a * cos + b * sin, a * sin + b * cos


def second_sign_wrong(a, b, cos, sin):
    return a * cos - b * sin, a * sin - b * cos


def sine_and_cosine_swapped(a, b, cos, sin):
    return a * sin - b * cos, a * cos + b * sin


def turned(x, angles, apart=halves, together=as_halves, turn=anticlockwise):
    return together(*turn(*apart(x), angles.cos(), angles.sin()))


def turning(theta, pairs="halves", start=0):
    """A function that turns rows for their positions, start, start + 1 … , as the notebook makes one."""

    def turn(x):
        return rotate(x, rotation_angles(torch.arange(start, start + x.shape[-2]), x.shape[-1], theta), pairs)

    return turn


def stay(x):
    """A turn by nothing."""
    return x.clone()


# ---- attention -----------------------------------------------------------------------------------


def times(rows, matrix):
    return rows @ matrix.T


def by_position(rows, n_heads):  # (batch, position, n_heads · d_head) → (batch, n_heads, position, d_head)
    return rows.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def across_positions(rows, n_heads):
    """The right shape without a swap: numbers of several tokens in one head."""
    return rows.reshape(len(rows), n_heads, rows.shape[1], -1)


def scattered(rows, n_heads):
    """Every n_heads-th number of a row."""
    return rows.unflatten(-1, (-1, n_heads)).movedim(-1, 1)


def unswapped(heads):
    return heads


def number_by_number(heads):
    return heads.movedim(1, -1)


def in_blocks(heads, n_heads):
    return heads.repeat_interleave(n_heads // heads.shape[1], dim=1)


def in_turns(heads, n_heads):
    return heads.repeat(1, n_heads // heads.shape[1], 1, 1)


def first_for_all(heads, n_heads):
    return in_blocks(heads[:, :1], n_heads)


def past(n_query, n_key, ahead=0):  # True for a token itself, those before it, and so many after it
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query + ahead)


def all_keys(n_query, n_key):
    return torch.ones(n_query, n_key, dtype=torch.bool)


before_itself = partial(past, ahead=-1)


def hidden_first(scores, visible, closed=-torch.inf, dim=-1):
    return scores.masked_fill(~visible, closed).softmax(dim)


def hidden_last(scores, visible):
    return scores.softmax(dim=-1) * visible


over_queries = partial(hidden_first, dim=-2)


def mixed(query, key, value, visible, divide=None, hide=hidden_first):
    """The values, mixed by the weights that queries give to the keys; `divide`: another number than √d_head."""
    scores = query @ key.transpose(-2, -1) / (query.shape[-1] ** 0.5 if divide is None else divide)
    return hide(scores, visible) @ value


def attended(
    x, weights, n_heads, n_kv_heads, turn=stay,
    cut=by_position, share=in_blocks, share_keys=None, turned=("query", "key"), see=past, hide=hidden_first,
    divide=lambda d_head, d_model: d_head**0.5, join=lambda heads: heads.transpose(1, 2), output=times, values_of=None,
):  # fmt: skip
    """Multi-head attention, (batch, position, d_model); the keywords are somebody's slips."""
    sizes = {"query": n_heads, "key": n_kv_heads, "value": n_kv_heads}
    read = {"query": x, "key": x, "value": x if values_of is None else values_of}
    heads = {name: cut(times(read[name], weights[name]), size) for name, size in sizes.items()}
    heads |= {name: turn(heads[name]) for name in turned}
    key, value = (share_keys or share)(heads["key"], n_heads), share(heads["value"], n_heads)
    query = heads["query"]
    visible = see(query.shape[-2], key.shape[-2])
    found = join(mixed(query, key, value, visible, divide(query.shape[-1], x.shape[-1]), hide))
    return output(found.reshape(*x.shape[:2], -1), weights["output"])


def undivided(d_head, d_model):
    return 1


def by_d_head(d_head, d_model):
    return d_head


def by_root_of_d_model(d_head, d_model):
    return d_model**0.5


def multiplied(d_head, d_model):
    return d_head**-0.5


SLIPS_OF_ATTENTION = {  # with grouped heads and positions
    "the groups go wrong: with 4 query heads and 2 key heads, the query heads 0 and 1 share the key head 0": dict(
        share=in_turns
    ),
    "all query heads look at the first key head: each group has its own": dict(share=first_for_all),
    "the future is not hidden: a token sees itself and the past": dict(see=all_keys),
    "a token does not see itself, so the first one sees nothing and becomes NaN": dict(see=before_itself),
    "a row of weights does not sum to 1: the mask comes after the softmax": dict(hide=hidden_last),
    "softmax runs over the queries: a query's weights over the keys have to sum to 1": dict(hide=over_queries),
    "the scores are not divided by the root of d_head": dict(divide=undivided),
    "the scores are divided by d_head itself, not by its root": dict(divide=by_d_head),
    "the scores are divided by the root of d_model: it is the width of one head that counts": dict(
        divide=by_root_of_d_model
    ),
    "the scores are multiplied by the root of d_head: divide": dict(divide=multiplied),
    "nothing is turned: without positions a query cannot tell near from far": dict(turned=()),
    "the keys are not turned: queries and keys both are": dict(turned=("query",)),
    "the queries are not turned: queries and keys both are": dict(turned=("key",)),
    "the values are turned, too: positions concern the scores alone": dict(turned=("query", "key", "value")),
    "a head's numbers are mixed from several tokens: cut each row first, then swap the dimensions": dict(
        cut=across_positions
    ),
    "a head's numbers are picked from all over the row: each head has d_head neighbours": dict(cut=scattered),
    "the heads are put back without swapping the dimensions: a token's row has all heads of that token": dict(
        join=unswapped
    ),
    "a token's heads are put back number by number: the whole of the first head comes first": dict(
        join=number_by_number
    ),
}


# ---- norm and feed-forward network ---------------------------------------------------------------


def rms(x, weight, eps):
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def layer_norm(x, weight, eps):
    return rms(x - x.mean(dim=-1, keepdim=True), weight, eps)


def eps_outside(x, weight, eps):
    return x / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps) * weight


def as_it_is(x, weight, eps):
    return x


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
    "eps is added after the root: it stands under it": eps_outside,
}


def swiglu(gate, up):
    return silu(gate) * up


def bent_up(gate, up):
    return gate * silu(up)


def unbent(gate, up):
    return gate * up


def bent_product(gate, up):
    return silu(gate * up)


def summed(gate, up):
    return silu(gate) + up


def sigmoid_gate(gate, up):
    return gate.sigmoid() * up


def gelu_gate(gate, up):
    return gelu(gate) * up


def gate_alone(gate, up):
    return silu(gate)


def gated(x, gate, up, down, bend=swiglu):
    return times(bend(times(x, gate), times(x, up)), down)


# ---- a block: how the stream, the two norms and the two parts are put together --------------------


def in_order(x, one, two, attend, feed):
    x = x + attend(one(x))
    return x + feed(two(x))


def without_attention(x, one, two, attend, feed):
    return x + feed(two(x))


def without_feed(x, one, two, attend, feed):
    return x + attend(one(x))


def attention_lost(x, one, two, attend, feed):
    """The second part reads what attention found, and x without it goes on."""
    return x + feed(two(x + attend(one(x))))


def stream_lost_at_attention(x, one, two, attend, feed):
    x = attend(one(x))
    return x + feed(two(x))


def stream_lost_at_feed(x, one, two, attend, feed):
    x = x + attend(one(x))
    return feed(two(x))


def stream_lost_twice(x, one, two, attend, feed):
    return feed(two(attend(one(x))))


def attention_on_the_copy(x, one, two, attend, feed):
    x = one(x)
    x = x + attend(x)
    return x + feed(two(x))


def feed_on_the_copy(x, one, two, attend, feed):
    x = two(x + attend(one(x)))
    return x + feed(x)


def both_on_the_copy(x, one, two, attend, feed):
    x = one(x)
    x = two(x + attend(x))
    return x + feed(x)


def side_by_side(x, one, two, attend, feed):
    return x + attend(one(x)) + feed(two(x))


def feed_first(x, one, two, attend, feed):
    x = x + feed(two(x))
    return x + attend(one(x))


def norms_after(x, one, two, attend, feed):
    x = one(x + attend(x))
    return two(x + feed(x))


def norms_swapped(x, one, two, attend, feed):
    return in_order(x, two, one, attend, feed)


def first_norm_twice(x, one, two, attend, feed):
    return in_order(x, one, one, attend, feed)


def second_norm_twice(x, one, two, attend, feed):
    return in_order(x, two, two, attend, feed)


def one_copy_for_both(x, one, two, attend, feed):
    y = one(x)
    return x + attend(y) + feed(y)


def first_norm_missing(x, one, two, attend, feed):
    x = x + attend(x)
    return x + feed(two(x))


def second_norm_missing(x, one, two, attend, feed):
    x = x + attend(one(x))
    return x + feed(x)


def block(x, weights, n_heads, n_kv_heads, turn, eps, wire=in_order, norm=rms, bend=swiglu, **slips):
    """A block, (batch, position, d_model): `wire` puts it together, and `slips` are those of `attended`."""
    return wire(
        x,
        lambda y: norm(y, weights["attention_norm"], eps),
        lambda y: norm(y, weights["feed_forward_norm"], eps),
        lambda y, **values_of: attended(y, weights, n_heads, n_kv_heads, turn, **slips, **values_of),
        lambda y: gated(y, weights["gate"], weights["up"], weights["down"], bend),
    )


def scaled(random, *shape):
    """A matrix that keeps the size of what it is given about as it was."""
    return vectors(random, *shape) / shape[-1] ** 0.5
