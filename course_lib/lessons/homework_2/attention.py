"""Homework 2: grouped-query attention."""

from functools import partial

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.parts import SLIPS_OF_ATTENTION, attended, scaled, stay, turning
from course_lib.lessons.tools import some, vectors


def taken_apart(qkv, n_heads, n_kv_heads, order=("query", "key", "value")):
    d_head = len(qkv) // (n_heads + 2 * n_kv_heads)
    sizes = [d_head * (n_heads if name == "query" else n_kv_heads) for name in order]
    return dict(zip(order, qkv.split(sizes), strict=True))


def grouped_attention(
    x, qkv, output, n_heads, n_kv_heads, turn,
    order=("query", "key", "value"), give=lambda x, found: found, **slips,
):  # fmt: skip
    """What attention adds; the keywords are somebody's slips."""
    weights = taken_apart(qkv, n_heads, n_kv_heads, order) | {"output": output}
    return give(x, attended(x, weights, n_heads, n_kv_heads, turn, **slips))


def attentions(random, turn, shapes, batch=2):
    """Inputs with so many heads and key heads; no two sizes of one input are the same."""
    for n_heads, n_kv_heads, d_head, n in shapes:
        d_model = n_heads * d_head + 3
        qkv = 2 * scaled(random, (n_heads + 2 * n_kv_heads) * d_head, d_model)
        output = scaled(random, d_model, n_heads * d_head)
        yield vectors(random, batch, n, d_model), qkv, output, n_heads, n_kv_heads, turn


GROUPED = ((4, 2, 2, 3), (6, 3, 4, 4), (6, 2, 6, 5))


def groups(attend, random):
    """fewer key heads than query heads: each serves as many query heads, the first ones first"""
    attend.compare(attentions(random, stay, GROUPED))
    attend.compare([*attentions(random, stay, GROUPED, batch=1), *attentions(random, stay, GROUPED[:1], batch=3)])


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
        "keys and values are swapped: after the queries' rows come the keys', then the values'": partial(
            grouped_attention, order=("query", "value", "key")
        ),
        "the queries' rows are not the first: queries, keys, values is the order": partial(
            grouped_attention, order=("key", "value", "query")
        ),
        "x is added: what attention adds to the stream is asked for, and that alone": partial(
            grouped_attention, give=lambda x, found: x + found
        ),
    }
    | {sentence: partial(grouped_attention, **slips) for sentence, slips in SLIPS_OF_ATTENTION.items()},
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
