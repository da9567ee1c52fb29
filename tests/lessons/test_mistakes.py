"""Every mistake proves itself: its own formula, handed in as the answer, gets its own sentence, and no other first."""

import dataclasses
import os
import secrets
import zlib
from unittest import mock

import pytest

from course_lib.classroom.judging import Learner, attempt
from course_lib.lessons import exercises

# no exercise is watched or hurried: the formulas stand in course_lib themselves, and a busy machine is slow, not wrong
EXERCISES = {
    name: dataclasses.replace(exercise, may_call=None, seconds=600)
    for name, exercise in exercises().items()
    if exercise.mistakes
}


def seeds(name):
    """Of the draws: those of the run before; with COURSE_FRESH=1 others, and more of them."""
    return [secrets.randbits(62) for _ in range(3)] if os.environ.get("COURSE_FRESH") else [zlib.crc32(name.encode())]


def first_said(exercise, function, seed, hear=lambda local: None):
    """The first sentence about the function, or None; `hear` gets the mistakes that one comparison alone knows, in it,
    and none after it."""
    compare = Learner.compare

    def heard(learner, inputs, mistakes=None, crashes=None):
        hear({**(mistakes or {}), **(crashes or {})})
        try:
            compare(learner, inputs, mistakes, crashes)
        finally:
            hear({})

    with mock.patch.object(Learner, "compare", heard):
        return next((wrong.sentence for _, wrong, _ in attempt(exercise, function, seed) if wrong), None)


def sentences(exercise, seed):
    """Of all its mistakes, those of the whole exercise first; the right answer goes through all comparisons."""
    found = dict.fromkeys(exercise.mistakes)
    assert first_said(exercise, exercise.oracle, seed, found.update) is None
    return [*found]


def said_of_its_maker(exercise, sentence, seed, crashes):
    """What somebody hears first who makes this mistake wherever it is known, and answers right elsewhere.

    A formula that raises says nothing of that input: there its maker crashes, or answers right.
    """
    known = dict(exercise.mistakes)

    def hear(local):
        known.clear()
        known.update({**exercise.mistakes, **local})

    def maker(*given):
        try:
            return known.get(sentence, exercise.oracle)(*given)
        except (RuntimeError, IndexError):
            if crashes:
                raise
            return exercise.oracle(*given)

    return first_said(exercise, maker, seed, hear)


@pytest.mark.parametrize("name", EXERCISES)
def test_each_mistake_is_told_by_its_own_sentence(name):
    exercise, others = EXERCISES[name], []
    for seed in seeds(name):
        for sentence in sentences(exercise, seed):
            said = said_of_its_maker(exercise, sentence, seed, crashes=False)
            if said != sentence and said_of_its_maker(exercise, sentence, seed, crashes=True) != sentence:
                others.append(f"{name}, seed {seed}: who makes the mistake\n  {sentence}\nis told\n  {said}")
    assert not others, "\n".join(["a formula is not told by its own sentence", *others])
