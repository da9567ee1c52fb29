"""Homework 4: at which stage does a model go wrong?"""

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import draw, vectors


def by_rows(size=lambda rows: rows.norm(dim=-1), of=lambda one, other: other, length=None, power=1):
    """The worst row's distance as a share of its length, to a power; NaN is infinitely far."""

    def off(one, other):
        share = size(one - other) / (length or size)(of(one, other))
        return (share**power).nan_to_num(nan=torch.inf).max()

    return off


shares_of_length = by_rows()


def finding(
    off=shares_of_length, pick=lambda faults, offs: faults[0] if faults else None, within=lambda tolerance: tolerance,
):  # fmt: skip
    def answer(readings, reference, tolerance):
        offs = {name: off(tensor, reference[name]) for name, tensor in readings.items()}
        return pick([name for name, value in offs.items() if value > within(tolerance) or value == torch.inf], offs)

    return answer


find_fault = finding()


def length_of(rows):
    return rows.norm(dim=-1)


def mean_square_root(rows):
    return rows.square().mean(dim=-1).sqrt()


def sum_of_sizes(rows):
    return rows.abs().sum(dim=-1)


def largest(rows):
    return rows.abs().amax(dim=-1)


def stages(random, n_layers, start=0):
    return ["look-up", *(f"layer {i}, {half}" for i in range(start, start + n_layers) for half in ("attention", "ffn"))]


def record(random, faults=(), n_layers=3, growth=1.6, noise=1e-6, start=0, short=1.0):
    """Readings and a reference, name → (position, d_model): longer rows later on, as in a real model.

    `faults`: {number of the stage: what it does, a function of (random, tensor)}. Row 2 is `short` times as long.
    """
    readings, reference = {}, {}
    for number, name in enumerate(stages(random, n_layers, start)):
        right = vectors(random, 6, 6) * growth**number
        right[2] *= short
        seen = right + noise * right.norm(dim=-1, keepdim=True) * vectors(random, 6, 6) / 6
        if number in faults:
            seen = faults[number](random, seen)
        readings[name], reference[name] = seen, right
    return readings, reference


def by_share(share, row=None):
    """Every row moves by this share of its length; or one row alone."""

    def fault(random, x):
        move = vectors(random, *x.shape)
        move = share * move / move.norm(dim=-1, keepdim=True) * x.norm(dim=-1, keepdim=True)
        here = torch.ones(len(x)) if row is None else torch.eye(len(x))[row]
        return x + here[:, None] * move

    return fault


def turned_about(random, x):
    """The same length, another direction."""
    return -x


def nan_in_one(random, x):
    x = x.clone()
    x[draw(random, 1, 5), draw(random, 0, 5)] = torch.nan
    return x


def directions(random):
    """Two tables of six rows of length 1: all numbers as large as each other, and one number alone; signs at random."""
    even = torch.randint(2, (6, 6), generator=random) * 2.0 - 1
    single = torch.eye(6)[torch.randint(6, (6,), generator=random)] * even
    return even / 6**0.5, single


def made_of(names, right, moves, noise=1e-6):
    """Readings and a reference: each stage's rows are `right`, moved by so much in such a direction."""
    readings, reference = {}, {}
    for name, (share, direction) in zip(names, moves, strict=True):
        size = right.norm(dim=-1, keepdim=True)
        reference[name], readings[name] = right.clone(), right + (share + noise) * size * direction
    return readings, reference


def how_far(find, random):
    """a stage is well up to the tolerance that is given, and off beyond it; distance and length are roots of sums"""
    names, inputs = stages(random, 3), []
    even, single = directions(random)
    # a stage that is well, then one that is off, then those that are far off: each wrong measure stops elsewhere
    for right, move, tolerance in (
        (10 * single, even, 0.03),
        (0.1 * even, single, 0.05),
        (0.1 * single, even, 0.004),
        (3 * even, single, 0.002),
    ):
        shares = (0.0, 0.8 * tolerance, 0.0, 1.25 * tolerance, 3.5 * tolerance, 0.9, 1.8)
        inputs.append((*made_of(names, right, [(share, move) for share in shares]), tolerance))
    # along the row itself, forward and back; in the last but one stage a row points the other way
    along = (0.0, -0.4, 0.0, 0.6, 0.9, -2.0, 0.7)
    inputs.append((*made_of(names, even, [(share, even) for share in along]), 0.5))
    compare_names(find, inputs)


def compare_names(find, inputs):
    """As `find.compare`, but None has a meaning of its own here."""
    try:
        find.compare(inputs)
    except Wrong as wrong:
        if wrong.sentence.startswith("it returns nothing"):
            raise Wrong(
                "it returns nothing, and None says that all is well: here a stage is off", wrong.shown
            ) from None
        raise


def first_of_many(find, random):
    """the first stage that is off, though later ones are off by more"""
    inputs = []
    for first in (1, 3, 0):
        # the stages after a fault inherit it, and more and more
        faults = {first + k: by_share(0.01 * 3**k) for k in range(3)}
        inputs.append((*record(random, faults), 1e-3))
    inputs.append((*record(random, {2: turned_about, 3: by_share(0.5)}), 1e-3))
    compare_names(find, inputs)


def all_well(find, random):
    """None where all agree but for rounding, in long rows, too"""
    compare_names(find, [(*record(random, growth=growth, noise=1e-4), 1e-3) for growth in (1.0, 12.0)])


def at_the_ends(find, random):
    """the last stage, the first one; a tolerance that is met exactly, and NaN at any tolerance"""
    names, inputs = stages(random, 3), []
    last = len(names) - 1
    inputs += [(*record(random, {place: by_share(0.3)}), 0.05) for place in (last, 0)]
    right = {name: torch.tensor([[4.0, 0.0], [0.0, 8.0]]) for name in names}
    for place, moved, tolerance in (
        (1, 5.0, 0.25),
        (1, 5.0, 0.125),
        (last, 6.0, 0.5),
        (last, 6.0, 0.25),
        (0, 12.0, 2.0),
    ):
        seen = {name: rows.clone() for name, rows in right.items()}
        seen[names[place]][0, 0] = moved
        inputs.append((seen, right, tolerance))
    for place, tolerance in ((last, 1e9), (0, 2.0), (2, float("inf"))):
        seen = {name: rows.clone() for name, rows in right.items()}
        seen[names[place]][1, 1] = torch.nan
        inputs.append((seen, right, tolerance))
    inputs.append((right, {name: right[name] for name in reversed(names)}, 0.5))
    compare_names(find, inputs)


def small_rows(find, random):
    """in rows that are short, too: what counts is the share of a row's own length"""
    faults = {2: by_share(0.05), 4: by_share(0.2)}
    compare_names(find, [(*record(random, faults, growth=growth), 1e-2) for growth in (0.05, 0.1)])


def one_row(find, random):
    """a fault in a single row counts, in a short one, too, and so does NaN"""
    later = {4: by_share(0.2), 5: by_share(0.9)}
    inputs = [(*record(random, {2: by_share(0.0115, draw(random, 1, 5))} | later), 1e-2)]
    inputs.append((*record(random, {3: by_share(0.5, 2)} | later, short=0.002), 1e-2))
    inputs.append((*record(random, {3: nan_in_one} | later), 1e-2))
    compare_names(find, inputs)


def tenth_layer(find, random):
    """the stages come in the order of the model, also from layer 8 to layer 11"""
    compare_names(
        find, [(*record(random, {3: by_share(0.05), 5: by_share(0.1)}, n_layers=4, start=8, growth=1.0), 1e-2)]
    )


FIND_FAULT = Exercise(
    name="find_fault",
    lesson="hw4",
    title="where a forward pass goes wrong",
    oracle=find_fault,
    may_call=(),
    checks={"fault": (how_far, first_of_many, all_well, small_rows, one_row, tenth_layer, at_the_ends)},
    mistakes={
        "it names the stage that is off most: the first one that is off is the cause": finding(
            pick=lambda faults, offs: max(faults, key=offs.get) if faults else None
        ),
        "it names the last stage that is off: the first one": finding(
            pick=lambda faults, offs: faults[-1] if faults else None
        ),
        "it names all stages that are off: the first alone": finding(pick=lambda faults, offs: faults),
        "it gives the stage's number: its name": finding(
            pick=lambda faults, offs: [*offs].index(faults[0]) if faults else None
        ),
        "it names the first stage in the order of the alphabet: the order of the readings": finding(
            pick=lambda faults, offs: min(faults, default=None)
        ),
        "it names the stage before the fault": finding(
            pick=lambda faults, offs: [None, *offs][[*offs].index(faults[0])] if faults else None
        ),
        "it compares the largest difference itself with the tolerance: as a share of the row's length": finding(
            off=lambda one, other: (one - other).abs().max().nan_to_num(nan=torch.inf)
        ),
        "it compares a row's distance itself with the tolerance: as a share of the row's length": finding(
            off=lambda one, other: (one - other).norm(dim=-1).nan_to_num(nan=torch.inf).max()
        ),
        "it takes all rows together, and so a fault in one row is lost among the others": finding(
            off=lambda one, other: ((one - other).norm() / other.norm()).nan_to_num(nan=torch.inf)
        ),
        "it takes the rows' mean, and so a fault in one row is lost among the others": finding(
            off=lambda one, other: ((one - other).norm(dim=-1) / other.norm(dim=-1)).nan_to_num(nan=torch.inf).mean()
        ),
        "it compares lengths: a row of the right length may point elsewhere": finding(
            off=lambda one, other: (
                ((one.norm(dim=-1) - other.norm(dim=-1)).abs() / other.norm(dim=-1)).nan_to_num(nan=torch.inf).max()
            )
        ),
        "NaN passes: a comparison with NaN is always False": finding(
            off=lambda one, other: ((one - other).norm(dim=-1) / other.norm(dim=-1)).nan_to_num(nan=0.0).max()
        ),
        "it wants every number the same: rounding differs, and the tolerance allows for that": finding(
            off=lambda one, other: torch.tensor(0.0 if torch.equal(one, other) else torch.inf)
        ),
        "it compares the root of the mean square itself with the tolerance: the distance, as a share of the length": (
            finding(off=by_rows(mean_square_root, length=lambda rows: 1))
        ),
        "its tolerance is always 0.01: it is the one that is given": finding(within=lambda tolerance: 0.01),
        "its tolerance is always 0.001: it is the one that is given": finding(within=lambda tolerance: 0.001),
        "the share is of the reading's length: of the right row's": finding(by_rows(of=lambda one, other: one)),
        "the distance is a sum of sizes, and the length a root of squares: both are roots of sums of squares": finding(
            by_rows(sum_of_sizes, length=length_of)
        ),
        "distance and length are sums of sizes: they are roots of sums of squares, `.norm(dim=-1)`": finding(
            by_rows(sum_of_sizes)
        ),
        "distance and length are a row's largest number alone: all of its numbers count, `.norm(dim=-1)`": finding(
            by_rows(largest)
        ),
        "the distance is the largest difference alone: all differences of a row count, `.norm(dim=-1)`": finding(
            by_rows(largest, length=length_of)
        ),
        "the distance is the root of a mean, and the length the root of a sum: both are roots of sums": finding(
            by_rows(mean_square_root, length=length_of)
        ),
        "it compares squares, distance² as a share of length²: the root is missing": finding(by_rows(power=2)),
        "it compares directions: a row of the right direction may be too long": finding(
            off=lambda one, other: (
                (1 - torch.nn.functional.cosine_similarity(one, other, dim=-1)).nan_to_num(nan=torch.inf).max()
            )
        ),
    },
    hints=(
        "For each stage a single number: how far is its worst row from the reference? Then the first stage whose "
        "number is above the tolerance.",
        "`(one - other).norm(dim=-1)` is the distance of each row, `other.norm(dim=-1)` its length: their quotient is "
        "a share. The worst row decides.",
        "What is NaN compared with? `nan > 0.01` is False, and so is `nan <= 0.01`. So ask for what is right: a stage "
        "is well if its number is at most the tolerance, and anything else is a fault.",
    ),
)
