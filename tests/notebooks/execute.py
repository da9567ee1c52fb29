"""`make notebooks`: run the lessons again and write them back, so that a diff shows what changed for the reader.

No execution times, no volatile ids: the same run gives the same bytes.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

LESSONS = Path(__file__).parents[2] / "notebooks"


def execute(path: Path) -> None:
    """Run one notebook top to bottom in its own folder, and keep its outputs. An error in a cell stops here."""
    notebook = nbformat.read(path, as_version=4)
    before = {cell.source: cell.get("outputs") for cell in notebook.cells}
    settings = dict(timeout=300, record_timing=False, coalesce_streams=True)
    NotebookClient(notebook, resources={"metadata": {"path": path.parent}}, **settings).execute()
    for cell in notebook.cells:  # what differs from run to run (times) stays as it was until its cell changes
        if "nbval-ignore-output" in cell.metadata.get("tags", []) and before[cell.source]:
            cell.outputs = before[cell.source]
    normalise(notebook, path.stem)
    nbformat.write(notebook, path)


def normalise(notebook: nbformat.NotebookNode, stem: str) -> None:
    """Number the cells' ids, and keep of the kernel only what every machine has."""
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{stem[:2]}-{index:02}"
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.validate(notebook)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(LESSONS.rglob("[0-9]*.ipynb")):
        execute(path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
