"""`make notebooks`: run the lessons whose code changed and write them back, so that a diff shows what changed.

No execution times, no volatile ids: the same run gives the same bytes. `--all` runs every lesson, which a change in
course_lib may ask for (nbval says so: the stored outputs then differ).
"""

import hashlib
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from course_lib.classroom.workspace import lesson_names

FOLDER = Path(__file__).parents[2] / "notebooks"
LESSONS = [FOLDER / name for name in lesson_names(FOLDER)]
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Run one notebook top to bottom in its own folder, and keep its outputs. An error in a cell stops here."""
    notebook = nbformat.read(path, as_version=4)
    before = {cell.source: cell.get("outputs") for cell in notebook.cells}
    settings = dict(timeout=900, record_timing=False, coalesce_streams=True)
    NotebookClient(notebook, resources={"metadata": {"path": path.parent}}, **settings).execute()
    for cell in notebook.cells:
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            _settle(cell, before[cell.source])
    normalise(notebook)
    nbformat.write(notebook, path)


def _settle(cell: nbformat.NotebookNode, outputs: list | None) -> None:
    """What differs from run to run (times) stays as it was until its cell changes; a widget's model id never stays."""
    cell.outputs = [output for output in outputs or cell.outputs if WIDGET not in output.get("data", {})]


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Number the cells' ids, and keep of the kernel only what every machine has."""
    key = notebook.metadata.course.lesson
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{key}-{index:02}"
    notebook.metadata = nbformat.from_dict(
        {
            "course": {"executed": fingerprint(notebook), "lesson": key},
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.validate(notebook)


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """What the outputs came from: a hash of the code cells, in order."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def is_current(path: Path) -> bool:
    """Whether the outputs came from the code that is there now."""
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get("course", {}).get("executed") == fingerprint(notebook)


if __name__ == "__main__":
    for path in LESSONS:
        if "--all" not in sys.argv and is_current(path):
            print(f"{path.name}: nothing changed")
            continue
        execute(path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
