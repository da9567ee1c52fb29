"""For whoever has fallen behind: earlier exercises, filled in with the course's own solutions and marked as such.

Only what is still open is filled in. A function that passed its check stays as it is, and so does one that was begun,
be it above the line that says that it is not written yet: the course's version then comes in a cell of its own below
it. Begun is what differs from that cell in every version of the lesson that is known to have come here.
"""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from course_lib.arguments import shown
from course_lib.classroom import records
from course_lib.classroom.checking import CAUGHT_UP
from course_lib.classroom.location import LESSONS, copy_folder
from course_lib.classroom.submission import grade_id
from course_lib.classroom.workspace import (
    WorkspaceError,
    cell_digest,
    content_of,
    key_of,
    learners_copies,
    lesson_names,
    released_cells,
)
from course_lib.files import locked, write_atomically
from course_lib.lessons import course


def catch_up(before: str, lessons: Path = LESSONS, workspace: Path | None = None) -> list[tuple[str, list[str]]]:
    """Fill in the open exercises of all lessons before `before` ("07"); each file, and the exercises filled in there.

    Raises:
        ValueError: there is no such lesson.
        WorkspaceError: a copy is not a notebook any more, the lessons here are without their solutions, or what is
            done cannot be known.
    """
    keys = [key for key, lesson in course().items() if not lesson.homework]
    if not isinstance(before, str) or before not in keys:
        raise ValueError(f"there is no lesson {shown(before)}: give a number from {keys[0]} to {keys[-1]}")
    wanted = keys[: keys.index(before)]
    every = lesson_names(lessons)
    if not any("### BEGIN SOLUTION" in (lessons / name).read_text("utf-8") for name in every):
        raise WorkspaceError("this machine has the lessons without their solutions: ask whoever teaches for them")
    workspace = workspace or copy_folder()
    report = []
    with locked(workspace):
        try:
            filled = records.done_or_filled(workspace)
        except OSError as error:
            raise WorkspaceError(
                f"nothing was filled in, for {records.FILE} cannot say what you have done: {error.strerror.rstrip('.')}"
            ) from error
        blank = released_cells(workspace)
        copies = learners_copies(workspace)
        for name in every:
            if key_of(lessons / name) not in wanted:
                continue
            file = copies[name][0].file if copies.get(name) else name
            if names := _fill(lessons / name, workspace / file, filled, blank):
                records.note_caught_up(set(names), workspace)
                report.append((file, names))
    return report


def _fill(lesson: Path, copy: Path, filled: set[str], blank: set[str]) -> list[str]:
    solved = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in nbformat.reads(content_of(lesson).decode(), 4).cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    notebook = _notebook(copy)
    cells, names = [], []
    for cell in notebook.cells:
        cells.append(cell)
        name = grade_id(cell)
        if name not in solved or name in filled:
            continue
        names.append(name)
        source = f"{CAUGHT_UP}\n{_without_markers(solved[name])}"
        if cell_digest(cell.source) in blank:
            cell.source = source
        else:
            cells.append(new_code_cell(source))
    if names:
        notebook.cells = cells
        write_atomically(copy, nbformat.writes(notebook) + "\n")
    return names


def _notebook(copy: Path) -> nbformat.NotebookNode:
    """A learner's copy.

    Raises:
        WorkspaceError: it is no notebook, be it for the file that it is or for what is in it.
    """
    try:
        notebook = nbformat.reads(content_of(copy).decode(), 4)
        fits = all(isinstance(cell.source, str) and isinstance(cell.metadata, dict) for cell in notebook.cells)
    except Exception:  # what is wrong inside shows in any of a dozen ways
        fits = False
    if not fits:
        raise WorkspaceError(f"{copy} is not a notebook that can be read: move it away, and run this again")
    return notebook


def _without_markers(source: str) -> str:
    lines = source.splitlines()
    return "\n".join(line for line in lines if line.strip() not in ("### BEGIN SOLUTION", "### END SOLUTION"))
