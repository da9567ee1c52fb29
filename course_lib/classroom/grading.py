"""A homework, or any lesson as one, through nbgrader: released, and graded. For an instructor: nbgrader_config.py."""

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from course_lib.classroom.workspace import LESSONS, ROOT, lesson_names


def release(lesson: str, lessons: Path = LESSONS, root: Path = ROOT) -> Path:
    """Make one nbgrader assignment of one lesson or homework, and release it: the notebook to hand out.

    Released again after a change of the lesson, it replaces what was released before. `root` has nbgrader_config.py.
    Raises ValueError for an unknown lesson, RuntimeError where nbgrader fails (its own messages come first).
    """
    by_name = {Path(name).stem: lessons / name for name in lesson_names(lessons)}
    if lesson not in by_name:
        raise ValueError(f"there is no lesson {lesson!r}: there are {', '.join(by_name)}")
    source = root / "grading/source" / lesson
    source.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(by_name[lesson], source / f"{lesson}.ipynb")
    if _nbgrader(root, "generate_assignment", lesson, "--force"):
        raise RuntimeError(f"nbgrader did not release {lesson}: what it says above is why")
    released = root / "grading/release" / lesson / f"{lesson}.ipynb"
    left = [mark for mark in ("BEGIN SOLUTION", "BEGIN HIDDEN TESTS") if mark in released.read_text("utf-8")]
    if left:
        raise RuntimeError(
            f"{released} still has {left[0]}: a cell of {lesson} lacks its END, or its nbgrader metadata"
        )
    return released


@dataclass(frozen=True)
class Marks:
    """What one student's submission earned: points for each graded part, and lines that a person should read."""

    student: str
    parts: dict[str, float]
    highest: float
    to_read: list[str]
    graded: bool = True

    @property
    def score(self) -> float:
        return sum(self.parts.values())


def marks(lesson: str, root: Path = ROOT) -> list[Marks]:
    """Grade every submission of a released homework: feedback as pages, the marks of all parts in grading/LESSON.csv.

    A submission that cannot be graded at all (no notebook in it, or none that can be read) has no marks, and is there
    with `graded` False. Submissions that were graded before, and have not changed, are graded again all the same.

    Raises:
        ValueError: nothing was released or handed in under this name.
    """
    from nbgrader.api import Gradebook

    submitted = sorted(path.parent.name for path in (root / "grading/submitted").glob(f"*/{lesson}"))
    if not (root / "grading/release" / lesson).is_dir():
        raise ValueError(f"{lesson} has not been released: run `python -m course_lib homework {lesson}` first")
    if not submitted:
        raise ValueError(f"nothing was handed in: put it into grading/submitted/STUDENT/{lesson}/{lesson}.ipynb")
    for step in ("autograde", "generate_feedback"):  # each goes on with the next student where one fails
        _nbgrader(root, step, lesson, "--force")
    found = {}
    with Gradebook(f"sqlite:///{root / 'grading' / 'gradebook.db'}", "from-prompt-to-response") as gradebook:
        highest = gradebook.find_assignment(lesson).max_score
        for submission in gradebook.assignment_submissions(lesson):
            name, [notebook] = submission.student.id, submission.notebooks
            if (root / "grading/autograded" / name / lesson / f"{lesson}.ipynb").is_file():
                parts = {grade.name: grade.score for grade in sorted(notebook.grades, key=lambda grade: grade.name)}
                found[name] = Marks(name, parts, highest, _to_read(root, name, lesson))
    all_marks = [found.get(name) or Marks(name, {}, highest, [], graded=False) for name in submitted]
    parts = sorted({part for one in all_marks for part in one.parts})
    with (root / "grading" / f"{lesson}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["student", "score", "of", *parts, "to read"])
        for one in all_marks:
            points = [one.parts.get(part, "") for part in parts]
            table.writerow([one.student, one.score if one.graded else "", highest, *points, " · ".join(one.to_read)])
    return all_marks


def _to_read(root: Path, student: str, lesson: str) -> list[str]:
    import nbformat

    from course_lib.classroom.autograding import worth_a_look

    handed_in = nbformat.read(root / "grading/submitted" / student / lesson / f"{lesson}.ipynb", 4)
    return worth_a_look(handed_in, nbformat.read(root / "grading/release" / lesson / f"{lesson}.ipynb", 4))


def _nbgrader(root: Path, *arguments: str) -> int:
    # a new gradebook is made by the alembic script beside python, which is not found where .venv is not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=root, env=os.environ | {"PATH": path}).returncode
