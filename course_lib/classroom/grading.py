"""A homework, or any lesson as one, through nbgrader: released, and graded. For an instructor: nbgrader_config.py."""

import csv
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.classroom.exercise import BrokenCheck
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.submission import grade_id, noted
from course_lib.classroom.workspace import content_of, learners_version, lesson_names

GRADEBOOK, COURSE = "grading/gradebook.db", "from-prompt-to-response"
LONGEST = 504  # bytes of a path that SQLite opens: 512, less those of the journal beside it


def release(lesson: str, lessons: Path = LESSONS, root: Path = ROOT) -> Path:
    """Make one nbgrader assignment of one lesson or homework, and release it: the notebook to hand out.

    Released again after a change of the lesson, it replaces what was released before. `root` has nbgrader_config.py.
    Raises ValueError for an unknown lesson, RuntimeError where nbgrader fails (its own messages come first), or where
    the parts have changed since some were graded: the gradebook has their marks by part.
    """
    gradebook_url(root)  # or a sentence, before anything is written
    by_name = {Path(name).stem: lessons / name for name in lesson_names(lessons)}
    if lesson not in by_name:
        raise ValueError(f"there is no lesson {lesson!r}: there are {', '.join(by_name)}")
    if _parts_changed(lesson, by_name[lesson], root):
        raise RuntimeError(
            f"{lesson} has other parts than when the submissions in grading/ were graded: to hand it out as it is now, "
            "move grading/ away first, with its marks; to grade more of those, stay with the release that is there"
        )
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


def marks(lesson: str, root: Path = ROOT, lessons: Path = LESSONS) -> list[Marks]:
    """Grade every submission of a released homework: feedback as pages, the marks of all parts in grading/LESSON.csv.

    Where points may be missing because a submission was made from another release of the course, `to_read` says so.
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
    for student in submitted:
        if not (root / "grading/autograded" / student / lesson).is_dir():
            shutil.rmtree(root / "grading/feedback" / student / lesson, ignore_errors=True)
    found = {}
    present = [learners_version(lessons / name) for name in lesson_names(lessons) if Path(name).stem == lesson]
    with Gradebook(gradebook_url(root), COURSE) as gradebook:
        highest = gradebook.find_assignment(lesson).max_score
        for submission in gradebook.assignment_submissions(lesson):
            name, [notebook] = submission.student.id, submission.notebooks
            if (root / "grading/autograded" / name / lesson / f"{lesson}.ipynb").is_file():
                parts = {grade.name: grade.score for grade in sorted(notebook.grades, key=lambda grade: grade.name)}
                lost = [grade.name for grade in notebook.grades if grade.score < grade.max_score]
                found[name] = Marks(name, parts, highest, _to_read(root, name, lesson, lost, present))
    all_marks = [found.get(name) or Marks(name, {}, highest, [], graded=False) for name in submitted]
    parts = sorted({part for one in all_marks for part in one.parts})
    with (root / "grading" / f"{lesson}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["student", "score", "of", *parts, "to read"])
        for one in all_marks:
            points = [one.parts.get(part, "") for part in parts]
            table.writerow([one.student, one.score if one.graded else "", highest, *points, " · ".join(one.to_read)])
    return all_marks


def _parts_changed(lesson: str, path: Path, root: Path) -> bool:
    """Whether nbgrader would refuse to release this, as it does once there are marks, after it has cleared away."""
    import nbformat
    from nbgrader.api import Gradebook, MissingEntry

    if not (root / GRADEBOOK).exists():
        return False
    now = {grade_id(cell) for cell in nbformat.reads(content_of(path).decode(), 4).cells} - {""}
    with Gradebook(gradebook_url(root), COURSE) as gradebook:
        try:
            before = gradebook.find_notebook(lesson, lesson)
        except MissingEntry:
            return False
        return bool(before.submissions) and now != {cell.name for cell in before.source_cells}


def _to_read(root: Path, student: str, lesson: str, lost: list[str], present: list[bytes]) -> list[str]:
    import nbformat

    from course_lib.classroom.autograding import guesses, worth_a_look

    def read(step: str, folder: str) -> nbformat.NotebookNode:
        path = root / "grading" / step / folder / lesson / f"{lesson}.ipynb"
        return nbformat.reads(content_of(path).decode(), 4)

    handed_in, released = read("submitted", student), read("release", "")
    now = nbformat.reads(present[0].decode(), 4) if present else nbformat.v4.new_notebook()
    graded = read("autograded", student)
    needed = _needed_release(handed_in, released, now, lost, list(_not_there(graded)))
    return [*needed, *guesses(handed_in, released, graded), *_broken_checks(graded), *worth_a_look(handed_in, released)]


def _needed_release(handed_in, released, now, lost: list[str], not_there: list[str]) -> list[str]:
    """A sentence where a submission lost points that it might have with the release of the course it was made from.

    Three may differ: what the learner got, what was released here, and the course that grades it. Each carries the mark
    of the code that it was made of, and of each exercise the checksum of what was handed out.
    """
    if not lost:
        return []
    every = (handed_in, released, now)
    made, *others = (noted(notebook, by="course").get("executed") for notebook in every)
    tasks = [_tasks(notebook) for notebook in every]
    reasons = list(not_there)
    if made and {made} != {*others}:
        changed = [part for part in lost if len({task.get(part) for task in tasks}) > 1]
        reasons += [f"{part} has changed" for part in changed]
    if not reasons:
        return []
    finds = f", {made} (`git log -S {made} -- notebooks` finds it)" if made else ""
    return [f"may have lost points to an update: {'; '.join(reasons)}. It needs the release it was made from{finds}"]


def _tasks(notebook) -> dict[str, str]:
    """Each graded part, and the checksum of the exercise before it, as it was handed out."""
    found, exercise = {}, ""
    for cell in notebook.cells:
        about = noted(cell)
        if about.get("solution"):
            exercise = about.get("checksum", "")
        if about.get("grade"):
            found[grade_id(cell)] = exercise
    return found


def _not_there(graded) -> Iterator[str]:
    """What a submission imports and this course does not have."""
    for output in (output for cell in graded.cells for output in cell.get("outputs", ())):
        if output.get("ename") in ("ImportError", "ModuleNotFoundError") and "course_lib" in output.evalue:
            yield output.evalue.split(" (")[0]


def _broken_checks(graded) -> Iterator[str]:
    """The parts whose check broke: whether they are right is for a person to say."""
    for cell in graded.cells:
        if any(output.get("ename") == BrokenCheck.__name__ for output in cell.get("outputs", ())):
            yield f"a check of the course broke: whether {grade_id(cell)} gets its points is for you to say"


def gradebook_url(root: Path) -> str:
    """The address of the gradebook, as nbgrader's database wants it: with ? and % in a folder's name.

    Raises:
        ValueError: the path is longer than SQLite opens.
    """
    from sqlalchemy import URL

    if (length := len(os.fsencode(root / GRADEBOOK))) > LONGEST:
        raise ValueError(
            f"the path of the gradebook has {length} bytes, and SQLite opens {LONGEST}: "
            f"move the course to a folder with a shorter path than {root}"
        )
    return URL.create("sqlite", database=str(root / GRADEBOOK)).render_as_string()


def as_written(pattern: str) -> str:
    """A pattern for `glob.glob` in which the part that exists as it is written stands for itself: Kurs [2025]/*."""
    there = pattern
    while there and not os.path.exists(there):
        there = os.path.dirname(there)
    return glob.escape(there) + pattern[len(there) :]


def _nbgrader(root: Path, *arguments: str) -> int:
    # a new gradebook is made by the alembic script beside python, which is not found where .venv is not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=root, env=os.environ | {"PATH": path}).returncode
