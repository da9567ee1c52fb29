"""check, hint and grade, with functions that do not behave."""

import dataclasses
import gc
import json
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch
from classroom.proofs import called

from course_lib.classroom import check, checking, grade, guard, hint
from course_lib.classroom.exercises import exercises
from course_lib.classroom.judging import describe
from course_lib.text_worlds import hill_world

RIGHT = called("greedy_choice", lambda logits: int(logits.argmax()))


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch):
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)


@pytest.fixture
def impatient(monkeypatch):
    short = dataclasses.replace(exercises()["greedy_choice"], seconds=0.3)
    monkeypatch.setattr(checking, "exercises", lambda: {"greedy_choice": short})


def said_of(function, capsys, name="greedy_choice"):
    check(called(name, function))
    out, err = capsys.readouterr()
    assert err == "" and "Traceback" not in out
    return out


def test_a_right_function_gets_a_line_a_check(capsys):
    lines = said_of(lambda logits: int(logits.argmax()), capsys).splitlines()
    assert len(lines) == 6 and all(line.startswith("✓ ") for line in lines)
    assert lines[-1] == "✓ greedy_choice: 5 of 5 checks"


def test_a_wrong_function_gets_the_symptom_and_the_smallest_input(capsys):
    lines = said_of(lambda logits: len(logits) - 1 - int(logits.flip(0).argmax()), capsys).splitlines()
    assert lines[4].endswith("of two equally large scores it chooses the last: take the lowest id")
    assert (lines[5].count(",") == 3 and lines[5].endswith("right is 0")) or lines[5].endswith("right is 1")
    assert lines[6] == "greedy_choice: 4 of 5 checks. hint(greedy_choice) helps."


def test_what_is_shown_is_short_and_not_rounded_away():
    assert describe({"eps": 1e-5, "theta": 1e4}) == "{'eps': 1e-05, 'theta': 10000.0}"
    assert describe(torch.tensor([0.12345, -3e-7, 0.0])) == "[0.1235, -3e-07, 0.0]"
    assert describe(({10, 9}, set())) == "({9, 10}, set())"


def nothing_yet(logits):
    """Only a docstring."""


def dots(logits): ...


def none(logits):
    return None


def stub(logits):
    best = logits.max()  # given
    # YOUR CODE HERE
    raise NotImplementedError(best)


@pytest.mark.parametrize("function", [nothing_yet, dots, none, stub])
def test_an_unwritten_function_is_not_done_yet(function, capsys):
    assert said_of(function, capsys) == "greedy_choice: not done yet\n"
    with pytest.raises(AssertionError, match="not done yet"):
        grade(called("greedy_choice", function))


def test_what_pytorch_has_not_implemented_is_a_crash(capsys):
    def torch_cannot(logits):
        return torch.ops.aten.nonzero_static(logits.to("meta"), size=1).foo

    assert "it stops with " in said_of(torch_cannot, capsys)


def for_ever(logits):
    while True:
        pass


def sleeps(logits):
    time.sleep(60)


def swallows_everything(logits):
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722
            pass


@pytest.mark.parametrize("function", [for_ever, sleeps, swallows_everything])
def test_an_endless_loop_is_stopped(function, impatient, capsys):
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    assert "it did not finish in time" in said_of(function, capsys)
    assert time.monotonic() - began < 9
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[1] == 0
    with pytest.raises(AssertionError, match="did not finish in time"):
        grade(called("greedy_choice", function))


def test_an_endless_loop_in_another_thread_is_stopped(impatient, capsys):
    thread = threading.Thread(target=check, args=[called("greedy_choice", for_ever)])
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and "it did not finish in time" in capsys.readouterr().out


def test_the_watchdog_leaves_nothing_behind(capsys, monkeypatch):
    """Without an interval timer, as on Windows."""
    monkeypatch.delattr(signal, "setitimer")
    for _ in range(5):
        assert "5 of 5" in said_of(lambda logits: int(logits.argmax()), capsys)


def test_a_profiler_still_works_after_the_watchdog():
    """In a process of its own: where an exception on its way is taken back, Python 3.11 hangs in the profiled call."""
    program = """
import signal, sys
del signal.setitimer
from course_lib.classroom import guard
from course_lib.classroom.exercise import Wrong

def for_ever():
    while True:
        pass

for function in (int, for_ever, int):
    try:
        guard.call(function, (), 0.2, guard.Sink())
    except Wrong as wrong:
        print(wrong)

def profiled():
    return 1

sys.setprofile(lambda *_: None)
profiled()
sys.setprofile(None)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "did not finish in time" in done.stdout and done.stdout.endswith("done\n"), done.stderr


def test_somebody_elses_alarm_still_rings(capsys):
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        said_of(lambda logits: int(logits.argmax()), capsys)
        time.sleep(0.6)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rung


def test_the_learners_own_interrupt_passes_through():
    def interrupted(logits):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(called("greedy_choice", interrupted))


def test_printing_is_held_back(capsys):
    def little(logits):
        print("best so far", len(logits))
        return int(logits.argmax())

    def megabytes(logits):
        print("x" * 200_000)
        print("y" * 200_000, file=sys.stderr)
        return int(logits.argmax())

    assert "That began: best so far 2\n" in said_of(little, capsys)
    out = said_of(megabytes, capsys)
    assert len(out) < 1_000 and "characters, which were held back" in out and "5 of 5 checks" in out


def test_the_lesson_keeps_its_own_luck(capsys):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    said_of(lambda logits: int(torch.rand(5).argmax()), capsys)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    "what, sentence",
    [
        (3, "A function is asked for, and this is an object of type int."),
        (None, "A function is asked for, and this is an object of type NoneType."),
        (lambda x: x, "This function has no name: write it with `def`."),
        (called("greedy_chioce", RIGHT), "There is no exercise called greedy_chioce. Did you mean greedy_choice?"),
        (called("zzz", RIGHT), "There is no exercise called zzz."),
    ],
)
def test_what_is_no_exercise(what, sentence, capsys):
    check(what)
    assert capsys.readouterr().out == sentence + "\n"
    with pytest.raises(AssertionError):
        grade(what)


def test_hints_come_one_by_one(capsys, monkeypatch):
    monkeypatch.setattr(checking, "hints_given", type(checking.hints_given)())
    for given in (RIGHT, "greedy_choice", RIGHT, RIGHT):
        hint(given)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines] == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Hint 3 of 3"]
    hint("greedy")
    assert "Did you mean greedy_choice?" in capsys.readouterr().out


def test_grade_says_nothing_when_right(capsys):
    grade(RIGHT)
    assert capsys.readouterr() == ("", "")


def test_grade_gives_part_of_the_points(capsys):
    last = called("greedy_choice", lambda logits: len(logits) - 1 - int(logits.flip(0).argmax()))
    grade(last, "largest")
    with pytest.raises(AssertionError, match="it chooses the last"):
        grade(last, "ties")
    with pytest.raises(ValueError, match="parts largest, ties"):
        grade(last, "tie")


def test_grade_asks_the_same_each_time():
    asked = [[], []]
    for inputs in asked:

        def greedy_choice(logits, inputs=inputs):
            inputs.append(logits.tolist())
            return int(logits.argmax())

        grade(greedy_choice)
    assert json.dumps(asked[0]) == json.dumps(asked[1])


def test_grade_gives_a_guesser_the_same_mark_each_time():
    marks = set()
    for _ in range(5):
        try:
            grade(called("greedy_choice", lambda logits: int(torch.randint(len(logits), ()))))
        except AssertionError as error:
            marks.add(str(error))
    assert len(marks) == 1


def test_grade_is_not_taken_in():
    class Equal(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    def prints_a_pass(logits):
        print("✓ greedy_choice: 5 of 5 checks")

    def leaves(logits):
        sys.exit(0)

    def memorised(logits):
        return {2: 1, 3: 0, 4: 2, 40: 7}.get(len(logits), 0)

    for function in (lambda logits: Equal(0), prints_a_pass, leaves, memorised):
        with pytest.raises(AssertionError):
            grade(called("greedy_choice", function))


def by_the_library(keys, shift, theta):
    from course_lib.input_processing.positions import rotate, rotation_angles  # allowed, in this exercise

    return rotate(keys, rotation_angles(torch.full((len(keys),), shift), keys.shape[-1], theta))


def rope_by_the_library(x, positions, theta):
    from course_lib.input_processing.positions import rotate, rotation_angles

    return rotate(x, rotation_angles(positions, x.shape[-1], theta))


def test_homework_may_call_what_its_exercise_says(capsys):
    assert "4 of 4 checks" in said_of(by_the_library, capsys, "move_keys")
    assert "it calls `rotation_angles` of course_lib" in said_of(rope_by_the_library, capsys, "apply_rope")


def test_what_the_collector_of_garbage_ends_in_the_learners_function_is_not_the_learners_call():
    exercise, left_behind = exercises()["byte_words"], [hill_world.stories()]
    left_behind.append(left_behind)  # a ring, which the collector alone can free
    next(left_behind[0])
    there = weakref.ref(left_behind[0])
    del left_behind
    with guard.watched((), exercise) as called:
        assert there() is not None
        guard.call(gc.collect, (), 5.0, guard.Sink())
    assert there() is None and called == []


@pytest.mark.parametrize("name", ["move_keys", "byte_words", "best_pair", "turn_heads"])
def test_homework_that_asks_the_checks_has_no_points_in_any_part(name):
    exercise = exercises()[name]
    for part in exercise.checks:
        for stolen in (lambda *given: exercise.oracle(*given), lambda *given: exercises()[name].oracle(*given)):
            with pytest.raises(AssertionError, match="of course_lib, and that is what you are to write"):
                grade(called(name, stolen), part)
