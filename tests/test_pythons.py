"""What differs between the Pythons that the course runs on, found on any of them."""

import ast
from itertools import chain
from pathlib import Path

import pytest

import course_lib

INLINED = (ast.ListComp, ast.SetComp, ast.DictComp)


def is_function(node):
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def own(function):
    """The nodes of a function, without those of the functions inside of it."""
    nodes = [function]
    for node in nodes:
        if node is function or not is_function(node):
            nodes += ast.iter_child_nodes(node)
    return nodes


def stored(nodes):
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def comprehended(nodes):
    """The variables of the comprehensions among the nodes."""
    loops = [loop for node in nodes if isinstance(node, INLINED) for loop in node.generators]
    return stored(chain.from_iterable(ast.walk(loop.target) for loop in loops))


def bound(nodes):
    """The parameters and what is assigned; a name that a comprehension uses, too, counts as the comprehension's."""
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    return parameters | (stored(nodes) - comprehended(nodes))


def shadowed(tree):
    """(line, name) of each function whose comprehension's variable has the name of something in a function around."""
    for outer in filter(is_function, ast.walk(tree)):
        _, *inside = filter(is_function, ast.walk(outer))
        for inner in inside:
            nodes = own(inner)
            if names := comprehended(nodes):
                yield from ((inner.lineno, name) for name in names & (bound(own(outer)) - bound(nodes)))


def test_shadowing_is_found():
    found = "def f(weight):\n def g(): return [weight for weight in 'ab'], [weight(n) for n in 'ab']\n return g"
    assert list(shadowed(ast.parse(found))) == [(2, "weight")]
    assert list(shadowed(ast.parse(found.replace("for weight in", "for one in")))) == []
    assert list(shadowed(ast.parse("f = lambda n: lambda: {n: 1 for n in 'ab'}"))) == [(1, "n")]
    assert list(shadowed(ast.parse("def f(n):\n return lambda n: [n for n in 'ab']"))) == []


@pytest.mark.parametrize("folder", [*course_lib.__path__, Path(__file__).parent / "lessons"])
def test_no_comprehension_shadows_what_a_function_around_its_own_binds(folder):
    """From Python 3.12 on, a comprehension's variable is one of its function: another comprehension there, or a
    function inside, that means the outer one by that name gets an UnboundLocalError or a NameError."""
    files = sorted(Path(folder).rglob("*.py"))
    found = [f"{file}:{line} {name}" for file in files for line, name in shadowed(ast.parse(file.read_text("utf-8")))]
    assert files and not found
