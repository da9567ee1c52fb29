"""`check`, `hint` and `grade`: a learner's function against the exercise that has its name."""

import dataclasses
import difflib
import inspect
import linecache
import secrets
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

from course_lib.classroom import my_llm, records
from course_lib.classroom.exercise import Exercise, NotDone, Wrong
from course_lib.classroom.exercises import exercises
from course_lib.classroom.guard import MANY_CHARACTERS

CAUGHT_UP = "# filled in by catch-up: the course's own version"
PATIENCE = 5  # graded functions have so many times as long: a busy machine must not cost marks
hints_given = Counter()  # in this session, by exercise


def check(function: Callable) -> None:
    """Try a function that an exercise asks for, on inputs drawn anew each time, and print what came out.

    A line for each check (✓, or ✗ with what is wrong and an input that shows it), then how many passed. Nothing that
    the function does ends in a traceback. When all pass, it is noted for `progress()`, and kept in `my_llm.py`.
    """
    exercise = _find(function, print)
    if exercise is None:
        return
    try:
        results = list(attempt(exercise, function, secrets.randbits(62)))
    except NotDone:
        print(f"{exercise.name}: not done yet")
        return

    said = set()
    for says, wrong, _ in results:
        if wrong is None:
            print(f"✓ {says}")
        elif wrong.sentence in said:
            print(f"✗ {says}: as above")
        else:
            said.add(wrong.sentence)
            print(f"✗ {says}: {wrong.sentence}")
            if wrong.shown:
                print(f"    {wrong.shown}")
    learner = results[-1][2]
    if learner.sink.characters:
        _tell_what_it_printed(learner.sink)
    passed = sum(wrong is None for _, wrong, _ in results)
    total = sum(map(len, exercise.checks.values()))
    if passed < total:
        print(f"{exercise.name}: {passed} of {total} checks. hint({exercise.name}) helps.")
        return
    print(f"✓ {exercise.name}: {passed} of {total} checks")
    if _is_filled_in(function):
        print("This is the course's own version, filled in by catch-up: write yours over it, and it counts.")
        return
    for sentence in (*records.note(exercise.name), *my_llm.keep(exercise, function)):
        print(sentence)


def attempt(exercise: Exercise, function: Callable, seed: int, part: str | None = None) -> Iterator[tuple]:
    """Run the checks (of one part, or all): yields for each its docstring, the `Wrong` or None, and the `Learner`.

    Raises:
        NotDone: the function is not written yet.
    """
    import torch

    from course_lib.classroom.judging import Learner

    learner = Learner(function, exercise, seed)
    chosen = exercise.checks.values() if part is None else [exercise.checks[part]]
    for number, one in enumerate(check for group in chosen for check in group):
        random = torch.Generator().manual_seed(seed + number)
        try:
            one(learner, random)
            yield one.__doc__, None, learner
        except Wrong as wrong:
            yield one.__doc__, wrong, learner
            if learner.left <= 0:
                return  # it would only run out of time again


def hint(function: Callable | str) -> None:
    """Print the next of three hints for an exercise, given as the function or its name."""
    exercise = exercises().get(function) if isinstance(function, str) else None
    if exercise is None:
        exercise = _find(function, print)
    if exercise is None:
        return
    hints_given[exercise.name] += 1
    number = min(hints_given[exercise.name], len(exercise.hints))
    print(f"Hint {number} of {len(exercise.hints)}: {exercise.hints[number - 1]}")


def grade(function: Callable, part: str | None = None) -> None:
    """For graded cells: nothing when the function is right (in one part of the exercise, or all), else an error.

    The inputs are others than `check` draws, and the same each time, so marks are reproducible. Nothing is printed,
    kept or noted. Write the graded cell so that it imports this again: nbgrader restores the cell, and what a
    submission called `check`, `grade` or `print` does not count. What cannot be defended against is a submission
    that rewrites course_lib or torch inside its own process: read the ones you doubt.

    Raises:
        AssertionError: it is not right, not done, or not there; the message is the sentence `check` would give.
    """

    def refuse(sentence: str) -> None:
        raise AssertionError(sentence)

    exercise = _find(function, refuse)
    if part is not None and part not in exercise.checks:
        raise ValueError(f"{exercise.name} has the parts {', '.join(exercise.checks)}, not {part!r}")
    exercise = dataclasses.replace(exercise, seconds=PATIENCE * exercise.seconds)
    try:
        for _, wrong, _ in attempt(exercise, function, zlib.crc32(f"{exercise.name}, graded".encode()), part):
            if wrong is not None:
                refuse(f"{exercise.name}: {wrong.sentence}" + (f". {wrong.shown}" if wrong.shown else ""))
    except NotDone:
        raise AssertionError(f"{exercise.name}: not done yet") from None


def _find(function: Callable | str, tell: Callable[[str], None]) -> Exercise | None:
    name = function if isinstance(function, str) else getattr(function, "__name__", None)
    if not isinstance(function, str) and not (inspect.isroutine(function) and isinstance(name, str)):
        tell(f"A function is asked for, and this is an object of type {type(function).__name__}.")
    elif name == "<lambda>":
        tell("This function has no name: write it with `def`.")
    elif name in exercises():
        return exercises()[name]
    else:
        close = difflib.get_close_matches(name, exercises(), n=3)
        tell(f"There is no exercise called {name}." + (f" Did you mean {' or '.join(close)}?" if close else ""))
    return None


def _is_filled_in(function: Callable) -> bool:
    cell = getattr(inspect.unwrap(function), "__code__", None)
    return cell is not None and any(line.rstrip() == CAUGHT_UP for line in linecache.getlines(cell.co_filename))


def _tell_what_it_printed(sink) -> None:
    if sink.characters > MANY_CHARACTERS:
        print(f"It printed {sink.characters:,} characters, which were held back: too much to read.")
    else:
        beginning = sink.beginning.strip().split("\n")[0][:80]
        print(f"It printed while it was checked (held back here). That began: {beginning}")
