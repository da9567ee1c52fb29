"""Lesson 00: the choice of one token."""

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.prediction import sampling


def scores(random, sizes=(2, 3, 4, 40), times=8):
    """Scores between 0 and 1 in a random order, no two alike; each size several times."""
    for size in sizes:
        for _ in range(times):
            yield (torch.randperm(size, generator=random) + torch.rand(1, generator=random)) / (size + 1)


def largest(choose, random):
    """the id of the largest score"""
    choose.compare(4 * s for s in scores(random))


def negative(choose, random):
    """also when all scores are below 0"""
    always_0 = "when all scores are below 0, it answers 0: nothing beats a search that starts from the score 0"
    choose.compare((s - 2 for s in scores(random)), {always_0: lambda s: 0})


def ruled_out(choose, random):
    """also when scores of −∞ rule tokens out, and when there is only one token"""
    choose.compare([*(s.where(s >= s.median(), -torch.inf) for s in scores(random)), torch.tensor([1.5])])


def large(choose, random):
    """also when scores are so large that e to their power is infinite"""
    choose.compare(60 + 100 * s for s in scores(random))


def ties(choose, random):
    """of several equally large scores, the lowest id"""
    choose.compare(torch.cat([s, s.max()[None], s[:1] - 1]) - 0.5 for s in scores(random))


EXERCISES = (
    Exercise(
        name="greedy_choice",
        lesson="00",
        title="the token with the largest score",
        oracle=lambda logits: int(sampling.greedy(logits)),
        checks={"largest": (largest, negative, ruled_out, large), "ties": (ties,)},
        mistakes={
            "it gives the largest score itself: its id, the place where it stands, is asked for": lambda s: s.max(),
            "its ids are one too high: they count from 0": lambda s: s.argmax() + 1,
            "it never chooses the last token: the search ends one too early": lambda s: s[:-1].argmax(),
            "it never chooses the first token: the search begins one too late": lambda s: s[1:].argmax() + 1,
            "it drops the digits after the point: 2.7 is larger than 2.1": lambda s: s.int().argmax(),
            "it takes the score farthest from 0: −3 is smaller than −1": lambda s: s.abs().argmax(),
            "it gives the id of the smallest score": lambda s: s.argmin(),
            "it leaves out the −∞ ones and counts what is left: an id is the place among all": lambda s: s[
                s > -torch.inf
            ].argmax(),
            "e to the power of large scores is infinite, and so they look alike to it": lambda s: s.exp().argmax(),
            "of two equally large scores it chooses the last: take the lowest id": lambda s: (s == s.max()).nonzero()[
                -1, 0
            ],
        },
        hints=(
            "`logits.max()` is the largest score. The answer is where it stands.",
            "`logits == logits.max()` is True wherever the largest score stands, which may be at several places.",
            "`(logits == logits.max()).nonzero()` lists these places in order: the first is the lowest id. "
            "Give it back as a whole number: `int(…)`.",
        ),
    ),
)
