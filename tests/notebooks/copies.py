"""The learner's copies as nbval can hold them: with the lessons' outputs wherever a solution makes no difference.

`make copies-2-default` writes them and runs them whole, exercises not done: Run All reaches the end, and says what the
lesson says.
"""

import ast
import shutil

import nbformat

from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import learners_version, lesson_names

FOLDER = ROOT / "build/copies"


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds for other cells, and all that it reads."""
    tree, bound = ast.parse(source), set()
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            bound.add(statement.name)  # what it binds inside stays there
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
            elif isinstance(node, ast.alias):
                bound.add((node.asname or node.name).split(".")[0])
    return bound, loaded


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def where_a_solution_matters(copy: list[nbformat.NotebookNode], solved: list[nbformat.NotebookNode]) -> set[int]:
    """Which code cells of a copy are others than the lesson's, or read what such a cell has bound."""
    found, theirs = set(), set()
    for i, (cell, original) in enumerate(zip(copy, solved, strict=True)):
        bound, loaded = names_in(cell.source)
        if cell.source != original.source or loaded & theirs:
            found.add(i)
            theirs |= bound
    return found


def write(name: str) -> None:
    copy, lesson = nbformat.reads(learners_version(LESSONS / name).decode(), 4), nbformat.read(LESSONS / name, 4)
    cells, solved = code_cells(copy), code_cells(lesson)
    matters = where_a_solution_matters(cells, solved)
    for i, (cell, original) in enumerate(zip(cells, solved, strict=True)):
        if i in matters:
            cell.metadata.setdefault("tags", []).append("nbval-ignore-output")
        else:
            cell.outputs, cell.execution_count = original.outputs, original.execution_count
    (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(copy, FOLDER / name)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)  # what an earlier run left there is no lesson
    for name in lesson_names():
        write(name)
