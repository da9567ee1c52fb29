"""`check`, `hint` and `grade`: a learner's function against the exercise that has its name."""

import dataclasses
import difflib
import inspect
import linecache
import secrets
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable

from course_lib.arguments import shown
from course_lib.classroom import my_llm, records
from course_lib.classroom.exercise import BrokenCheck, Exercise, NotDone
from course_lib.classroom.guard import MANY_CHARACTERS
from course_lib.classroom.location import shell
from course_lib.lessons import exercises

CAUGHT_UP = "# filled in by catch-up: the course's own version"
PATIENCE = 3  # graded functions have so many times as long: a slow processor must not cost marks
TYPO = 0.85  # as alike, by difflib, are a name and itself with a typo: `silu` is no typo of `swiglu`, at 0.8
RUN_ABOVE = "Run > Run All Above Selected Cell"
hints_given = Counter()  # in this session, by exercise


def check(function: Callable | str) -> None:
    """Try a function that an exercise asks for, on inputs drawn anew each time, and print what came out.

    A line for each check (✓, or ✗ with what is wrong and an input that shows it), then how many passed. Nothing that
    the function does ends in a traceback. When all pass, it is noted for `progress()`, and kept in `my_llm.py`.
    A name stands for the notebook's function of that name.
    """
    from course_lib.classroom.judging import attempt

    try:
        exercise, function = _find(function)
        results = list(attempt(exercise, function, secrets.randbits(62)))
    except Refused as refused:
        print(refused)
        return
    except NotDone:
        print(_not_done(exercise))
        return

    said = set()
    for says, wrong, _ in results:
        if wrong is None:
            print(f"✓ {says}")
        elif isinstance(wrong, BrokenCheck):
            print(f"? {says}: {wrong.sentence}.")
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
        ours = all(isinstance(wrong, BrokenCheck | None) for _, wrong, _ in results)
        next_step = "The rest is ours to fix." if ours else f"hint({exercise.name}) helps."
        print(f"{exercise.name}: {passed} of {total} checks. {next_step}")
        return
    print(f"✓ {exercise.name}: {passed} of {total} checks")
    if _is_filled_in(function):
        print("This is the course's own version, filled in by catch-up: write yours over it, and it counts.")
        return
    for sentence in (*records.note(exercise.name), *my_llm.keep(exercise, function)):
        print(sentence)


def hint(function: Callable | str) -> None:
    """Print the next of three hints for an exercise, given as the function or its name."""
    try:
        exercise = _exercise(function)
    except Refused as refused:
        print(refused)
        return
    hints_given[exercise.name] += 1
    number = min(hints_given[exercise.name], len(exercise.hints))
    print(f"Hint {number} of {len(exercise.hints)}: {exercise.hints[number - 1]}")


def grade(function: Callable | str, part: str | None = None) -> None:
    """For graded cells: nothing when the function is right (in one part of the exercise, or all), else an error.

    The inputs are others than `check` draws, and the same each time, so marks are reproducible. Nothing is printed,
    kept or noted. Write the graded cell so that it imports this again: nbgrader restores the cell, and what a
    submission called `check`, `grade` or `print` does not count. What cannot be defended against is a submission
    that rewrites course_lib or torch inside its own process: read the ones you doubt.

    Raises:
        AssertionError: it is not right, not done, or not there; the message is the sentence `check` would give.
        BrokenCheck: it passed all checks but those that crashed, which is for a person to look at.
    """
    from course_lib.classroom.judging import attempt

    try:
        exercise, function = _find(function)
    except Refused as refused:
        raise AssertionError(str(refused)) from None
    if part is not None and not (isinstance(part, str) and part in exercise.checks):
        raise ValueError(f"{exercise.name} has the parts {', '.join(exercise.checks)}, not {shown(part)}")
    exercise = dataclasses.replace(exercise, seconds=PATIENCE * exercise.seconds)
    seed = zlib.crc32(f"{exercise.name}, graded".encode())
    broken = None
    try:
        for _, wrong, _ in attempt(exercise, function, seed, part):
            if isinstance(wrong, BrokenCheck):
                broken = wrong  # said only if nothing is wrong with the function
            elif wrong is not None:
                raise AssertionError(f"{exercise.name}: {wrong.sentence}" + (f". {wrong.shown}" if wrong.shown else ""))
    except NotDone:
        raise AssertionError(_not_done(exercise)) from None
    if broken is not None:
        raise broken


class Refused(Exception):
    """What was given is not to be checked: why, as a sentence."""


def _find(function: Callable | str) -> tuple[Exercise, Callable]:
    """The exercise, and the function itself where its name was given.

    Raises:
        Refused: there is no such exercise, or no such function.
    """
    exercise = _exercise(function)
    if isinstance(function, str):
        name, function = function, _notebook().get(function)
        if function is None or isinstance(function, str):
            raise Refused(_not_there(name))
        return _find(function)
    if inspect.isclass(function) != inspect.isclass(exercise.oracle):
        given, asked, word = (
            ("class", "function", "def") if inspect.isclass(function) else ("function", "class", "class")
        )
        raise Refused(f"{exercise.name} is a {given} here, and a {asked} is asked for: write it with `{word}`.")
    return exercise, function


def _exercise(function: Callable | str) -> Exercise:
    name = function if isinstance(function, str) else getattr(function, "__name__", None)
    can_be_one = isinstance(function, str) or inspect.isroutine(function) or inspect.isclass(function)
    if not (can_be_one and isinstance(name, str)):
        raise Refused(f"A function is asked for, and this is an object of type {type(function).__name__}.")
    if name == "<lambda>":
        raise Refused("This function has no name: write it with `def`.")
    if name not in exercises():
        close = difflib.get_close_matches(name, exercises(), n=3)
        did_you = f" Did you mean {' or '.join(close)}?" if close else ""
        raise Refused(f"There is no exercise called {name}.{did_you}")
    return exercises()[name]


def _notebook() -> dict:
    """What the notebook has defined."""
    return vars(sys.modules["__main__"])


def _not_done(exercise: Exercise) -> str:
    return f"{exercise.name}: not done yet" + (f". {like}" if (like := _like(exercise.name)) else "")


def _like(name: str) -> str:
    """A sentence about a function of the notebook that may be meant by this name; empty where there is none."""
    own = [other for other, value in _notebook().items() if getattr(value, "__module__", None) == "__main__"]
    functions = [other for other in own if inspect.isroutine(_notebook()[other]) and other not in exercises()]
    close = difflib.get_close_matches(name, functions, n=1, cutoff=TYPO)
    return f"There is a function {close[0]} in this notebook: did you mean to call it {name}?" if close else ""


def _not_there(name: str) -> str:
    sentences = [
        f"This kernel has no {name} yet. If a cell above defines it, choose {RUN_ABOVE}, and run this cell again."
    ]
    if name in exercises() and (like := _like(name)):
        sentences.append(like)
    return " ".join(sentences)


def _explain_missing_names() -> None:
    """After the traceback of a cell that uses an unknown name, as in mid-lesson with a new kernel, say what helps."""
    ipython = shell()
    if ipython is None or ipython.custom_exceptions:  # there can be but one: somebody else's
        return

    def explain(ipython, kind, error, trace, tb_offset=None):
        ipython.showtraceback((kind, error, trace), tb_offset=tb_offset)
        *_, (frame, _) = traceback.walk_tb(trace)
        if kind is NameError and frame.f_locals is frame.f_globals:  # of the cell itself, and not of a function
            print(_not_there(error.name))

    ipython.set_custom_exc((NameError,), explain)


def _is_filled_in(function: Callable) -> bool:
    cell = getattr(inspect.unwrap(function), "__code__", None)
    return cell is not None and any(line.rstrip() == CAUGHT_UP for line in linecache.getlines(cell.co_filename))


def _tell_what_it_printed(sink) -> None:
    if sink.characters > MANY_CHARACTERS:
        print(f"It printed {sink.characters:,} characters, which were held back: too much to read.")
    else:
        beginning = sink.beginning.strip().split("\n")[0][:80]
        print(f"It printed while it was checked (held back here). That began: {beginning}")


_explain_missing_names()
