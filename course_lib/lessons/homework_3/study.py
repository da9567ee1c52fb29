"""Homework 3: a paired study of two ways to sample."""

import statistics
from functools import partial

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.tools import draw


def grams(ids, n):
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def repeated_share(ids, n):
    """The share of its n-grams that it had said before."""
    found = grams(ids, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def with_both_copies(ids, n):
    found = grams(ids, n)
    return sum(found.count(gram) > 1 for gram in found) / len(found) if found else 0.0


def without_overlap(ids, n):
    found = [tuple(ids[i : i + n]) for i in range(0, len(ids) - n + 1, n)]
    return 1 - len(set(found)) / len(found) if found else 0.0


def paired_error(before, after):
    return statistics.stdev(b - a for a, b in zip(before, after, strict=True)) / len(before) ** 0.5


def unpaired_error(before, after):
    return ((statistics.variance(before) + statistics.variance(after)) / len(before)) ** 0.5


def verdict_of(difference, error, times=2):
    if difference + times * error < 0:
        return "less"
    return "more" if difference - times * error > 0 else "open"


def one_mean(texts, shares, n):
    return statistics.mean(shares)


def studying(
    measure=repeated_share, mean=one_mean, error=paired_error, sign=1, decide=verdict_of, short=lambda share: share
):
    def answer(before, after, n):
        shares = [
            [measure(ids, n) if len(ids) >= n else short(0.0) for ids in continuations]
            for continuations in (before, after)
        ]
        means = [mean(texts, own, n) for texts, own in zip((before, after), shares, strict=True)]
        difference, apart = sign * (means[1] - means[0]), error(*shares)
        return dict(
            before=means[0], after=means[1], difference=difference, error=apart, verdict=decide(difference, apart)
        )

    return answer


paired_study = studying()


def pooled(texts, shares, n):
    found = [gram for ids in texts for gram in grams(ids, n)]
    return 1 - len(set(found)) / len(found)


def weighed_by_length(texts, shares, n):
    sizes = [len(grams(ids, n)) for ids in texts]
    return sum(share * size for share, size in zip(shares, sizes, strict=True)) / sum(sizes)


def swapped(difference, error):
    return {"less": "more", "more": "less", "open": "open"}[verdict_of(difference, error)]


def continuations(random, alphabets, longest=14):
    """One text for each size of alphabet: the smaller it is, the more is repeated."""
    return [torch.randint(size, (draw(random, longest - 6, longest),), generator=random).tolist() for size in alphabets]


def studies(random, wanted, n=2, pairs=5):
    """A study whose verdict is the wanted one, with room on both sides of the border, and numbers that differ."""
    sizes = {"less": (2, 6), "more": (6, 2), "open": (3, 3), "nearly": (3, 4)}
    sizes |= {"just": (3, 4), "not yet": (3, 4), "just more": (4, 3), "not yet more": (4, 3)}
    sizes = sizes[wanted]
    while True:
        before, after = (continuations(random, [size] * pairs) for size in sizes)
        found = paired_study(before, after, n)
        errors = found["difference"] / found["error"] if found["error"] else 0.0
        fits = {"less": errors < -2.3, "more": errors > 2.3, "open": abs(errors) < 0.8, "nearly": -1.8 < errors < -1.2}
        fits |= {"just": -2.12 < errors < -2.02, "not yet": -1.98 < errors < -1.88}
        fits |= {"just more": 2.02 < errors < 2.12, "not yet more": 1.88 < errors < 1.98}
        shares = [repeated_share(ids, n) for ids in (*before, *after)]
        if fits[wanted] and abs(found["difference"]) > 0.02 and len(set(shares)) > 4:
            return before, after, n


def numbers(study, random):
    """the share of repeated n-grams in each text, its mean before and after, and the mean difference"""
    small = [[0, 1, 0, 1, 2], [2, 2, 2, 2, 1, 0]], [[0, 1, 2, 0], [1, 1, 0, 2, 2]], 2
    study.compare([small, *(studies(random, wanted, n) for wanted, n in (("less", 2), ("open", 1), ("more", 3)))])


def verdicts(study, random):
    """the standard error of the differences, and the verdict: less, more, or open"""
    wanted = (("nearly", 2), ("less", 2), ("nearly", 3), ("more", 2), ("open", 2), ("nearly", 2))
    study.compare(studies(random, *one) for one in wanted)
    study.compare(studies(random, one) for one in ("just", "not yet", "just more", "not yet more"))
    study.compare([studies(random, "open", 2, pairs=3), studies(random, "less", 2, pairs=12)])


def no_difference(study, random):
    """where nothing differs, it is open"""
    texts = continuations(random, (2, 3, 4))
    study.compare([(texts, texts, 2)])


def short_ones(study, random):
    """a text that is shorter than n repeats nothing"""
    before, after = continuations(random, (2, 2, 3)), continuations(random, (3, 2, 2))
    study.compare([([*before, [1]], [*after, [2, 1]], 2), ([[], *before], [*after, [1, 1]], 3)])


PAIRED_STUDY = Exercise(
    name="paired_study",
    lesson="hw3",
    title="a study of one claim, with its error",
    oracle=paired_study,
    may_call=(),
    checks={"numbers": (numbers, verdicts, no_difference, short_ones)},
    mistakes={
        "it gives the share of different n-grams: the share of repeated ones is 1 minus that": studying(
            lambda ids, n: 1 - repeated_share(ids, n)
        ),
        "it looks at single tokens, whatever n is": studying(lambda ids, n: repeated_share(ids, 1)),
        "it divides by the number of tokens: there are n − 1 n-grams fewer": studying(
            lambda ids, n: 1 - (len(set(grams(ids, n))) + n - 1) / len(ids)
        ),
        "it divides the number of different n-grams by the number of tokens: by that of all n-grams": studying(
            lambda ids, n: 1 - len(set(grams(ids, n))) / len(ids)
        ),
        "the first time is no repetition yet: of two alike, one is repeated": studying(with_both_copies),
        "its n-grams do not overlap: one begins at each token": studying(without_overlap),
        "it throws all texts together: each text has its own share, and then comes the mean": studying(mean=pooled),
        "its mean weighs a long text more: each text counts once": studying(mean=weighed_by_length),
        "the difference has the wrong sign: after minus before": studying(sign=-1),
        "its error is that of two groups: these are pairs, and the spread of their differences counts": studying(
            error=unpaired_error
        ),
        "it gives the standard deviation of the differences: divide it by the root of their number": studying(
            error=lambda before, after: paired_error(before, after) * len(before) ** 0.5
        ),
        "it divides the standard deviation by the number of pairs: by the root of that": studying(
            error=lambda before, after: paired_error(before, after) / len(before) ** 0.5
        ),
        "its standard deviation divides by the number of pairs: here it is the number less one": studying(
            error=lambda before, after: paired_error(before, after) * ((len(before) - 1) / len(before)) ** 0.5
        ),
        "its line is nearer than two standard errors": studying(decide=partial(verdict_of, times=1.88)),
        "its line is farther away than two standard errors": studying(decide=partial(verdict_of, times=2.12)),
        "it decides at one standard error: it takes two": studying(
            decide=lambda difference, error: verdict_of(difference, error, 1)
        ),
        "it decides by the difference alone: within two standard errors it is open": studying(
            decide=lambda difference, error: verdict_of(difference, error, 0)
        ),
        "less and more are swapped": studying(decide=swapped),
        "a text that is shorter than n has nothing that it could repeat: its share is 0, not 1": studying(
            short=lambda share: 1.0
        ),
    },
    hints=(
        "First one text: the list of its n-grams, as tuples. How many are there, and how many different ones "
        "(`set`)? What is missing between the two numbers was repeated.",
        "Then the pairs: one difference for each, after minus before. Their mean is the difference, and "
        "`statistics.stdev` of them, divided by the root of their number, is its standard error.",
        "The verdict is a matter of two comparisons: is the difference below minus twice its error, or above twice its "
        "error? Else it is open. A text with no n-gram at all has the share 0: do not divide by 0.",
    ),
)
