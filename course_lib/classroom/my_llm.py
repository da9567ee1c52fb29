"""Passed work is kept: `my_llm.py` in the learner's workspace, a module of the functions that passed their checks.

Each function has a section between two marker comments, in the learner's own words, and so has what it needs: the
imports, the helper functions and the constants of the notebook. Only sections are ever rewritten; what a learner
writes outside of them stays as it is.

Imports stand together at the top. But a name may be an import in one lesson and the learner's own function in another:
lesson 06 imports the library's `causal_mask`, which lesson 05 has the learner write, with other arguments. In the file
such a name is the learner's function, and whatever was written with the import does the import inside of itself.
"""

import ast
import builtins
import inspect
import math
import re
import secrets
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from course_lib.classroom.exercise import Exercise, NotDone, Wrong
from course_lib.classroom.exercises import exercises
from course_lib.classroom.files import write_atomically
from course_lib.classroom.guard import Sink, call
from course_lib.classroom.location import workspace_folder

FILE = "my_llm.py"
HEADER = '''"""My own LLM: the functions that I wrote in this course, each kept when its check passed.

The parts between the markers are rewritten when a newer version passes; what stands outside of them is mine.
"""
'''
OPENING = re.compile(r"^# >>> (\S+).*$")
IMPORTS = "imports"
SECONDS = 8.0


class CannotKeep(Exception):
    """Why the work is not kept, as a sentence."""


@dataclass
class Parts:
    """What a function needs besides Python itself."""

    imports: dict[str, str] = field(default_factory=dict)  # name → import line
    definitions: dict[str, str] = field(default_factory=dict)  # name → source; what is needed comes first
    missing: list[str] = field(default_factory=list)


def keep(exercise: Exercise, function: Callable) -> list[str]:
    """Store a function that passed its check, with what it needs; returns sentences for the learner.

    The new file has to load, and the function in it has to pass its checks on its own, before it replaces the old one.
    """
    folder = workspace_folder()
    if folder is None:
        return []
    file = folder / FILE
    try:
        old = file.read_bytes().decode("utf-8") if file.exists() else HEADER
        parts = collect(function)
        new, sentences = merge(old, exercise, parts)
        _try_out(new, exercise, parts)
        if new != old or not file.exists():
            write_atomically(file, new)
            sentences.insert(0, f"It is kept in {FILE}.")
        return sentences
    except CannotKeep as error:
        return [f"It is not kept in {FILE}: {error}."]
    except SyntaxError:
        return [f"It is not kept in {FILE}: a part of it is not Python any more. Mend it, or delete that part."]
    except UnicodeDecodeError:
        return [f"It is not kept: {FILE} is not UTF-8 text. Save it as UTF-8, or move it away."]
    except OSError as error:
        return [f"It is not kept in {FILE}: {error.strerror}."]


def collect(function: Callable) -> Parts:
    """The source of a function and of everything it uses from the notebook that it was written in.

    Raises:
        CannotKeep: its source cannot be had.
    """
    parts = Parts()
    _add_definition(function.__name__, inspect.unwrap(function), parts)
    if function.__name__ not in parts.definitions:
        raise CannotKeep("its source cannot be had")
    return parts


def _add_definition(name: str, thing: Any, parts: Parts) -> None:
    try:
        source = textwrap.dedent(inspect.getsource(thing)).rstrip() + "\n"
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        parts.missing.append(name)
        return
    if not isinstance(tree.body[0], ast.FunctionDef | ast.ClassDef) or tree.body[0].name != name:
        parts.missing.append(name)  # a lambda, or a function under another name
        return
    parts.definitions[name] = ""  # its place, so that functions that call each other end
    scope = getattr(thing, "__globals__", None) or vars(sys.modules.get(thing.__module__, builtins))
    for used in _globals(source):
        if used in scope and used not in parts.definitions and used not in parts.imports:
            _add(used, scope[used], thing.__module__, parts)
    del parts.definitions[name]
    parts.definitions[name] = source


def _globals(source: str) -> Iterator[str]:
    """The names that a definition reads from outside of itself: no parameter, whatever the notebook calls so too."""
    tables = [symtable.symtable(source, FILE, "exec")]
    for table in tables:
        tables.extend(table.get_children())
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()


def _add(name: str, value: Any, home: str, parts: Parts) -> None:
    if getattr(builtins, name, None) is value:
        return
    if line := _import_line(name, value, home):
        parts.imports[name] = line
    elif inspect.isfunction(value) or inspect.isclass(value):
        _add_definition(name, value, parts)
    elif _is_constant(value):
        parts.definitions[name] = f"{name} = {value!r}\n"
    else:
        parts.missing.append(name)


def _is_constant(value: Any) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _import_line(name: str, value: Any, home: str) -> str:
    """The line that imports a value under this name; empty where it is the notebook's own."""
    if isinstance(value, ModuleType):
        if value.__name__ in (home, "__main__"):
            return ""
        return f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}"
    if isinstance(value, float) and getattr(math, name, None) is value:
        return f"from math import {name}"  # inf and nan cannot be written down
    if getattr(value, "__module__", None) == home:
        return ""
    named = getattr(value, "__name__", name)
    if not isinstance(named, str):
        return ""
    own = getattr(value, "__module__", None)
    # the course's functions from where they live; else the shortest public way: `from torch import Tensor`
    lives = own if str(own).startswith("course_lib.") else None
    modules = sorted({*sys.modules} - {home, "__main__", "my_llm"}, key=lambda m: (m != lives, m.count("."), len(m)))
    for module in modules:
        tops = (str(own).split(".")[0], "torch", "math", "numpy", "course_lib")
        if module.split(".")[0] in tops and "._" not in module and not module.startswith("_"):
            for candidate in (named, name):
                if callable(value) and vars(sys.modules[module]).get(candidate) is value:
                    return f"from {module} import {candidate}" + ("" if candidate == name else f" as {name}")
    return ""


def merge(old: str, exercise: Exercise, parts: Parts) -> tuple[str, list[str]]:
    """The text of the file with a function's section, and those of what it needs, written anew.

    Raises:
        CannotKeep: a marker has been lost.
        SyntaxError: a section is not Python.
    """
    pieces = _split(old)
    kept = {name: text for name, text in pieces if name}
    lines, sentences, changed, written = _lines(kept.get(IMPORTS, "")), [], [], set()
    stays = [_body(text) for name, text in kept.items() if name not in (IMPORTS, *parts.definitions)]
    for name in parts.imports.keys() & lines.keys():
        if not any(name in _globals(body) for body in stays):
            del lines[name]  # nothing else needs it as it was
    inside = {n: line for n, line in parts.imports.items() if n in kept or lines.get(n, line) != line}
    place = None
    for name, source in reversed(parts.definitions.items()):
        source = _importing_inside(source, inside)
        text = _section(name, _note(name, exercise), source)
        if name in kept:
            at = next(i for i, (other, _) in enumerate(pieces) if other == name)
            place = at if place is None else min(place, at)
            if _body(kept[name]) == source.rstrip():
                written.add(name)
                continue
            if name != exercise.name and name in exercises():
                sentences.append(f"{name} is an exercise of its own: the version that passed its check stays.")
                continue
            if name != exercise.name:
                changed.append(name)
            pieces[at] = (name, text)
        else:
            place = len(pieces) if place is None else place
            pieces[place:place] = [(name, text), ("", "\n")] if place < len(pieces) else [("", "\n\n"), (name, text)]
            if place and pieces[place][0] == "":
                place += 1
        written.add(name)
    now_mine = {name: line for name, line in lines.items() if name in parts.definitions}
    pieces = [(n, text if not n or n in (IMPORTS, *written) else _section_again(text, now_mine)) for n, text in pieces]
    sections = {name: _body(text) for name, text in pieces if name and name != IMPORTS}
    used = {name: set(_globals(body)) for name, body in sections.items()}
    needed = set().union(*used.values()) - sections.keys()
    imports = {name: line for name, line in (parts.imports | lines).items() if name in needed}
    pieces = _with_imports(pieces, imports)
    for name in changed:
        others = [other for other in sections if name in used[other] and other not in parts.definitions]
        if others:
            sentences.append(f"{name} has changed, and {', '.join(others)} uses it too: run its check again.")
    return "".join(text for _, text in pieces), sentences


def _section_again(section: str, imports: dict[str, str]) -> str:
    first, *_, last = section.splitlines(keepends=True)
    return f"{first}{_importing_inside(_body(section), imports).rstrip()}\n{last}"


def _importing_inside(source: str, imports: dict[str, str]) -> str:
    """The same definition, importing for itself what it uses of these names: in the file they mean something else."""
    lines = source.splitlines(keepends=True)
    tree = ast.parse(source)
    outer = [node for top in tree.body for node in (top.body if isinstance(top, ast.ClassDef) else [top])]
    for node in reversed([node for node in outer if isinstance(node, ast.FunctionDef)]):
        used = set(_globals(textwrap.dedent(ast.get_source_segment(source, node, padded=True))))
        wanted = [line for name, line in imports.items() if name in used]
        if not wanted:
            continue
        first = node.body[1 if ast.get_docstring(node) is not None and len(node.body) > 1 else 0]
        at = min([first, *getattr(first, "decorator_list", [])], key=lambda part: part.lineno).lineno - 1
        before = lines[at].encode()[: first.col_offset].decode()
        indent = before
        if before.strip():  # the body stands on the line of its def
            indent = " " * (node.col_offset + 4)
            lines[at : at + 1] = [before.rstrip() + "\n", indent + lines[at][len(before) :]]
            at += 1
        lines[at:at] = [f"{indent}{line}  # the one that this was written with\n" for line in wanted]
    return "".join(lines)


def _split(text: str) -> list[tuple[str, str]]:
    """The file as pieces: (name, section with its markers), and ("", text in between)."""
    pieces, name, lines = [], "", []
    for line in text.splitlines(keepends=True):
        opening = OPENING.match(line.rstrip())
        if opening and (name or any(opening[1] == other for other, _ in pieces)):
            raise CannotKeep(f"the marker `# >>> {opening[1]}` stands where it should not")
        if opening:
            pieces.append(("", "".join(lines)))
            name, lines = opening[1], []
        lines.append(line)
        if name and line.rstrip() == f"# <<< {name}":
            pieces.append((name, "".join(lines)))
            name, lines = "", []
    if name:
        raise CannotKeep(f"the marker `# <<< {name}` has been lost")
    return [*pieces, ("", "".join(lines))]


def _note(name: str, exercise: Exercise) -> str:
    return f"lesson {exercise.lesson}" if name == exercise.name else f"for {exercise.name}"


def _section(name: str, note: str, body: str) -> str:
    return f"# >>> {name} ({note})\n{body.rstrip()}\n# <<< {name}\n"


def _body(section: str) -> str:
    return "\n".join(section.splitlines()[1:-1]).rstrip()


def _lines(imports: str) -> dict[str, str]:
    """The imports section as name → line."""
    lines = {}
    for node in ast.parse(imports).body:
        for alias in node.names:
            lines[alias.asname or alias.name] = ast.unparse(node)
    return lines


def _with_imports(pieces: list[tuple[str, str]], imports: dict[str, str]) -> list[tuple[str, str]]:
    ordered = sorted(imports.values(), key=lambda line: (line.startswith("from"), line))
    section = _section(IMPORTS, "what the functions below need", "\n".join(ordered)) if imports else ""
    if any(name == IMPORTS for name, _ in pieces):
        return [(name, section if name == IMPORTS else text) for name, text in pieces]
    if not imports:
        return pieces
    first = next(i for i, (name, _) in enumerate(pieces) if name)
    return [*pieces[:first], (IMPORTS, section), ("", "\n\n"), *pieces[first:]]


def _try_out(text: str, exercise: Exercise, parts: Parts) -> None:
    from course_lib.classroom.checking import attempt

    module = ModuleType("my_llm")
    lacks = f" ({', '.join(parts.missing)} cannot be kept)" if parts.missing else ""
    try:
        code = compile(text, FILE, "exec")
        call(exec, (code, vars(module)), SECONDS, Sink())
        wrongs = [wrong for _, wrong, _ in attempt(exercise, vars(module)[exercise.name], secrets.randbits(62))]
    except SyntaxError as error:
        raise CannotKeep(f"line {error.lineno} of the file would not be Python") from None
    except Wrong as wrong:
        raise CannotKeep(f"the file would not load on its own, {wrong.sentence}{lacks}") from None
    except (NotDone, KeyError):
        raise CannotKeep("something else in the file has its name") from None
    for wrong in filter(None, wrongs):
        raise CannotKeep(f"on its own {wrong.sentence}{lacks}")
