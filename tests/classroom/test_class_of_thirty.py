"""A class hands homework 1 in, honest, careless and cheating: each gets the marks that one computes by hand."""

import csv
import shutil
import time

import nbformat
import pytest
from lessons.test_homework import RIGHT_PARTS, WRONG, functions, graded_cells, handed_in, nbgrader, solutions
from nbformat.v4 import new_code_cell

from course_lib.classroom.grading import marks, release
from course_lib.classroom.location import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

NAME = "hw1_input_processing"
FUNCTIONS = list(functions(NAME))
POINTS = {nbgrader(cell).grade_id: nbgrader(cell).points for cell in graded_cells(NAME)}
PARTS = {function: [part for part in POINTS if part.startswith(f"{function}_")] for function in FUNCTIONS}
SOLUTIONS = solutions(NAME)


def points_of(*names):
    return sum(POINTS[part] for name in names for part in PARTS[name])


def lost_by(function):
    """What the plausible wrong answer to it costs."""
    return sum(POINTS[part] for part in PARTS[function] if part not in RIGHT_PARTS["hw1"])


def cell_first(notebook, source):
    notebook.cells.insert(0, new_code_cell(source))
    return notebook


def without(notebook, *grade_ids):
    notebook.cells = [cell for cell in notebook.cells if nbgrader(cell).get("grade_id") not in grade_ids]
    return notebook


def with_tests_that_pass(notebook):
    for cell in notebook.cells:
        if nbgrader(cell).get("grade"):
            cell.source = "print('✓ passed')"
    return notebook


def solved(**instead):
    return handed_in(NAME, SOLUTIONS | instead)


def blank(**answers):
    return handed_in(NAME, answers)


ASKS = """
    from course_lib.lessons import exercises

    return exercises()["{name}"].oracle({arguments})"""
FROM_THE_COURSE = """
    import json, pathlib

    def found(name):
        for folder in pathlib.Path.cwd().parents:
            for path in folder.glob(f"grading/source/*/{name}"):
                return json.loads(path.read_text())["cells"]

    scope = globals()
    for cell in found("hw1_input_processing.ipynb"):
        source = "".join(cell["source"])
        if "def byte_words" in source:
            exec(source, scope)
            return scope["byte_words"](words)"""
PATCH = """
import course_lib.classroom, course_lib.classroom.checking as checking, course_lib.classroom.judging as judging
judging.attempt = lambda *arguments, **more: iter(())
checking.grade = course_lib.classroom.grade = lambda *arguments: None"""
STUBBORN = """
while True:
    try:
        while True:
            pass
    except KeyboardInterrupt:
        pass"""
EMPTY_CELLS = "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])"


def the_class():
    """Student → (what was handed in, the score by hand)."""
    stubs = "\n".join(cell.source for cell in blank().cells)
    arguments = {name: stubs.split(f"def {name}(")[1].split(")")[0] for name in FUNCTIONS}
    students = {
        "perfect": (solved(), 100),
        "empty": (blank(), 0),
        "first half": (blank(**{name: SOLUTIONS[name] for name in FUNCTIONS[:4]}), points_of(*FUNCTIONS[:4])),
        "all wrong": (blank(**{name: WRONG[name] for name in FUNCTIONS}), 100 - sum(map(lost_by, FUNCTIONS))),
        "syntax error": (solved(byte_words="    return }"), 100 - points_of("byte_words")),
        "prints a pass": (blank(**dict.fromkeys(FUNCTIONS, "    print('✓ all checks passed')")), 0),
        "tests that pass": (with_tests_that_pass(blank()), 0),
        "one right, tests that pass": (
            with_tests_that_pass(blank(decode_ids=SOLUTIONS["decode_ids"])),
            points_of("decode_ids"),
        ),
        "no tests": (without(solved(), *POINTS), 100),
        "a cell and its tests gone": (
            without(solved(), "best_pair", *PARTS["best_pair"]),
            100 - points_of("best_pair"),
        ),
        "another grade": (cell_first(blank(), "def grade(*anything): pass\ncheck = print"), 0),
        "patches the library": (cell_first(blank(), PATCH), 0),
        "calls the library": (
            solved(
                learn_merges="    from course_lib.input_processing.bpe_training import train_bpe\n\n"
                "    text = b''.join(b''.join(word) * count for word, count in words.items()).decode(errors='ignore')\n"
                "    return train_bpe(text, 256 + n_merges)"
            ),
            100 - points_of("learn_merges"),
        ),
        "asks the checks": (
            blank(**{name: ASKS.format(name=name, arguments=arguments[name]) for name in FUNCTIONS}),
            0,
        ),
        "loops in a function": (solved(move_keys="    while True:\n        pass"), 100 - points_of("move_keys")),
        "loops in a cell": (cell_first(solved(), "while True:\n    pass"), 100),
        "loops and cannot be stopped": (cell_first(solved(), STUBBORN), 100),
        "ends the kernel": (
            solved(decode_ids="    import os\n\n    os._exit(1)"),
            100 - points_of("decode_ids"),
        ),
        "takes all memory": (
            solved(byte_words="    return bytearray(10**12)"),
            100 - points_of("byte_words"),
        ),
        "takes all memory in a cell": (cell_first(solved(), "hog = [bytes(10**9) for _ in range(10**4)]"), 100),
        "empties the cells": (cell_first(blank(), EMPTY_CELLS), 0),
    }
    for name in FUNCTIONS:
        students[f"wrong {name}"] = (solved(**{name: WRONG[name]}), 100 - lost_by(name))
    return students


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    root = tmp_path_factory.mktemp("an instructor's")
    config = (ROOT / "nbgrader_config.py").read_text()
    assert "c.Execute.timeout = 300" in config
    # what loops without end is given up sooner: an ordinary cell takes a second or two
    (root / "nbgrader_config.py").write_text(config.replace("c.Execute.timeout = 300", "c.Execute.timeout = 60"))
    release(NAME, root=root)
    students = the_class()
    for student, (notebook, _) in students.items():
        folder = root / "grading/submitted" / student / NAME
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{NAME}.ipynb")
    broken = root / "grading/submitted" / "no notebook" / NAME
    broken.mkdir(parents=True)
    (broken / f"{NAME}.ipynb").write_text("my homework")
    began = time.monotonic()
    result = {one.student: one for one in marks(NAME, root)}
    print(f"{len(result)} submissions graded in {time.monotonic() - began:.0f} s")
    yield root, {student: by_hand for student, (_, by_hand) in students.items()}, result
    shutil.rmtree(root)


def test_everybody_gets_the_marks_that_one_computes_by_hand(graded):
    _, by_hand, result = graded
    assert len(result) == 30
    assert {student: one.score for student, one in result.items() if one.graded} == by_hand
    assert [student for student, one in result.items() if not one.graded] == ["no notebook"]


def test_the_marks_are_there_as_a_table(graded):
    root, by_hand, _ = graded
    with (root / f"grading/{NAME}.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert {student: float(row["score"]) for student, row in rows.items() if row["score"]} == by_hand
    assert rows["no notebook"]["score"] == "" and len(rows) == len(by_hand) + 1
    row = rows["syntax error"]
    assert {part: float(row[part]) for part in POINTS} == POINTS | {"byte_words_words": 0.0}


@pytest.mark.parametrize(
    "student, sentence",
    [
        ("ends the kernel", "The kernel died in this cell, or could not be stopped"),
        ("loops and cannot be stopped", "The kernel died in this cell, or could not be stopped"),
        ("loops in a cell", "No reply from kernel before timeout"),
        ("loops in a function", "it did not finish in time"),
        ("takes all memory", "it asks for more memory than there is"),
        ("takes all memory in a cell", "MemoryError"),
        ("no tests", "was missing from the submission"),
        ("empties the cells", "This cell did not run to its end"),
        ("calls the library", "and that is what you are to write"),
        ("asks the checks", "and that is what you are to write"),
        ("syntax error", "SyntaxError"),
        ("patches the library", "not done yet"),
    ],
)
def test_the_feedback_says_why(graded, student, sentence):
    root, _, _ = graded
    page = (root / "grading/feedback" / student / NAME / f"{NAME}.html").read_text("utf-8")
    assert sentence in page


def test_what_a_person_should_read_is_said(graded):
    _, _, result = graded
    honest = {"perfect", "empty", "first half", "all wrong", *(f"wrong {name}" for name in FUNCTIONS)}
    assert all(not result[student].to_read for student in honest)
    for student in ("patches the library", "asks the checks", "ends the kernel", "empties the cells"):
        assert result[student].to_read, student


def test_a_solution_from_the_disk_is_on_the_list():
    """No check inside the same process can prevent it: a person finds it by what `marks` tells to read."""
    from course_lib.classroom.autograding import worth_a_look

    assert worth_a_look(blank(byte_words=FROM_THE_COURSE), blank())
