"""Lesson 06: splitting into heads, multi-head attention, repeating key/value heads, the KV cache's bytes."""

import math
from functools import partial

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.parts import (
    across_positions,
    all_keys,
    attended,
    before_itself,
    by_d_head,
    by_position,
    by_root_of_d_model,
    hidden_first,
    hidden_last,
    multiplied,
    number_by_number,
    over_queries,
    past,
    scattered,
    undivided,
    unswapped,
)  # fmt: skip
from course_lib.lessons.tools import OVERFLOWS, crash_said, draw, only_if
from course_lib.transformer_block.attention import repeat_kv

# ---- split_heads ----------------------------------------------------------------------------------


def one_text(split_of, random):
    """head 0 gets the first numbers of every token, head 1 the next ones"""
    split_of.compare([(torch.randn(1, 4, 6, generator=random), 2), (torch.randn(1, 2, 12, generator=random), 3)])


def one_head(split_of, random):
    """one head gets all"""
    split_of.compare([(torch.randn(2, 3, 4, generator=random), 1)])


def several_texts(split_of, random):
    """several texts stay apart"""
    shapes = ((2, 3, 4, 5), (3, 7, 2, 4), (2, 1, 3, 2), (2, 4, 3, 1), (4, draw(random, 5, 8), 3, 10))
    split_of.compare([(torch.randn(b, n, h * d, generator=random), h) for b, n, h, d in shapes])


SPLIT_MISTAKES = {
    "the shape is right and the numbers are not: a head has numbers of one token in another's place. "
    "First cut each token's row, (batch, position, heads, d_head), then swap position and heads": across_positions,
    "a head takes every n_heads-th number: head 0 gets the first d_head of each token": scattered,
    "heads still stand behind the positions: swap the two": lambda x, h: x.unflatten(-1, (h, -1)),
    "heads and d_head have changed places: n_heads says how many heads there are, not how wide one is": (
        lambda x, h: x.unflatten(-1, (-1, h)).transpose(1, 2)
    ),
    "the heads stand before the texts: the batch is first": lambda x, h: by_position(x, h).transpose(0, 1),
    "position and d_head have changed places: a row of a head is a position": lambda x, h: by_position(x, h).mT,
    "the heads of all texts stand in one row: batch and heads are two dimensions": lambda x, h: by_position(
        x, h
    ).flatten(0, 1),
    "the heads come in the reverse order: head 0 has each token's first numbers": lambda x, h: by_position(x, h).flip(
        1
    ),
}


# ---- multi_head_attention -------------------------------------------------------------------------


def attention(x, q, k, v, o, n_heads, **slips):
    return attended(x, {"query": q, "key": k, "value": v, "output": o}, n_heads, n_heads, **slips)


def drawn(random, batch, n, n_heads, d_head):
    d_model = n_heads * d_head
    x = torch.randn(batch, n, d_model, generator=random)
    return x, *(1.5 * torch.randn(4, d_model, d_model, generator=random) / math.sqrt(d_model)), n_heads


def one_token(attend, random):
    """a single token looks at itself: its value, mixed by the output matrix"""
    attend.compare([drawn(random, 1, 1, 1, 2), drawn(random, 1, 1, 2, 3), drawn(random, 2, 1, 3, 4)])


def single_head(attend, random):
    """one head is lesson 05's attention"""
    attend.compare([drawn(random, 1, 3, 1, 4), drawn(random, 2, draw(random, 4, 7), 1, 6)])


def many_heads(attend, random):
    """each head has numbers, a row and a result of its own"""
    attend.compare([drawn(random, 1, 5, 2, 3), drawn(random, 1, 4, 3, 5), drawn(random, 1, draw(random, 6, 8), 4, 2)])


def many_texts(attend, random):
    """several texts do not see each other"""
    attend.compare([drawn(random, 2, 3, 2, 4), drawn(random, 3, draw(random, 6, 8), 4, 5)])


def large_scores(attend, random):
    """scores in the hundreds: a softmax must survive them"""
    inputs = [drawn(random, batch, n, n_heads, 4) for batch, n, n_heads in ((1, 3, 1), (2, 5, 2))]
    attend.compare((7 * x, *others) for x, *others in inputs)


def several_heads(x, q, k, v, o, n_heads):
    return n_heads > 1  # by the root of one nothing is divided, which is said otherwise


ATTENTION_MISTAKES = {
    "the matrices are stored as (out, in): it is x @ weight.T": lambda x, q, k, v, o, h: attention(
        x, q.T, k.T, v.T, o.T, h
    ),
    "the output matrix is stored as (out, in), as the others: @ output_weight.T": lambda x, q, k, v, o, h: attention(
        x, q, k, v, o.T, h
    ),
    "queries, keys and values are made by x @ weight: the matrices are stored as (out, in), so it is x @ weight.T": (
        lambda x, q, k, v, o, h: attention(x, q.T, k.T, v.T, o, h)
    ),
    "the output matrix is not used: nothing mixes the heads": lambda x, q, k, v, o, h: attention(
        x, q, k, v, torch.eye(len(o)), h
    ),
    "it adds x: the block does that, attention gives what is to be added": lambda x, q, k, v, o, h: (
        x + attention(x, q, k, v, o, h)
    ),
    "what is mixed are the tokens' rows: make values with value_weight": lambda x, q, k, v, o, h: attention(
        x, q, k, torch.eye(len(v)), o, h
    ),
    "what is mixed are the keys: the weights mix the values": lambda x, q, k, v, o, h: attention(x, q, k, k, o, h),
    "what is mixed are the queries: the weights mix the values": lambda x, q, k, v, o, h: attention(x, q, k, q, o, h),
    "tokens see the future: the causal mask is missing": partial(attention, see=all_keys),
    "tokens see the future and not the past: the mask is turned round": partial(
        attention, see=lambda n_query, n_key: past(n_query, n_key).mT
    ),
    "a token does not see itself, and the first sees nothing (0 / 0): the diagonal is open": partial(
        attention, see=before_itself
    ),
    "the future's scores become 0, and e to the power of 0 is 1: they must become −∞ before the softmax": partial(
        attention, hide=partial(hidden_first, closed=0.0)
    ),
    "the mask comes after the softmax, so the rows no longer sum to 1: close the scores, before it": partial(
        attention, hide=hidden_last
    ),
    "the scores are not divided: by √d_head": partial(attention, divide=undivided),
    "the scores are divided by d_head: by its root, √d_head": partial(attention, divide=by_d_head),
    "the scores are multiplied by √d_head: divide": partial(attention, divide=multiplied),
    "the softmax runs over the queries: each query's row, the last dimension, sums to 1": partial(
        attention, hide=over_queries
    ),
    "queries and keys have changed places: a row is what one query gives to all keys": (
        lambda x, q, k, v, o, h: attention(x, k, q, v, o, h)
    ),
    "there is one head whatever n_heads says: one row of weights for all numbers": lambda x, q, k, v, o, h: attention(
        x, q, k, v, o, 1
    ),
    "the scores are divided by √d_model: a head's score sums d_head products": partial(
        attention, divide=by_root_of_d_model
    ),
    "the scores are divided by √n_heads: it is √d_head": only_if(
        several_heads, partial(attention, divide=lambda d_head, d_model: (d_model / d_head) ** 0.5)
    ),
    "cut at once into (batch, heads, position, d_head) and joined in the same way, a head mixes numbers of several "
    "tokens: cut the last dimension, then swap": partial(attention, cut=across_positions, join=unswapped),
    "the split reads the numbers in a wrong order: cut the last dimension, (…, heads, d_head), then swap": partial(
        attention, cut=across_positions
    ),
    "the merge forgets to swap back: heads and positions first change places again, then the last two are joined": (
        partial(attention, join=unswapped)
    ),
    "a head takes every n_heads-th number: head 0 gets the first d_head of each token": partial(
        attention, cut=scattered, join=number_by_number
    ),
    "the heads' numbers take turns after the merge: all of head 0 stand first, then all of head 1": partial(
        attention, join=number_by_number
    ),
}


# ---- repeat_kv_heads ------------------------------------------------------------------------------


def one_or_all(repeat, random):
    """one head serves all, and with one for each nothing changes"""
    repeat.compare(
        [(torch.randn(1, 1, 2, 3, generator=random), 4), (torch.randn(2, 3, 4, 2, generator=random), 3)],
    )


def groups(repeat, random):
    """neighbours share a head"""
    given = []
    for batch, n_kv, times, n, d in (
        (1, 2, 3, 1, 2),
        (1, 3, 2, 4, 2),
        (3, 2, 2, 2, 1),
        (2, 2, 4, draw(random, 5, 7), 3),
    ):
        given.append((torch.randn(batch, n_kv, n, d, generator=random), n_kv * times))
    repeat.compare(given)


def times(x, n_heads):
    return n_heads // x.shape[1]


def along_the_numbers(x, n_heads):
    batch, _, n, d_head = x.shape
    return x.repeat(1, 1, 1, times(x, n_heads)).reshape(batch, n_heads, n, d_head)


REPEAT_MISTAKES = {
    "the whole list of heads is repeated (0, 1, 0, 1, …): neighbours share one (0, 0, 1, 1, …)": lambda x, h: x.repeat(
        1, times(x, h), 1, 1
    ),
    "each head is repeated n_heads times: together they are to be n_heads": lambda x, h: x.repeat_interleave(h, dim=1),
    "nothing is repeated": lambda x, h: x,
    "each head is repeated kv_heads times: it is n_heads / kv_heads times": lambda x, h: x.repeat_interleave(
        x.shape[1], dim=1
    ),
    "the first head serves all: each group has its own": lambda x, h: x[:, :1].repeat(1, h, 1, 1),
    "all query heads get the mean of the heads: each group has its own": lambda x, h: x.mean(1, keepdim=True).repeat(
        1, h, 1, 1
    ),
    "the positions are repeated: the heads are dimension 1": lambda x, h: x.repeat_interleave(times(x, h), dim=2),
    "the texts are repeated: the heads are dimension 1": lambda x, h: x.repeat_interleave(times(x, h), dim=0),
    "a dimension too many: join kv_heads and their repetitions": lambda x, h: x[:, :, None].expand(
        -1, -1, times(x, h), -1, -1
    ),
    "the numbers of a row are repeated and cut anew: repeat whole heads": along_the_numbers,
}


# ---- kv_cache_bytes -------------------------------------------------------------------------------


def cache_bytes(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * n_kv_heads * (d_model // n_heads) * bytes_per_number


def multi(count, random):
    """as many key/value heads as heads, 2 and 4 bytes a number"""
    n = draw(random, 3, 49)
    count.compare([(1, 1, 4, 1, 1), (1, 1, 4, 2, 2, 1), (5, 2, 8, 2, 2, 8)])
    count.compare([(1, 3, 20, 5, 5), (7, 3, 20, 5, 5, 4), (n, 12, 768, 12, 12), (n, 12, 768, 12, 12, 1)])


def grouped(count, random):
    """fewer key/value heads than heads"""
    n = draw(random, 3, 49)
    count.compare([(1, 3, 36, 6, 2), (n, 30, 576, 9, 3, 4), (n, 32, 4096, 32, 8), (n, 18, 2048, 8, 1)])


def over(factor):
    return lambda *given: cache_bytes(*given) // factor


def all_heads(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    if n_kv_heads == n_heads:  # then it is right, and explains nothing
        raise RuntimeError
    return cache_bytes(n_tokens, n_layers, d_model, n_heads, n_heads, bytes_per_number)


BYTES_MISTAKES = {
    "it counts keys or values: both are kept": over(2),
    "queries are counted, too: only keys and values are kept": lambda *given: cache_bytes(*given) // 2 * 3,
    "it counts one layer: each has a cache of its own": lambda *given: cache_bytes(*given) // given[1],
    "it counts one token: n_tokens are kept": lambda *given: cache_bytes(*given) // given[0],
    "it counts numbers: each takes bytes_per_number": lambda *given: cache_bytes(*given[:5], 1),
    "each number takes 2 bytes, whatever bytes_per_number says": lambda *given: cache_bytes(*given[:5]),
    "each number takes 4 bytes, whatever bytes_per_number says": lambda *given: cache_bytes(*given[:5], 4),
    "it counts bits: a byte is asked for": lambda *given: cache_bytes(*given) * 8,
    "each head has d_model numbers: it has d_model / n_heads": lambda *given: cache_bytes(*given) * given[3],
    "all d_model numbers are counted: only n_kv_heads heads have keys and values, d_model / n_heads numbers each": (
        all_heads
    ),
    "one head is counted: n_kv_heads of them are kept": lambda *given: cache_bytes(*given) // given[4],
    "it counts n × n: the cache keeps rows, not pairs": lambda *given: cache_bytes(*given) * given[0],
}


EXERCISES = (
    Exercise(
        name="split_heads",
        lesson="06",
        title="each token's numbers cut into heads",
        oracle=by_position,
        checks={"one": (one_text, one_head), "batch": (several_texts,)},
        mistakes=SPLIT_MISTAKES,
        hints=(
            "Two steps: cut the last dimension into heads and numbers, then let positions and heads change places.",
            "`batch, position, width = x.shape`; a head is `width // n_heads` wide. "
            "`x.view(batch, position, n_heads, …)` does the cut.",
            "`x.view(batch, position, n_heads, width // n_heads).transpose(1, 2)`.",
        ),
    ),
    Exercise(
        name="multi_head_attention",
        lesson="06",
        title="causal attention in several heads",
        oracle=attention,
        checks={
            "one_token": (one_token,),
            "one_head": (single_head,),
            "heads": (many_heads, many_texts, crash_said(large_scores, ("NaN (not",), OVERFLOWS)),
        },
        mistakes=ATTENTION_MISTAKES,
        hints=(
            "Five steps: queries, keys and values by `x @ weight.T`; split each into heads; lesson 05's attention with "
            "a causal mask; swap and join the heads; `@ output_weight.T`.",
            "Split: `.view(batch, n, n_heads, d_head).transpose(1, 2)`. Then `query @ key.transpose(-2, -1)` has a "
            "table for each head: divide by √d_head, close the future with `masked_fill(~past, -torch.inf)`, softmax.",
            "`past = torch.ones(n, n, dtype=torch.bool).tril()`, `weights = scores.masked_fill(~past, "
            "-torch.inf).softmax(-1)`, then `(weights @ value).transpose(1, 2).flatten(2) @ output_weight.T`.",
        ),
    ),
    Exercise(
        name="repeat_kv_heads",
        lesson="06",
        title="a key/value head for each query head",
        oracle=repeat_kv,
        checks={"single": (one_or_all,), "groups": (groups,)},
        mistakes=REPEAT_MISTAKES,
        hints=(
            "Each head is needed n_heads / kv_heads times; kv_heads is `x.shape[1]`.",
            "The heads are dimension 1. `repeat` puts the whole list behind itself; which function repeats each one on "
            "the spot?",
            "`x.repeat_interleave(n_heads // x.shape[1], dim=1)`.",
        ),
    ),
    Exercise(
        name="kv_cache_bytes",
        lesson="06",
        title="what keys and values take",
        oracle=cache_bytes,
        checks={"multi": (multi,), "grouped": (grouped,)},
        mistakes=BYTES_MISTAKES,
        hints=(
            "For each token, in each layer, each key/value head keeps two rows: a key and a value. How many numbers "
            "has a row?",
            "A row has d_model / n_heads numbers, also where there are fewer key/value heads: `d_model // n_heads`.",
            "2 · n_tokens · n_layers · n_kv_heads · (d_model // n_heads) · bytes_per_number.",
        ),
    ),
)
