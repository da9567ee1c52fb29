"""Homework 1, rotary positions: turning rows, and moving keys that were turned before."""

from functools import partial
from math import pi

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons import parts
from course_lib.lessons.tools import draw, shuffled, vectors


def apply_rope(
    x, positions, theta,
    power=lambda pair, d_head: 2 * pair / d_head, where=lambda positions: positions, sign=1, **slips,
):  # fmt: skip
    """RoPE at any positions; the keywords are somebody's slips."""
    pair = torch.arange(x.shape[-1] // 2)
    return parts.turned(x, sign * where(positions)[:, None] * theta ** -power(pair, x.shape[-1]), **slips)


def places(random, number):
    """Positions with gaps, in no order."""
    return torch.randperm(60, generator=random)[:number] + 1


def one_pair(turn, random):
    """two numbers: one pair, turned by one radian a position"""
    inputs = [(torch.tensor([[1.0, 0.0]]), torch.tensor([position]), 10_000.0) for position in (0, 1, 2)]
    turn.compare(inputs + [(vectors(random, n, 2), places(random, n), 10_000.0) for n in (1, 2, 4)])


def many_pairs(turn, random):
    """many pairs, each slower than the one before it"""
    turn.compare((vectors(random, n, d), places(random, n), 10_000.0) for n, d in ((1, 4), (2, 4), (3, 8), (5, 16)))


def heads(turn, random):
    """any dimensions in front: batches, heads"""
    shapes = ((2, 3, 4), (3, 2, 4), (2, 3, 4, 8), (4, 2, 5, 6))
    turn.compare((vectors(random, *shape), places(random, shape[-2]), 10_000.0) for shape in shapes)


def other_bases(turn, random):
    """with another theta: SmolLM2's is 100,000"""
    turn.compare((vectors(random, 3, d), places(random, 3), theta) for d, theta in ((4, 100.0), (8, 100_000.0)))


APPLY_ROPE = Exercise(
    name="apply_rope",
    lesson="hw1",
    title="rotary positions",
    oracle=apply_rope,
    may_call=("patterns",),
    checks={"rotation": (one_pair, many_pairs, heads, other_bases)},
    mistakes={
        "it pairs neighbours, 2i with 2i + 1: here the first half is paired with the second": partial(
            apply_rope, apart=parts.neighbours, together=parts.as_neighbours
        ),
        "it turns the other way round: a cos − b sin, and a sin + b cos": partial(apply_rope, sign=-1),
        "the slow pairs turn too fast: the exponent is −2i/d_head, and i counts the pairs": partial(
            apply_rope, power=lambda pair, d_head: pair / d_head
        ),
        "the slow pairs turn too slowly: i counts the pairs, from 0 to d_head/2 − 1": partial(
            apply_rope, power=lambda pair, d_head: 4 * pair / d_head
        ),
        "the first pair does not turn by one radian a position: i counts from 0": partial(
            apply_rope, power=lambda pair, d_head: 2 * (pair + 1) / d_head
        ),
        "the later pairs turn faster: the exponent is negative": partial(
            apply_rope, power=lambda pair, d_head: -2 * pair / d_head
        ),
        "every pair turns alike: pair i turns by position · theta^(−2i/d_head)": partial(
            apply_rope, power=lambda pair, d_head: 0 * pair
        ),
        "it ignores `positions` and counts 0, 1, 2 …: the tokens may stand anywhere": partial(
            apply_rope, where=lambda positions: torch.arange(len(positions))
        ),
        "its positions are one too high": partial(apply_rope, where=lambda positions: positions + 1),
        "the second half is made with the first half's new numbers: both need the old ones": partial(
            apply_rope, turn=parts.first_one_overwritten
        ),
        "sine and cosine are swapped: at position 0 nothing turns": partial(
            apply_rope, turn=parts.sine_and_cosine_swapped
        ),
        "a sign is wrong: the first of a pair becomes a cos − b sin, with a minus": partial(
            apply_rope, turn=parts.first_sign_wrong
        ),
        "a sign is wrong: the second of a pair becomes a sin + b cos, with a plus": partial(
            apply_rope, turn=parts.second_sign_wrong
        ),
        "a sign is wrong: in the second of a pair, a sin has no minus": partial(
            apply_rope, turn=lambda a, b, cos, sin: (a * cos - b * sin, b * cos - a * sin)
        ),
        "the turned halves come out interleaved: they belong one after the other": partial(
            apply_rope, together=parts.as_neighbours
        ),
        "it takes the angles for degrees, and they are radians": partial(
            apply_rope, where=lambda positions: positions * (pi / 180)
        ),
        "it turns by degrees: the angles are radians, and torch.cos takes radians": partial(
            apply_rope, where=lambda positions: positions * (180 / pi)
        ),
        "it ignores theta and takes 10,000": lambda x, positions, theta: apply_rope(x, positions, 10_000.0),
    },
    hints=(
        "First the angles, a table of shape (position, d_head / 2): position times theta^(−2i/d_head). Then the halves "
        "of x, `a, b = x.chunk(2, dim=-1)`, turned.",
        "`torch.arange(0, d_head, 2)` is 0, 2, 4 …, which is 2i for all pairs. `positions[:, None]` makes a column, "
        "and a column times a row is a table.",
        "With the table of angles, their cosines and sines are tables too, and they multiply a and b number by number, "
        "whatever dimensions stand in front. Both new halves are made of the *old* a and b. `torch.cat` with `dim=-1` "
        "puts the one after the other.",
    ),
)


def move_keys(keys, shift, theta, positions=lambda n, shift: torch.full((n,), shift), **slips):
    """Keys that were turned once, at other positions; the keywords are somebody's slips."""
    return apply_rope(keys, positions(keys.shape[-2], shift), theta, **slips)


def to_the_right(move, random):
    """keys move up: to later positions"""
    shifts = shuffled(random, [1, 2, 4, 7, 8, 11, 13, 14])  # to roll 3 or 5 rows by these moves every row
    sizes = ((1, 2), (3, 4), (3, 8), (5, 16))
    move.compare((vectors(random, n, d), shift, 1e4) for shift, (n, d) in zip(shifts, sizes, strict=False))


def to_the_left(move, random):
    """keys move down, where earlier tokens were dropped; by 0 they stay"""
    move.compare((vectors(random, 3, 4), shift, 10_000.0) for shift in (0, -1, draw(random, -20, -2), -32))


def other_base(move, random):
    """with another theta: SmolLM2's is 100,000"""
    move.compare((vectors(random, 3, 8), draw(random, -9, -1), theta) for theta in (100.0, 100_000.0))


def scores_stay(move, random):
    """and so the scores of a query that moves along do not change"""
    keys, query = vectors(random, 6, 16), vectors(random, 1, 16)
    positions, now, shift = torch.arange(40, 46), torch.tensor([47]), -draw(random, 5, 40)
    before = apply_rope(keys, positions, 1e4) @ apply_rope(query, now, 1e4).T
    moved = move.answer(apply_rope(keys, positions, 1e4), shift, 1e4)
    if not isinstance(moved, torch.Tensor) or moved.shape != keys.shape:
        raise Wrong("it does not return a tensor of the shape of the keys")
    after = moved @ apply_rope(query, now + shift, 1e4).T
    if not torch.allclose(before, after, atol=1e-3):
        raise Wrong(
            f"when query and keys both move by {shift}, their scores change, and they should not",
            f"the first is {before[0].item():.3f} before, {after[0].item():.3f} after",
        )


MOVE_KEYS = Exercise(
    name="move_keys",
    lesson="hw1",
    title="keys that were turned once, moved to other positions",
    oracle=move_keys,
    may_call=("positions",),
    checks={"shift": (to_the_right, to_the_left, other_base, scores_stay)},
    mistakes={
        "it turns the wrong way: a key that moves up by 1 turns on by one more step": partial(
            move_keys, positions=lambda n, shift: torch.full((n,), -shift)
        ),
        "it turns a key for its new position, and it had been turned before: only the difference is missing": partial(
            move_keys, positions=lambda n, shift: torch.arange(n) + shift
        ),
        "each key turns farther than the one before it: all of them move by the same shift": partial(
            move_keys, positions=lambda n, shift: torch.arange(n) * shift
        ),
        "each key turns farther than the one before it, the first by one shift: all move by the same": partial(
            move_keys, positions=lambda n, shift: torch.arange(1, n + 1) * shift
        ),
        "every pair turns alike: pair i turns by shift · theta^(−2i/d_head)": lambda keys, shift, theta: move_keys(
            keys, shift, 1.0
        ),
        "it pairs neighbours, 2i with 2i + 1: here the first half is paired with the second": partial(
            move_keys, apart=parts.neighbours, together=parts.as_neighbours
        ),
        "it moves the rows: they stay in their order, and each is turned": lambda keys, shift, theta: keys.roll(
            shift, 0
        ),
        "it turns by one step, whatever the shift is": partial(
            move_keys, positions=lambda n, shift: torch.full((n,), 1)
        ),
        "it ignores theta and takes 10,000": lambda keys, shift, theta: move_keys(keys, shift, 10_000.0),
        "the keys come back as they were": lambda keys, shift, theta: keys,
        "it adds the shift to the numbers: a key moves by turning": lambda keys, shift, theta: keys + shift,
    },
    hints=(
        "The key at position p has been turned by p steps. At p + shift it should have been turned by p + shift steps. "
        "How many are missing?",
        "All keys need the same turn, by `shift` steps, wherever they stand. You need not know where that is.",
        "`rotation_angles` wants a position for each row. What stands in it for a key that has to turn on by `shift` "
        "steps, and is it another number in the next row?",
    ),
)
