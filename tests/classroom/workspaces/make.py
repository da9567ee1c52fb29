"""How the workspaces in b028e90.tar.xz were made: by the code and the lessons of that commit, run in a checkout of it.

    git worktree add ../before b028e90 && cd ../before
    PYTHONPATH=. python …/tests/classroom/workspaces/make.py FOLDER
    tar --sort=name --owner=0 --group=0 --mtime=2026-11-30 -cJf b028e90.tar.xz -C FOLDER all half none

`all` has every right answer; `half` those of every second lesson, and in between an answer that was begun; `none` was
only opened. A learner's own edits are in the first two: a note, one more cell, another text to try.
"""

import os
import symtable
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import course_lib
from course_lib.classroom.location import LESSONS
from course_lib.classroom.my_llm import _globals
from course_lib.classroom.start_page import write_start_page
from course_lib.classroom.workspace import copy_lessons, lesson_names
from course_lib.lessons import exercises

STUB = "    # YOUR CODE HERE\n    raise NotImplementedError()"
BEGUN = "    # my plan: the small case first\n    first = 1\n"
UNTOUCHED = ("13_", "hw3_")


def main(folder: Path) -> None:
    print("made by", course_lib.__file__)
    for kind in ("all", "half", "none"):
        os.environ["COURSE_WORKSPACE"] = str(folder / kind)
        copy_lessons()
        for number, name in enumerate(lesson_names()):
            learn(kind, number, name, folder / kind)
        write_start_page()
        for left in (folder / kind).rglob("copies.lock"):
            left.unlink()


def learn(kind: str, number: int, name: str, workspace: Path) -> None:
    """What the learner does with one lesson: opens it, writes answers, runs them and their checks, saves."""
    if (kind == "none" and number) or (kind == "half" and Path(name).name.startswith(UNTOUCHED)):
        return
    notebook = nbformat.read(workspace / name, 4)
    solved = {grade_id(cell): cell.source for cell in nbformat.read(LESSONS / name, 4).cells if is_solution(cell)}
    for cell in notebook.cells:
        if is_solution(cell) and (kind == "all" or (kind == "half" and number % 2 == 0)):
            cell.source = "\n".join(line for line in solved[grade_id(cell)].splitlines() if "SOLUTION" not in line)
        elif is_solution(cell) and kind == "half" and grade_id(cell) == next(iter(solved)):
            cell.source = cell.source.replace(STUB, BEGUN + STUB)
    run_answers(notebook, workspace / name)
    if kind != "none" and number % 3 == 0:
        write_more(notebook)
    nbformat.write(notebook, workspace / name)


def run_answers(notebook, path: Path) -> None:
    """The cells with exercises and their checks, and those that they need, in a kernel, as in JupyterLab."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wanted, needed = [], set()
    for cell in reversed(code):
        bound, read = names_in(cell.source)
        if is_solution(cell) or cell.source.startswith("check(") or "\ncheck(" in cell.source or bound & needed:
            wanted.insert(0, cell)
            needed = (needed - bound) | read
    NotebookClient(
        new_notebook(cells=wanted), timeout=600, record_timing=False, resources={"metadata": {"path": path.parent}}
    ).execute()
    for cell in wanted:
        if "check(" not in cell.source:
            cell.outputs = []  # pictures, mostly: they would only be large


def write_more(notebook) -> None:
    notebook.cells.insert(3, new_markdown_cell("**My note**: ask about this on Friday.", id="my-note"))
    notebook.cells.append(new_code_cell("# a try of mine\nprint(6 * 7)", id="my-cell"))
    for cell in notebook.cells:
        if cell.cell_type == "code" and not cell.execution_count and "hill" in cell.source:
            cell.source = cell.source.replace("hill", "mountain")
            break


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds for other cells, and those that it reads from them."""
    top = symtable.symtable(source, "cell", "exec")
    bound = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return bound, set(_globals(source))


def is_solution(cell) -> bool:
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def grade_id(cell) -> str:
    return cell.metadata.nbgrader.grade_id


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
    print(len(exercises()), "exercises")
