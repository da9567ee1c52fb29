"""Lesson 03: sinusoids, RoPE's turned pairs, its score at a distance, ALiBi's penalties."""

import math
from functools import partial

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.input_processing import positions
from course_lib.lessons.parts import (
    as_neighbours,
    first_one_overwritten,
    first_sign_wrong,
    neighbours,
    second_sign_wrong,
    sine_and_cosine_swapped,
    turned,
)  # fmt: skip
from course_lib.lessons.tools import draw

# ---- sinusoid_table -------------------------------------------------------------------------------


def waves(n_positions, d_model, exponent=lambda i, d: 2 * i / d, start=0):
    """(position, pair) angles."""
    rates = torch.tensor([10_000.0 ** -exponent(i, d_model) for i in range(d_model // 2)])
    return torch.arange(start, start + n_positions)[:, None] * rates


def sinusoid_by(angles):
    return as_neighbours(angles.sin(), angles.cos())


def one_wave(table, random):
    """one wave: sine and cosine of the position"""
    table.compare([(draw(random, 3, 5), 2)])


def more_waves(table, random):
    """slower and slower waves in the pairs after it"""
    table.compare([(3, 4), (draw(random, 7, 11), 6), (draw(random, 20, 39), 2 * draw(random, 8, 19)), (1, 4)])


def each_own_wave(n, d, factor=1):
    """Column c gets the exponent factor·c/d, so that a sine and its cosine turn at different speeds."""
    angles = torch.arange(n)[:, None] * 10_000.0 ** (-factor * torch.arange(d) / d)
    return torch.where(torch.arange(d) % 2 == 0, angles.sin(), angles.cos())


def faster(n, d):
    angles = waves(n, d, lambda i, d: -2 * i / d)
    if angles.max() > 1000:  # sines of such angles are rounding: nobody gets the same
        raise RuntimeError
    return sinusoid_by(angles)


SINUSOID_MISTAKES = {
    "cosine and sine have changed places: column 0 is a sine": lambda n, d: as_neighbours(
        waves(n, d).cos(), waves(n, d).sin()
    ),
    "all sines stand first and then all cosines: they take turns, sine, cosine, sine, cosine": lambda n, d: torch.cat(
        (waves(n, d).sin(), waves(n, d).cos()), dim=1
    ),
    "positions count from 1: the first is 0": lambda n, d: sinusoid_by(waves(n, d, start=1)),
    "the angles are taken as degrees: they are radians, as torch.sin expects": lambda n, d: sinusoid_by(
        torch.deg2rad(waves(n, d))
    ),
    "the exponent lacks its 2: pair i has 2i/d_model": lambda n, d: sinusoid_by(waves(n, d, lambda i, d: i / d)),
    "the exponent is i itself: it is 2i/d_model": lambda n, d: sinusoid_by(waves(n, d, lambda i, d: i)),
    "the later waves turn faster: divide by 10,000^(2i/d_model)": faster,
    "a sine and the cosine beside it turn at different speeds: both have the pair's 2i/d_model": each_own_wave,
    "each column has an angle of its own: a sine and its cosine share one, that of their pair": lambda n, d: (
        each_own_wave(n, d, 2)
    ),
    "the 2 is there twice: 0, 2, 4, … are already 2i": lambda n, d: sinusoid_by(waves(n, d, lambda i, d: 4 * i / d)),
    "columns and positions are exchanged: a row is a position": lambda n, d: sinusoid_by(waves(n, d)).T,
    "all pairs turn at the same speed": lambda n, d: sinusoid_by(waves(n, d, lambda i, d: 0)),
}


# ---- rotate_pairs ---------------------------------------------------------------------------------


def quarter(turn, random):
    """a quarter turn takes (a, b) to (−b, a)"""
    a, b = (1 + torch.rand(2, generator=random) * torch.tensor([1.0, 3.0])).tolist()
    turn.compare(
        [(torch.tensor([[a, -b]]), torch.tensor([[math.pi / 2]])), (torch.tensor([[a, b]]), torch.zeros(1, 1))]
    )


def vectors(turn, random):
    """each row by its own angles, the first half paired with the second"""
    given = []
    for n, pairs in ((2, 2), (5, 3), (draw(random, 6, 11), 4)):
        angles = positions.rotation_angles(torch.arange(n) + draw(random, 1, 8), 2 * pairs, 50.0)
        given.append((torch.randn(n, 2 * pairs, generator=random), angles))
    turn.compare(given)


ROTATE_MISTAKES = {
    "the pairs are neighbours: here number i is paired with i + d_head/2": partial(
        turned, apart=neighbours, together=as_neighbours
    ),
    "the right pairs turn, and come out as neighbours: all first numbers, then all second ones": partial(
        turned, together=as_neighbours
    ),
    "a pair goes in as neighbours and comes out as halves: number i is paired with i + d_head/2, in and out": (
        partial(turned, apart=neighbours)
    ),
    "it turns the other way round": lambda x, a: turned(x, -a),
    "the angles are taken as degrees: they are radians": lambda x, a: turned(x, torch.deg2rad(a)),
    "every row turns by the first row's angles: each position has its own": lambda x, a: turned(x, a[:1]),
    "nothing turns: the angles are not used": lambda x, a: x,
    "the second number is made from the first after it has changed: keep the old one": partial(
        turned, turn=first_one_overwritten
    ),
    "the vectors change their length: the first number is a·cos − b·sin": partial(turned, turn=first_sign_wrong),
    "the second number has the wrong sign before b: it is a·sin + b·cos": partial(turned, turn=second_sign_wrong),
    "sine and cosine have changed places: an angle of 0 turns nothing": partial(turned, turn=sine_and_cosine_swapped),
    "one angle does for all pairs: each pair has its own": lambda x, a: turned(x, a[:, :1]),
}


# ---- score_at_distance ----------------------------------------------------------------------------


def frequencies(d_head, exponent=lambda i, d: 2 * i / d):
    return torch.tensor([10_000.0 ** -exponent(i, d_head) for i in range(d_head // 2)])


def score(query, key, distance, exponent=lambda i, d: 2 * i / d, unit=1.0, **slips):
    return turned(query, distance * unit * frequencies(len(query), exponent), **slips) @ key


def drawn(random, distances, sizes=(4, 6, 8)):
    for size in sizes:
        for distance in distances:
            yield *torch.randn(2, size, generator=random), distance


def no_distance(score_of, random):
    """at distance 0 it is the plain dot product"""
    score_of.compare(drawn(random, [0]))


def near(score_of, random):
    """what the two give wherever they stand, this far apart"""
    score_of.compare(drawn(random, [1, 2, draw(random, 3, 39)]))


def ahead(score_of, random):
    """and when the key stands after the query"""
    score_of.compare(drawn(random, [2, -1, -draw(random, 2, 39)]))


SCORE_MISTAKES = {
    "the score is divided by √d_head: the bare dot product is asked for": lambda q, k, d: (
        score(q, k, d) / math.sqrt(len(q))
    ),
    "the distance plays no part: turned alike, the two are as before": lambda q, k, d: q @ k,
    "it turns the wrong way: where the distance is positive, the query stands later and turns on": lambda q, k, d: (
        score(q, k, -d)
    ),
    "the distance counts twice: turn one of the two": lambda q, k, d: score(q, k, 2 * d),
    "a distance of −1 counts like 1: keys ahead and behind are not the same": lambda q, k, d: score(q, k, abs(d)),
    "a key after the query counts as if it stood beside it: a negative distance turns too, the other way": (
        lambda q, k, d: score(q, k, max(d, 0))
    ),
    "the pairs are neighbours: here number i is paired with i + d_head/2": partial(
        score, apart=neighbours, together=as_neighbours
    ),
    "the angles are taken as degrees: they are radians": lambda q, k, d: score(q, k, d, unit=math.pi / 180),
    "the exponent lacks its 2: pair i turns by 10,000^(−2i/d_head)": lambda q, k, d: score(q, k, d, lambda i, n: i / n),
    "the exponent is i itself: pair i turns by 10,000^(−2i/d_head)": lambda q, k, d: score(q, k, d, lambda i, n: i),
    "the 2 is there twice: 0, 2, 4, … are already 2i": lambda q, k, d: score(q, k, d, lambda i, n: 4 * i / n),
    "all pairs turn at the same speed": lambda q, k, d: score(q, k, d, lambda i, n: 0),
}


# ---- alibi_table ----------------------------------------------------------------------------------


def away(n):
    return torch.arange(n)[:, None] - torch.arange(n)  # query − key


def penalties(slopes, distance):
    return -torch.as_tensor(slopes)[:, None, None] * distance


def slopes_of(n_heads):
    return [2.0 ** (-8 * (h + 1) / n_heads) for h in range(n_heads)]


def eight_heads(table, random):
    """a penalty that grows with the distance: 8 heads, slopes 2^−1 to 2^−8"""
    table.compare([(8, 2), (8, 3), (8, draw(random, 4, 8))])


def other_heads(table, random):
    """the slopes of 1, 2, 4 and 16 heads"""
    table.compare([(2, 3), (1, 3), (4, draw(random, 3, 7)), (16, 2)])


ALIBI_MISTAKES = {
    "the sign is wrong: far keys gain": lambda h, n: -penalties(slopes_of(h), away(n).abs()),
    "a key after the query gets a bonus (the sign turns there): the distance is |i − j|": lambda h, n: penalties(
        slopes_of(h), away(n)
    ),
    "keys after the query are free: the distance counts both ways, |i − j| (a mask is another matter)": lambda h, n: (
        penalties(slopes_of(h), away(n).clamp(min=0))
    ),
    "keys after the query are masked: leave them, they pay |i − j| like the others": lambda h, n: penalties(
        slopes_of(h), away(n).abs()
    ).masked_fill(away(n) < 0, -torch.inf),
    "it is measured from the first key: the distance is that between query and key": lambda h, n: penalties(
        slopes_of(h), torch.arange(n).expand(n, n)
    ),
    "the slopes are 2^−1, 2^−2, …: that is right for 8 heads alone, for n heads it is 2^(−8h/n)": lambda h, n: (
        penalties([2.0 ** -(i + 1) for i in range(h)], away(n).abs())
    ),
    "the first head has the slope 1: heads count from 1 in 2^(−8h/n)": lambda h, n: penalties(
        [2.0 ** (-8 * i / h) for i in range(h)], away(n).abs()
    ),
    "all heads have the same slope": lambda h, n: penalties([2.0 ** (-8 / h)] * h, away(n).abs()),
    "the heads are in the other order: the steepest is first": lambda h, n: penalties(
        slopes_of(h)[::-1], away(n).abs()
    ),
    "all heads take off the bare distance: each has a slope": lambda h, n: penalties([1.0] * h, away(n).abs()),
    "a token pays to look at itself: its distance is 0": lambda h, n: penalties(slopes_of(h), away(n).abs() + 1),
}


EXERCISES = (
    Exercise(
        name="sinusoid_table",
        lesson="03",
        title="sinusoids for the first positions",
        oracle=lambda n_positions, d_model: positions.sinusoids(torch.arange(n_positions), d_model),
        checks={"wave": (one_wave,), "waves": (more_waves,)},
        mistakes=SINUSOID_MISTAKES,
        hints=(
            "First a table of angles, (n_positions, d_model / 2): position divided by 10_000 ** (2 * i / d_model), "
            "for pair i.",
            "`position = torch.arange(n_positions)[:, None]` is a column and `i = torch.arange(d_model // 2)` a row: "
            "in one expression, the two stretch to a table.",
            "`table = torch.zeros(n_positions, d_model)`, then fill every other column: "
            "`table[:, 0::2] = torch.sin(angles)` and `table[:, 1::2] = torch.cos(angles)`.",
        ),
    ),
    Exercise(
        name="rotate_pairs",
        lesson="03",
        title="turn each pair by its angle",
        oracle=lambda x, angles: positions.rotate(x, angles, "halves"),
        checks={"quarter": (quarter,), "rows": (vectors,)},
        mistakes=ROTATE_MISTAKES,
        hints=(
            "The first numbers of all pairs are the left half of x, `x[:, :d_head // 2]`; the second ones are its "
            "right half. Both have the shape of `angles`.",
            "With a and b as these halves, the first numbers become a·cos − b·sin, the second ones a·sin + b·cos; "
            "cos is `torch.cos(angles)`.",
            "`a, b = x.chunk(2, dim=-1)`, and at the end "
            "`torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)` puts the halves side by side again.",
        ),
    ),
    Exercise(
        name="score_at_distance",
        lesson="03",
        title="RoPE's score from the distance alone",
        oracle=score,
        checks={"plain": (no_distance,), "near": (near, ahead)},
        mistakes=SCORE_MISTAKES,
        hints=(
            "Turning the query by its position and the key by its own has the same effect on the score as turning the "
            "query alone, by the difference.",
            "`rotation_angles` and `rotate` take a list of positions and a row for each. Here it is a list of one: "
            "`torch.tensor([distance])`, and `query[None]` is a table of one row.",
            "`angles = rotation_angles(torch.tensor([distance]), len(query))`, then the dot product of "
            "`rotate(query[None], angles)[0]` with the key: `@`. (`rotate` takes halves unless told otherwise.)",
        ),
    ),
    Exercise(
        name="alibi_table",
        lesson="03",
        title="what ALiBi takes off each score",
        oracle=lambda n_heads, n: positions.alibi_bias(n_heads, n),
        checks={"distance": (eight_heads,), "slopes": (other_heads,)},
        mistakes=ALIBI_MISTAKES,
        hints=(
            "First the distances alone, an (n, n) table of whole numbers with zeros on the diagonal: "
            "`torch.arange(n)[:, None] - torch.arange(n)`, and `.abs()` of it.",
            "The slopes are a row of n_heads numbers: 2^(−8h/n_heads) for h = 1, 2, …, n_heads. "
            "`torch.arange(1, n_heads + 1)` gives the h.",
            "`-slopes[:, None, None] * distance`: the two None let each slope meet the whole table of distances, "
            "and the shape becomes (n_heads, n, n).",
        ),
    ),
)
