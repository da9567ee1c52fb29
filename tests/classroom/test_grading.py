"""nbgrader's round trip, with the repository's configuration: what a submission says of itself earns nothing.

The assignment is lesson 00's exercise alone, cell for cell: a whole lesson would run the model for every submission.
"""

import copy
import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from course_lib.classroom.grading import marks, release
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import learners_version, lesson_names

LESSON, EXERCISE = "00_prompt_to_response", "greedy_choice"

STUB = "    # YOUR CODE HERE\n    raise NotImplementedError()"
RIGHT = "    return int(logits.argmax())"
RIGHTS = ["Zoë [2] 'x' #1 %20", "copied", "unmarked", "below", "above", "in the test"]
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
                assert STUB in cell.source
                cell.source = cell.source.replace(STUB, answer)
            cell.source = replaced.get(grade_id(cell), cell.source)
        return notebook

    graded = [
        grade_id(cell) for cell in nbformat.read(lesson, 4).cells if cell.metadata.get("nbgrader", {}).get("grade")
    ]

    def arranged(arrange, answer=RIGHT):
        """Handed in after `arrange`: it gets the imports, the answer, its check and the tests, and gives the cells."""
        notebook = handed_in(answer)
        notebook.cells = copy.deepcopy(arrange(*notebook.cells))
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"
        return notebook

    def function(body):
        return new_code_cell(f"def {EXERCISE}(logits):\n{body}")

    def copied(imports, answer, check, *tests):
        old, note = copy.deepcopy(answer), new_markdown_cell("my notes", metadata=copy.deepcopy(answer.metadata))
        old.source = function(WRONG["last"]).source
        check.metadata.nbgrader = None
        imports.metadata.nbgrader = {"grade": True, "grade_id": ["a"], "points": "many"}
        tests[0].metadata.nbgrader |= {"points": 99, "schema_version": 0, "locked": False}
        answer.metadata.nbgrader = {"grade_id": EXERCISE}
        return [imports, *copy.deepcopy(tests), old, answer, check, *tests, note, *copy.deepcopy(tests)]

    def unmarked(*cells):
        """Without nbgrader's metadata: other editors lose them."""
        for cell in cells:
            cell.metadata.pop("nbgrader", None)
        return [*cells]

    def in_the_test(imports, answer, check, test, *tests):
        test.source += f"\n{answer.source}"
        return [imports, check, test, *tests]

    wrong, right, blank = function(WRONG["last"]), function(RIGHT), "    raise NotImplementedError()"
    return {
        "last": handed_in(WRONG["last"]),
        RIGHTS[0]: arranged(lambda *cells: [*cells, function(blank)]),  # it tries again, in vain, below
        "pretends": handed_in(WRONG["pretends"], **dict.fromkeys(graded, "pass")),
        "copied": arranged(copied),
        "unmarked": arranged(lambda *cells: unmarked(wrong, *cells)),
        "unmarked, wrong last": arranged(lambda *cells: unmarked(*cells, wrong)),
        "below": arranged(lambda imports, answer, check, *tests: [*tests, imports, check, answer, right], STUB),
        "above": arranged(lambda imports, *cells: [imports, right, *cells], STUB),
        "in the test": arranged(in_the_test),
    }


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(folder, student → marks) after release, handing in and grading."""
    root = tmp_path_factory.mktemp("Kurs") / "Kurs [2025] 'ä' #1 %20?"
    lesson = root / "notebooks" / f"{LESSON}.ipynb"
    lesson.parent.mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    notebook = nbformat.read(LESSONS / f"{LESSON}.ipynb", 4)
    notebook.cells = exercise_cells(notebook)
    nbformat.write(notebook, lesson)

    released = release(LESSON, lesson.parent, root)
    assert released.is_file()

    def folder(step, student):
        path = root / "grading" / step / student / LESSON
        path.mkdir(parents=True)
        return path

    for student, handed_in in submissions(lesson).items():
        nbformat.write(handed_in, folder("submitted", student) / f"{LESSON}.ipynb")
    (folder("submitted", "unreadable now") / f"{LESSON}.ipynb").write_text("my homework")
    (folder("feedback", "unreadable now") / f"{LESSON}.html").write_text("of what was handed in before")

    own = root / "the instructor's own workspace"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_WORKSPACE", str(own))
        result = {one.student: one for one in marks(LESSON, root, lesson.parent)}
    assert not own.exists(), "a submission left something in the instructor's own work"
    return root, result


@pytest.mark.parametrize("student", RIGHTS)
def test_a_right_answer_earns_everything(graded, student):
    assert graded[1][student].score == graded[1][student].highest >= 2


def test_what_was_guessed_is_for_a_person_to_read(graded):
    read = {student: " · ".join(one.to_read) for student, one in graded[1].items()}
    unmarked = "greedy_choice has no marked cell with an answer: what the notebook defines last under this name"
    assert "greedy_choice has 2 cells that are marked as its answer: the last one counts" in read["copied"]
    assert all(unmarked in read[student] for student in (*RIGHTS[2:], "unmarked, wrong last"))
    assert "greedy_choice_ties failed where it stands, and passed after everything else had run" in read["below"]
    assert not read[RIGHTS[0]] and not read["last"]


def test_feedback_of_what_can_no_longer_be_graded_is_gone(graded):
    root, result = graded
    assert not result["unreadable now"].graded
    assert not (root / "grading/feedback/unreadable now" / LESSON).exists()


def test_scores(graded):
    _, result = graded
    assert 0 < result["last"].score < result["last"].highest
    assert result["unmarked, wrong last"].parts == result["last"].parts


def test_a_printed_pass_or_a_replaced_test_earns_nothing(graded):
    _, result = graded
    assert result["pretends"].score == 0


def test_feedback_is_written_for_everyone(graded):
    root, result = graded
    for student, one in result.items():
        if one.graded:
            text = (root / "grading/feedback" / student / LESSON / f"{LESSON}.html").read_text("utf-8")
            assert f"(Score: {one.score:.1f} / {one.highest:.1f})" in text


def test_students_get_the_cells_that_a_learner_has(graded):
    root, _ = graded
    released = nbformat.read(root / "grading/release" / LESSON / f"{LESSON}.ipynb", 4)
    learners = nbformat.reads(learners_version(root / "notebooks" / f"{LESSON}.ipynb").decode(), 4)
    assert released.cells == learners.cells


def test_only_known_lessons_are_released():
    with pytest.raises(ValueError, match="there is no lesson '99_none': there are 00_prompt_to_response"):
        release("99_none")


def test_a_path_too_long_for_a_gradebook_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"the path of the gradebook has \d+ bytes, and SQLite opens 504"):
        release(LESSON, root=tmp_path / ("x" * 250) / ("y" * 250))


@pytest.mark.parametrize("name", lesson_names())
def test_graded_cells_are_locked_and_hide_what_they_ask(name):
    for cell in nbformat.read(LESSONS / name, 4).cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            assert cell.metadata.nbgrader.locked and cell.metadata.nbgrader.points > 0
            assert "### BEGIN HIDDEN TESTS" in cell.source
