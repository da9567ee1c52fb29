"""What a cell of a submission is: by what nbgrader has noted of it, and by what it defines."""

import re

from nbformat import NotebookNode


def noted(cell: NotebookNode, by: str = "nbgrader") -> dict:
    """What nbgrader has noted of a cell, or the course of a notebook; nothing where that is no table."""
    found = cell.metadata.get(by)
    return found if isinstance(found, dict) else {}


def grade_id(cell: NotebookNode) -> str:
    """The id of a cell's exercise or test; empty where it has none."""
    name = noted(cell).get("grade_id", "")
    return name if isinstance(name, str) else ""


def is_test(cell: NotebookNode) -> bool:
    """Whether points depend on a cell."""
    return bool(noted(cell).get("grade"))


def answers_in(cell: NotebookNode, stub: str) -> bool:
    """Whether a cell defines what a stub is for, and is not the stub."""
    return cell.cell_type == "code" and cell.source.strip() != stub.strip() and defines(cell.source, stub)


def defines(source: str, stub: str) -> bool:
    """Whether code defines a function or a class that a stub defines; it need not be valid Python."""
    names = "|".join(re.findall(r"^(?:def|class) +(\w+)", stub, re.MULTILINE))
    pattern = rf"^(async +)?(def|class) +({names})\b|^({names}) *=[^=]"
    return bool(names) and bool(re.search(pattern, source, re.MULTILINE))
