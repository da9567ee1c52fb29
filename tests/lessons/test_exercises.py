"""Every exercise of the course, proven: right answers pass, each wrong one fails with its own diagnostic."""

import ast
import contextlib
import inspect
import json
import logging
import os
import random
import secrets

import pytest
from lessons.proof import called, proofs

from course_lib.classroom import check, checking, grade
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import lesson_names
from course_lib.lessons import exercises

NOTEBOOKS = [LESSONS / name for name in lesson_names()]
EXERCISES, PROOFS = exercises(), proofs()
LONG = {name for name, exercise in EXERCISES.items() if exercise.seconds > 8}  # they train a model
FRESH = bool(os.environ.get("COURSE_FRESH"))

RIGHT = [
    # of those that take long, the lesson's own solution is enough for `make test`
    pytest.param(name, f, id=f"{name}-{f.__name__}", marks=[pytest.mark.slow] if name in LONG else [])
    for name, proof in PROOFS.items()
    for f in proof.rights
]
WRONG = [
    pytest.param(name, f, diagnosis, id=f"{name}-{f.__name__}")
    for name, proof in PROOFS.items()
    for f, diagnosis in proof.wrongs
]


@pytest.fixture(autouse=True)
def nothing_of_ours_breaks(caplog):
    """A check or the formula of a mistake that crashes is not the learner's to see, and so it is seen here."""
    caplog.set_level(logging.INFO, "course_lib.classroom")
    yield
    assert not caplog.records


@pytest.fixture(autouse=True)
def the_same_draws_each_time(request, monkeypatch):
    """`check` draws its inputs anew each time; here a run draws those of the run before.

    After a change of a check, COURSE_FRESH=1 with `-m slow` draws more of them, and others each time.
    """
    if not FRESH:
        monkeypatch.setattr(secrets, "randbits", random.Random(request.node.name).getrandbits)


def draws(name, at_least):
    """How often to try a proof, each time on other inputs."""
    return 20 if FRESH and name not in LONG else at_least


def sources():
    """The code cells of all lessons."""
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield notebook.stem, "".join(cell["source"])


def checked_in(source):
    """The names that a cell gives to `check`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            yield ast.unparse(node.args[0])


def solution(name):
    """The function as the lesson's solution has it, made by running the cells of its own and the imports before."""
    scope, lesson = {}, None
    for stem, source in sources():
        if stem != lesson:
            scope, lesson = {}, stem
        tree = ast.parse(source)
        defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if name in defined and "### BEGIN SOLUTION" in source:
            exec(compile(source, f"<{name}>", "exec"), scope)
            return scope[name]
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef):
                with contextlib.suppress(NameError):  # a default value, or a decorator, that the lesson computes
                    exec(compile(ast.Module([node], []), "<lesson>", "exec"), scope)
    raise LookupError(f"no lesson has a solution of {name}")


def faults(function, exercise):
    """What is said of each part of the exercise, in order: nothing of those that the function passes."""
    for part in exercise.checks:
        try:
            grade(function, part)
            yield None
        except AssertionError as error:
            assert str(error).startswith(exercise.name)
            yield str(error)


def test_no_function_that_a_lesson_hands_out_is_taken_for_a_typo(monkeypatch):
    defined = {}
    monkeypatch.setattr(checking, "_notebook", lambda: defined)
    for _, source in sources():
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                defined[node.name] = type(sources)(sources.__code__, {"__name__": "__main__"})
    assert len(defined) > 100 and not [name for name in EXERCISES if checking._like(name)]


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_every_exercise_has_a_proof():
    assert EXERCISES.keys() == PROOFS.keys()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_proof_is_large_enough(name):
    proof = PROOFS[name]
    diagnoses = [diagnosis for _, diagnosis in proof.wrongs]
    assert len(proof.rights) >= 2 and len(proof.wrongs) >= 5
    for diagnosis in diagnoses:
        assert sum(diagnosis in other for other in diagnoses) == 1, "each wrong answer has a diagnostic of its own"


def test_the_lessons_check_what_is_registered_and_nothing_else():
    checked = {(stem.split("_")[0], name) for stem, source in sources() for name in checked_in(source)}
    assert checked == {(exercise.lesson, name) for name, exercise in EXERCISES.items()}


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_says_what_it_is(name):
    exercise = EXERCISES[name]
    checks = [check for group in exercise.checks.values() for check in group]
    assert all(inspect.getdoc(check) for check in checks) and len(set(exercise.hints)) == 3


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_in_the_lesson_is_right(name, capsys):
    function = solution(name)
    check(function)
    assert last_line(capsys).startswith(f"✓ {name}: ")
    assert not any(faults(function, EXERCISES[name]))


@pytest.mark.parametrize("name, function", RIGHT)
def test_a_right_answer_gets_all_points(name, function):
    assert not any(faults(called(name, function), EXERCISES[name]))


@pytest.mark.usefixtures("bad_input")  # a wrong answer may hand the library anything
@pytest.mark.parametrize("name, function, diagnosis", WRONG)
def test_a_wrong_answer_loses_points_for_its_own_reason(name, function, diagnosis):
    others = {other for _, other in PROOFS[name].wrongs} - {diagnosis}
    first = next(filter(None, faults(called(name, function), EXERCISES[name])))
    assert diagnosis in first and not any(other in first for other in others)


@pytest.mark.slow  # graded inputs are always the same; these are others
@pytest.mark.parametrize("name, function", RIGHT)
def test_a_right_answer_is_accepted_on_any_inputs(name, function, capsys):
    said = set()
    for _ in range(draws(name, 2)):
        check(called(name, function))
        said.add(capsys.readouterr().out)
    assert len(said) == 1 and f"✓ {name}: " in said.pop(), "the same words each time: nbval compares them"


@pytest.mark.slow
@pytest.mark.usefixtures("bad_input")
@pytest.mark.parametrize("name, function, diagnosis", WRONG)
def test_a_wrong_answer_gets_its_own_diagnostic_on_any_inputs(name, function, diagnosis, capsys):
    others = {other for _, other in PROOFS[name].wrongs} - {diagnosis}
    for _ in range(draws(name, 1)):
        check(called(name, function))
        lines = capsys.readouterr().out.splitlines()
        assert not lines[-1].startswith("✓")
        first = next(line for line in lines if line.startswith("✗"))
        assert diagnosis in first and not any(other in first for other in others)


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("sabotage", ["crash", "nothing", "type", "change", "exit", "recursion", "stub", "nan"])
def test_any_exercise_survives_sabotage(name, sabotage, capsys):
    import torch

    right = PROOFS[name].rights[0]
    changed = []

    def crash(*arguments):
        raise ValueError("boom")

    def nothing(*arguments):
        right(*arguments)

    def other_type(*arguments):
        return object()

    def change(*arguments):
        answer = right(*arguments)
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                argument.zero_() if argument.any() else argument.fill_(1)
            elif isinstance(argument, list):
                argument.append(None)
            elif isinstance(argument, dict):
                argument[None] = None
            else:
                continue
            changed.append(argument)
        return answer

    def leave(*arguments):
        raise SystemExit(0)

    def recursion(*arguments):
        return recursion(*arguments)

    def stub(*arguments):
        # YOUR CODE HERE
        raise NotImplementedError()

    def nan(*arguments):
        answer = right(*arguments)
        return answer * torch.nan if isinstance(answer, torch.Tensor) else float("nan")

    function, sentence = {
        "crash": (crash, "it stops with ValueError: boom (line"),
        "nothing": (nothing, "it returns nothing"),
        "type": (other_type, "it returns an object of type object, and "),
        "change": (change, "it changes what it was given"),
        "exit": (leave, "it calls exit()"),
        "recursion": (recursion, "it calls itself again and again"),
        "stub": (stub, f"{name}: not done yet"),
        "nan": (nan, ("NaN (not a number)", "it returns a float", "it returns numbers of type float32")),
    }[sabotage]
    check(called(name, function))
    said = capsys.readouterr()
    if sabotage == "change" and not changed:
        return  # numbers and texts cannot be changed
    assert any(piece in said.out for piece in ([sentence] if isinstance(sentence, str) else sentence))
    assert "Traceback" not in said.out + said.err and "✓ " + name not in said.out
    if sabotage in ("crash", "exit", "stub"):  # an answer that is wrong is the same to `grade` as to `check`
        assert all(faults(called(name, function), EXERCISES[name]))
    assert capsys.readouterr() == ("", "")
