"""The library has two storeys: a machine that knows nothing of a course, and the course above it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "course_lib"
ABOVE = ("classroom", "lessons", "drawing", "doctor", "__main__")


def modules():
    """Dotted name → file, for every module of the library."""
    files = {path.relative_to(PACKAGE.parent).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}


MODULES = modules()
BELOW = [name for name in MODULES if name != "course_lib" and name.split(".")[1] not in ABOVE]


def imports(name):
    """The library's modules that one imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [one if one in MODULES else node.module for one in inside]
        else:
            continue
        yield from (one for one in named if one in MODULES and one != name)


@pytest.mark.parametrize("name", BELOW)
def test_what_is_below_imports_nothing_above(name):
    assert not set(imports(name)) - {"course_lib"} - set(BELOW)


def test_no_two_modules_need_each_other():
    try:
        TopologicalSorter({name: set(imports(name)) - {"course_lib"} for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_a_files_name_leads_to_one_place():
    places = {}
    for path in (MODULES[name] for name in BELOW):
        places.setdefault(path.name, []).append(path.relative_to(PACKAGE).as_posix())
    del places["__init__.py"]
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}
