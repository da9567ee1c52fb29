"""nbgrader's round trip, with the repository's configuration: what a submission says of itself earns nothing.

The assignment is lesson 00's exercise alone, cell for cell: a whole lesson would run the model for every submission.
"""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from course_lib.classroom.grading import release
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import learners_version, lesson_names

LESSON, EXERCISE = "00_prompt_to_response", "greedy_choice"

RIGHT = "    return int(logits.argmax())"
WRONG = {
    "last": "    return int((logits == logits.max()).nonzero()[-1])",  # of equals it takes the last
    "pretends": "    print('✓ greedy_choice: 5 of 5 checks')\n    return 0",
}


def grade_id(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def exercise_cells(notebook):
    """The exercise's cells, its `check`, and one cell with what the lesson imported before them."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ours = [cell for cell in code if grade_id(cell).startswith(EXERCISE) or f"check({EXERCISE})" in cell.source]
    before = "\n".join(cell.source for cell in code[: code.index(ours[0])]).splitlines()
    pictures = re.compile(r"course_lib\.(drawing|lessons)")
    imports = [line for line in before if line.startswith(("import ", "from ")) and not pictures.search(line)]
    return [new_code_cell("\n".join(imports), id="imports"), *ours]


def submissions(lesson):
    """A student's name → what was handed in: a learner's copy, filled in."""

    def handed_in(answer=None, **replaced):
        notebook = nbformat.reads(learners_version(lesson).decode(), 4)
        for cell in notebook.cells:
            if grade_id(cell) == EXERCISE and answer:
                stub = "    # YOUR CODE HERE\n    raise NotImplementedError()"
                assert stub in cell.source
                cell.source = cell.source.replace(stub, answer)
            cell.source = replaced.get(grade_id(cell), cell.source)
        return notebook

    graded = [
        grade_id(cell) for cell in nbformat.read(lesson, 4).cells if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    return {
        "last": handed_in(WRONG["last"]),
        "right": handed_in(RIGHT),
        "pretends": handed_in(WRONG["pretends"], **dict.fromkeys(graded, "pass")),
    }


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(folder, student → score, highest score) after release, handing in, autograde and feedback."""
    root = tmp_path_factory.mktemp("an instructor's")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    lesson = root / "notebooks" / f"{LESSON}.ipynb"
    lesson.parent.mkdir()
    notebook = nbformat.read(LESSONS / f"{LESSON}.ipynb", 4)
    notebook.cells = exercise_cells(notebook)
    nbformat.write(notebook, lesson)

    released = release(LESSON, lesson.parent, root)
    assert released.is_file()
    for student, handed_in in submissions(lesson).items():
        folder = root / "grading/submitted" / student / LESSON
        folder.mkdir(parents=True)
        nbformat.write(handed_in, folder / f"{LESSON}.ipynb")

    own = root / "the instructor's own workspace"
    for step in ("autograde", "generate_feedback"):
        subprocess.run(
            [sys.executable, "-m", "nbgrader", step, LESSON],
            cwd=root,
            check=True,
            env=os.environ | {"COURSE_WORKSPACE": str(own)},
        )
    assert not own.exists(), "a submission left something in the instructor's own work"

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{root / 'grading/gradebook.db'}", "from-prompt-to-response") as gradebook:
        scores = {submission.student.id: submission.score for submission in gradebook.assignment_submissions(LESSON)}
        return root, scores, gradebook.find_assignment(LESSON).max_score


def test_scores(graded):
    _, scores, highest = graded
    assert highest >= 2
    assert 0 < scores["last"] < highest
    assert scores["right"] == highest


def test_a_printed_pass_or_a_replaced_test_earns_nothing(graded):
    _, scores, _ = graded
    assert scores["pretends"] == 0


def test_feedback_is_written_for_everyone(graded):
    root, scores, highest = graded
    for student, score in scores.items():
        text = (root / "grading/feedback" / student / LESSON / f"{LESSON}.html").read_text("utf-8")
        assert f"(Score: {score:.1f} / {highest:.1f})" in text


def test_students_get_the_cells_that_a_learner_has(graded):
    root, *_ = graded
    released = nbformat.read(root / "grading/release" / LESSON / f"{LESSON}.ipynb", 4)
    learners = nbformat.reads(learners_version(root / "notebooks" / f"{LESSON}.ipynb").decode(), 4)
    assert released.cells == learners.cells


def test_only_known_lessons_are_released():
    with pytest.raises(ValueError, match="there is no lesson '99_none': there are 00_prompt_to_response"):
        release("99_none")


@pytest.mark.parametrize("name", lesson_names())
def test_graded_cells_are_locked_and_hide_what_they_ask(name):
    for cell in nbformat.read(LESSONS / name, 4).cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            assert cell.metadata.nbgrader.locked and cell.metadata.nbgrader.points > 0
            assert "### BEGIN HIDDEN TESTS" in cell.source
