"""check, hint and grade, with functions that do not behave."""

import dataclasses
import functools
import gc
import json
import logging
import random
import re
import signal
import subprocess
import sys
import threading
import time
import types
import weakref

import numpy as np
import pytest
import torch
from lessons.proof import called

from course_lib.classroom import check, checking, grade, guard, hint
from course_lib.classroom.exercise import BrokenCheck, Wrong
from course_lib.classroom.judging import _is_empty, describe
from course_lib.lessons import exercises
from course_lib.text_worlds import hill_world

RIGHT = called("greedy_choice", lambda logits: int(logits.argmax()))


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch):
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)


@pytest.fixture
def impatient(monkeypatch):
    short = dataclasses.replace(exercises()["greedy_choice"], seconds=0.1)
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


class CannotSay(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raising(error):
    def greedy_choice(logits):
        raise error

    return greedy_choice


def holding_itself():
    rows = []
    rows.append(rows)
    return rows


@pytest.mark.parametrize(
    "answer",
    [
        *(torch.empty(shape, device="meta", dtype=torch.int64) for shape in ((), (3,))),
        *(torch.zeros(2, 2).to_sparse(), torch.tensor(1).to_sparse(), torch.zeros(2, 2).to_sparse_csr()),
        *(
            holding_itself(),
            {"a": holding_itself()},
            [10**5000],
            torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
        ),
    ],
    ids=range(9),
)
def test_an_answer_of_a_strange_kind_is_a_sentence(answer, capsys):
    said = said_of(lambda logits: answer, capsys)
    assert "✗" in said and "0 of 5 checks" in said
    assert "a mistake of the course" not in said


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (CannotSay(), "it stops with CannotSay"),
        (KeyboardInterrupt(), "it raises KeyboardInterrupt, as if somebody had pressed Ctrl-C"),
        (GeneratorExit(), "it stops with GeneratorExit"),
    ],
)
def test_an_error_of_a_strange_kind_is_a_sentence(error, sentence, capsys):
    assert sentence in said_of(raising(error), capsys)
    with pytest.raises(AssertionError, match=sentence):
        grade(raising(error))


def test_what_is_shown_is_short_and_not_rounded_away():
    assert describe({"eps": 1e-5, "theta": 1e4}) == "{'eps': 1e-05, 'theta': 10000.0}"
    assert describe(torch.tensor([0.12345, -3e-7, 0.0])) == "[0.1235, -3e-07, 0.0]"
    assert describe(({10, 9}, set())) == "({9, 10}, set())"


def nothing_yet(logits):
    """Only a docstring."""


def dots(logits): ...


def none(logits):
    return None


def bare_return(logits):
    """In several lines."""
    pass
    ...
    return


def stub(logits):
    best = logits.max()  # given
    # YOUR CODE HERE
    raise NotImplementedError(best)


def with_a_message(logits):
    """The task."""
    raise NotImplementedError(
        "write this",
    )


@functools.lru_cache
def decorated(logits):
    pass


def without_source(body):
    scope = {}
    exec(f"def greedy_choice(logits):\n    'The task.'\n    {body}", scope)
    return scope["greedy_choice"]


EMPTY = [nothing_yet, dots, none, bare_return, lambda logits: None, decorated, without_source("return None")]
UNWRITTEN = [stub, with_a_message, without_source("raise NotImplementedError('write this')")]


@pytest.mark.parametrize("function", EMPTY)
def test_an_empty_function_is_seen_to_be_empty(function):
    assert _is_empty(function)


@pytest.mark.parametrize(
    "body", ["return 0", "return logits", "return []", "return 'The task.'", "print()", "x = None", "yield", "1 / 0"]
)
def test_any_other_function_is_not_empty(body):
    assert not _is_empty(without_source(body))


@pytest.mark.parametrize("function", [f for f in EMPTY if isinstance(f, types.FunctionType)] + UNWRITTEN)
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


def dozes(logits):
    while True:
        time.sleep(0.01)


ENDLESS, WAITS = "it did not finish in time, and was stopped: does a loop in it never end?", "it waits for something"


@pytest.fixture
def one_limit(impatient, sentence, monkeypatch):
    """The limit that is not meant is far away: the machine that tests may be a busy one."""
    monkeypatch.setattr(guard, "WALL", 1000 if sentence == ENDLESS else 3)


@pytest.mark.parametrize(
    "function, sentence", [(for_ever, ENDLESS), (swallows_everything, ENDLESS), (sleeps, WAITS), (dozes, WAITS)]
)
def test_what_does_not_end_is_stopped(function, sentence, one_limit, capsys):
    before = signal.getsignal(signal.SIGALRM)
    assert sentence in said_of(function, capsys)
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[1] == 0
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        grade(called("greedy_choice", function))


@pytest.fixture(params=["its own clock", "psutil's", "the process's"])
def clocks(request, monkeypatch):
    """What tells the watchdog a thread's processor time: Linux itself; else psutil; where that cannot, the process."""
    if request.param != "its own clock":
        monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    if request.param == "the process's":
        monkeypatch.setattr(threading, "get_native_id", lambda: -1)


@pytest.mark.parametrize("function, sentence", [(for_ever, ENDLESS), (dozes, WAITS)])
def test_what_does_not_end_in_another_thread_is_stopped(function, sentence, one_limit, clocks, capsys):
    thread = threading.Thread(target=check, args=[called("greedy_choice", function)], daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and sentence in capsys.readouterr().out


@pytest.mark.parametrize("timer", [True, False])
def test_time_in_which_others_have_the_processor_does_not_count(timer, monkeypatch):
    if not timer:
        monkeypatch.delattr(signal, "setitimer")
    guard.call(time.sleep, (0.3,), 0.2, guard.Sink())


def test_what_a_call_uses_is_its_processor_time_or_a_tenth_of_the_walls(monkeypatch):
    now = {"processor": 5.0, "wall": 100.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["wall"])
    limit = guard.Limit(8.0, lambda: now["processor"])
    now |= {"processor": 7.0, "wall": 110.0}
    assert limit.left() == 6.0
    now["wall"] = 170.0
    assert limit.left() == 1.0
    now["wall"] = 180.0
    assert limit.left() == 0 and limit.error() is guard.Waits
    now["processor"] = 13.0
    assert limit.left() == 0 and limit.error() is guard.OutOfTime


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
guard.WALL = 1000  # the machine that tests may be a busy one

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
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C does, and Jupyter's square
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            check(called("greedy_choice", interrupted))
    finally:
        signal.signal(signal.SIGINT, before)


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


@pytest.fixture
def notebook(monkeypatch):
    """What the notebook has defined, and it is empty."""
    defined = {}
    monkeypatch.setattr(checking, "_notebook", lambda: defined)
    return defined


def written(name, function, module="__main__"):
    function = called(name, function)
    function.__module__ = module
    return function


def test_a_function_can_be_given_by_its_name(notebook, capsys):
    check("greedy_choice")
    assert "This kernel has no greedy_choice yet" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="This kernel has no greedy_choice yet"):
        grade("greedy_choice")
    check("greedy_chioce")
    assert capsys.readouterr().out == "There is no exercise called greedy_chioce. Did you mean greedy_choice?\n"
    notebook["greedy_choice"] = RIGHT
    check("greedy_choice")
    assert "✓ greedy_choice: 5 of 5 checks" in capsys.readouterr().out
    grade("greedy_choice")
    notebook["greedy_choice"] = 3
    check("greedy_choice")
    assert capsys.readouterr().out == "A function is asked for, and this is an object of type int.\n"


def test_a_function_under_a_name_with_a_typo_is_pointed_out(notebook, capsys):
    notebook |= {"greedy_choice": written("greedy_choice", stub), "greedy_choise": written("greedy_choise", RIGHT)}
    sentence = "There is a function greedy_choise in this notebook: did you mean to call it greedy_choice?"
    check(notebook["greedy_choice"])
    assert capsys.readouterr().out == f"greedy_choice: not done yet. {sentence}\n"
    with pytest.raises(AssertionError, match="did you mean to call it greedy_choice"):
        grade(notebook["greedy_choice"])
    del notebook["greedy_choice"]
    check("greedy_choice")
    assert capsys.readouterr().out.endswith(f"{sentence}\n")
    for name, other in (("sample", RIGHT), ("greedy_choise", written("greedy_choise", RIGHT, "torch"))):
        notebook.clear()
        notebook[name] = other
        assert said_of(stub, capsys) == "greedy_choice: not done yet\n"


def test_classes_and_functions_are_told_apart(monkeypatch, capsys):
    class Doubled:
        def __init__(self, number):
            self.number = 2 * number

    def doubles(learner, random):
        """it doubles"""
        for number in (1, 2):
            if learner.answer(number).number != 2 * number:
                raise Wrong("it does not double")

    as_class = dataclasses.replace(exercises()["greedy_choice"], oracle=Doubled, checks={"all": (doubles,)})
    greedy_choice = type("greedy_choice", (Doubled,), {})
    check(greedy_choice)
    assert "greedy_choice is a class here, and a function is asked for" in capsys.readouterr().out
    monkeypatch.setattr(checking, "exercises", lambda: {"greedy_choice": as_class})
    check(greedy_choice)
    assert "✓ greedy_choice: 1 of 1 checks" in capsys.readouterr().out
    assert "greedy_choice is a function here, and a class is asked for" in said_of(stub, capsys)

    def not_yet(self, number):
        raise NotImplementedError()

    check(type("greedy_choice", (), {"__init__": not_yet}))
    assert capsys.readouterr().out == "greedy_choice: not done yet\n"

    def crashes(self, number):
        return 1 / 0

    check(type("greedy_choice", (), {"__init__": crashes}))
    assert "it stops with ZeroDivisionError: division by zero (line" in capsys.readouterr().out


# ---- in a notebook -------------------------------------------------------------------------------


@pytest.fixture
def shell(monkeypatch):
    """The shell of a kernel, in this process. Its cells' tracebacks are printed."""
    from ipykernel.zmqshell import ZMQInteractiveShell
    from traitlets.config import Config

    def show(self, kind, error, trace):
        print(f"{kind.__name__}: {error}")

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # put back afterwards
    monkeypatch.setattr(ZMQInteractiveShell, "_showtraceback", show)
    monkeypatch.setattr(ZMQInteractiveShell, "init_environment", lambda self: None)  # colours, for all that follows
    shell = ZMQInteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    yield shell
    shell.restore_sys_module_state()
    ZMQInteractiveShell.clear_instance()


def test_a_name_that_the_kernel_does_not_have_yet_gets_a_sentence(shell, capsys):
    checking._explain_missing_names()
    result = shell.run_cell("1\ncheck(greedy_choice)")
    assert isinstance(result.error_in_exec, NameError), "for those who run a notebook, the cell has failed as ever"
    sentence = "If a cell above defines it, choose Run > Run All Above Selected Cell, and run this cell again."
    out = capsys.readouterr().out
    assert out == f"NameError: name 'check' is not defined\nThis kernel has no check yet. {sentence}\n"
    shell.run_cell("def greedy_choise(logits): return 0")
    shell.run_cell("greedy_choice")
    assert "did you mean to call it greedy_choice?" in capsys.readouterr().out
    for other in ("def f(): return zzz\nf()", "def f():\n    return x\n    x = 1\nf()", "1 / 0", "math.zzz"):
        shell.run_cell(other)
    assert capsys.readouterr().out.count("This kernel has no") == 1, "math, and no name inside of a function"


def test_somebody_elses_handler_of_errors_stays(shell, capsys):
    shell.set_custom_exc((ZeroDivisionError,), lambda *_, **__: print("theirs"))
    checking._explain_missing_names()
    shell.run_cell("1 / 0")
    assert capsys.readouterr().out == "theirs\n"


@pytest.mark.parametrize("leaves", ["exit()", "quit()", "exit(keep_kernel=True)", "get_ipython().ask_exit()"])
def test_a_function_does_not_end_the_kernel(leaves, shell, capsys):
    shell.run_cell(f"def greedy_choice(logits): {leaves}")
    check("greedy_choice")
    assert "it calls exit()" in capsys.readouterr().out and not shell.exit_now
    assert "ask_exit" not in vars(shell)


# ---- mistakes of ours ----------------------------------------------------------------------------


def breaks(learner, random):
    """a check that breaks"""
    learner.answer(torch.tensor([0.1, 0.3]))
    {}["none"]


@pytest.fixture
def broken(monkeypatch):
    real = exercises()["greedy_choice"]
    one = dataclasses.replace(real, checks={"ours": (breaks,), **real.checks})
    monkeypatch.setattr(checking, "exercises", lambda: {"greedy_choice": one})


def test_a_check_that_breaks_is_ours_and_the_others_run(broken, capsys, caplog):
    caplog.set_level(logging.INFO, "course_lib.classroom")
    lines = said_of(lambda logits: int(logits.argmax()), capsys).splitlines()
    assert lines[0] == (
        "? a check that breaks: a mistake of the course, not yours: this check itself stopped with KeyError: 'none'. "
        "Nothing of yours is lost. Please report it."
    )
    assert sum(line.startswith("✓") for line in lines) == 5
    assert lines[-1] == "greedy_choice: 5 of 6 checks. The rest is ours to fix."
    assert [record.exc_info[0] for record in caplog.records] == [KeyError], "so that a test of ours sees it"


def test_a_check_that_breaks_is_an_error_of_the_course_in_grading(broken):
    with pytest.raises(BrokenCheck, match="a mistake of the course, not yours"):
        grade(RIGHT)
    grade(RIGHT, "largest")
    with pytest.raises(AssertionError, match="it returns a float"):
        grade(called("greedy_choice", lambda logits: 0.5))


@pytest.mark.parametrize("error", [KeyError, TypeError, ZeroDivisionError, AssertionError, NameError])
def test_an_oracle_that_crashes_is_ours(error, monkeypatch, capsys):
    def oracle(logits):
        raise error("oh")

    monkeypatch.setattr(
        checking,
        "exercises",
        lambda: {"greedy_choice": dataclasses.replace(exercises()["greedy_choice"], oracle=oracle)},
    )
    out = said_of(lambda logits: int(logits.argmax()), capsys)
    assert out.count("a mistake of the course, not yours") == 5 and "0 of 5 checks. The rest is ours to fix." in out


def test_a_formula_that_crashes_explains_nothing(monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO, "course_lib.classroom")
    real = exercises()["greedy_choice"]
    one = dataclasses.replace(real, mistakes={"never said": lambda logits: {}["none"], **real.mistakes})
    monkeypatch.setattr(checking, "exercises", lambda: {"greedy_choice": one})
    out = said_of(lambda logits: len(logits) - 1 - int(logits.flip(0).argmax()), capsys)
    assert "it chooses the last" in out and "never said" not in out
    assert caplog.records and all(record.exc_info[0] is KeyError for record in caplog.records)


@pytest.mark.parametrize(
    "odd",
    [
        lambda x: x.to_sparse(),
        lambda x: x.to("meta"),
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    ],
)
def test_an_odd_tensor_is_the_functions_mistake_and_not_ours(odd, capsys):
    right = exercises()["rms_norm"].oracle
    out = said_of(lambda x, weight, eps: odd(right(x, weight, eps)), capsys, "rms_norm")
    assert "an ordinary one is asked for" in out and "mistake of the course" not in out


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize("name", ["greedy_choice", "prompt_cost"])
def test_a_huge_number_is_the_functions_mistake_and_not_ours(digits, name, capsys):
    out = said_of(lambda *_: -(10**digits), capsys, name)
    assert "<a whole number of " in out and "mistake of the course" not in out


# ---- what a notebook may have set ----------------------------------------------------------------


def softmax_of_own(logits):
    """Makes tensors of its own, and learns: whatever the notebook has set, it can."""
    factor = torch.ones(len(logits), requires_grad=True)
    assert factor.dtype is torch.float32 and factor.device.type == "cpu"
    (factor * logits).sum().backward()
    assert (factor @ logits).dtype is torch.float32 and not factor.is_inference()
    np.log(np.zeros(1))
    return int((factor * logits).argmax())


SWITCHES = {
    "a device": (lambda: torch.set_default_device("meta"), lambda: torch.ones(1).device.type, "meta"),
    "a GPU that is not there": (lambda: torch.set_default_device("cuda:7"), torch.get_default_device, None),
    "a type": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype, torch.float64),
    "no gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled, False),
    "the same results": (lambda: torch.set_deterministic_debug_mode("warn"), torch.get_deterministic_debug_mode, 1),
    "less precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
        "medium",
    ),
    "errors of NumPy": (lambda: np.seterr(all="raise"), lambda: np.geterr()["divide"], "raise"),
    "luck": (lambda: (torch.manual_seed(3), random.seed(3), np.random.seed(3)), torch.initial_seed, 3),
}


@pytest.fixture
def as_it_was():
    numpys = np.geterr()
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_float32_matmul_precision("highest")
    torch.set_deterministic_debug_mode("default")
    np.seterr(**numpys)


@pytest.mark.parametrize("switch", SWITCHES)
def test_what_a_notebook_has_set_does_not_reach_the_checks_and_stays(switch, as_it_was, capsys):
    flip, seen, expected = SWITCHES[switch]
    flip()
    expected = seen() if expected is None else expected
    assert "5 of 5 checks" in said_of(softmax_of_own, capsys)
    grade(called("greedy_choice", softmax_of_own))
    assert seen() == expected


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_what_holds_around_a_check_does_not_reach_it(context, capsys):
    with context():
        assert "5 of 5 checks" in said_of(softmax_of_own, capsys)


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "a GPU that is not there"])
def test_what_the_function_sets_holds_for_itself_alone(switch, as_it_was, capsys):
    flip, seen, _ = SWITCHES[switch]
    before = seen()

    def flips(logits):
        best = int(logits.argmax())
        flip()
        return best

    assert "5 of 5 checks" in said_of(flips, capsys)
    assert seen() == before


def test_draws_of_numpy_and_python_are_the_lessons_own(capsys):
    random.seed(3), np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3), np.random.seed(3)
    said_of(lambda logits: int(logits.argmax()) + int(random.random() + np.random.rand()) * 0, capsys)
    assert (random.random(), np.random.rand()) == expected


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
