"""For whoever has fallen behind: earlier exercises, filled in with the course's own solutions and marked as such.

Only what is still open is filled in. A function that passed its check stays as it is, and so does one that was begun:
the course's version then comes in a cell of its own below it.
"""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from course_lib.classroom import records
from course_lib.classroom.checking import CAUGHT_UP
from course_lib.classroom.files import write_atomically
from course_lib.classroom.workspace import LESSONS, WorkspaceError, copy_folder, lesson_names
from course_lib.visuals.journey import LESSON_NAMES


def catch_up(before: str, lessons: Path = LESSONS, workspace: Path | None = None) -> list[tuple[str, list[str]]]:
    """Fill in the open exercises of all lessons before `before` ("07"); each file, and the exercises filled in there.

    Raises:
        ValueError: there is no such lesson.
        WorkspaceError: a copy is not a notebook any more, or the lessons here are without their solutions.
    """
    if before not in LESSON_NAMES:
        raise ValueError(
            f"there is no lesson {before!r}: give a number from {min(LESSON_NAMES)} to {max(LESSON_NAMES)}"
        )
    every = lesson_names(lessons)
    if not any("### BEGIN SOLUTION" in (lessons / name).read_text("utf-8") for name in every):
        raise WorkspaceError("this machine has the lessons without their solutions: ask whoever teaches for them")
    workspace = workspace or copy_folder()
    filled, report = records.done(workspace) | records.caught_up(workspace), []
    for name in every:
        number = Path(name).name.split("_")[0]
        if number in LESSON_NAMES and number < before and (names := _fill(lessons / name, workspace / name, filled)):
            records.note_caught_up(set(names), workspace)
            report.append((name, names))
    return report


def _fill(lesson: Path, copy: Path, filled: set[str]) -> list[str]:
    solved = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in nbformat.read(lesson, 4).cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    try:
        notebook = nbformat.read(copy, 4)
    except (OSError, ValueError):
        raise WorkspaceError(f"{copy} is not a notebook that can be read: move it away, and run this again") from None
    cells, names = [], []
    for cell in notebook.cells:
        cells.append(cell)
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name not in solved or name in filled:
            continue
        names.append(name)
        source = f"{CAUGHT_UP}\n{_without_markers(solved[name])}"
        if "raise NotImplementedError()" in cell.source:
            cell.source = source
        else:
            cells.append(new_code_cell(source))
    if names:
        notebook.cells = cells
        write_atomically(copy, nbformat.writes(notebook) + "\n")
    return names


def _without_markers(source: str) -> str:
    lines = source.splitlines()
    return "\n".join(line for line in lines if line.strip() not in ("### BEGIN SOLUTION", "### END SOLUTION"))
