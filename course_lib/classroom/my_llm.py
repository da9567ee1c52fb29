"""Passed work is kept: `my_llm.py` in the learner's workspace, a module of the functions that passed their checks.

Each function has a section between two marker comments, in the learner's own words, and so has what it needs: the
imports, the helper functions and the constants of the notebook. Only sections are ever rewritten; what a learner
writes outside of them stays as it is.

Imports stand together at the top. But a name may be an import in one lesson and the learner's own function in another:
lesson 06 imports the library's `causal_mask`, which lesson 05 has the learner write, with other arguments. In the file
such a name is the learner's function, and whatever was written with the import does the import inside of itself.

What a newer version of the course no longer has must not take the rest along: an import of it may fail, the file loads
all the same, and the functions that need it stay in it and are named.
"""

import ast
import builtins
import contextlib
import importlib.util
import inspect
import math
import re
import secrets
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from course_lib.classroom.exercise import Exercise, NotDone, Wrong
from course_lib.classroom.guard import Sink, call
from course_lib.classroom.location import nothing_is_kept, workspace_folder
from course_lib.files import locked, write_atomically
from course_lib.lessons import exercises

FILE = "my_llm.py"
HEADER = '''"""My own LLM: the functions that I wrote in this course, each kept when its check passed.

The parts between the markers are rewritten when a newer version passes; what stands outside of them is mine.
"""
'''
OPENING = re.compile(r"^# >>> (\S+).*$")
IMPORTS = "imports"
GAP = None  # the name of the empty lines that we put between two sections
LOST = """try:
    {line}
except ImportError:  # no longer there: what needs it has to pass its check again
    class {name}: ..."""
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
        return nothing_is_kept()
    file, failing = folder / FILE, []
    try:
        parts = collect(function)
        while True:
            old = _read(file)
            new, sentences = merge(HEADER if old is None else old, exercise, parts)
            failing = _stay_but_fail(needing(new))
            _try_out(new, exercise, parts)
            if new == old:
                return [*sentences, *failing]
            with locked(folder):  # for a moment only: the trial takes seconds
                if _read(file) != old:
                    continue  # another kernel has kept something meanwhile: with that, once more
                write_atomically(file, new)
            _import_anew(file)
            return [f"It is kept in {FILE}.", *sentences, *failing]
    except CannotKeep as error:
        return [f"It is not kept in {FILE}: {error}.", *failing]
    except UnicodeDecodeError:
        return [f"It is not kept: {FILE} is not UTF-8 text. Save it as UTF-8, or move it away."]
    except (SyntaxError, ValueError):  # a null byte is a ValueError in Python 3.11
        return [f"It is not kept in {FILE}: a part of it is not Python any more. Mend it, or delete that part."]
    except OSError as error:
        return [f"It is not kept in {FILE}: {error.strerror}."]


def after_update(folder: Path) -> list[str]:
    """Let the file load though the course has lost what it imports; sentences about the functions that need that."""
    file = folder / FILE
    try:
        with locked(folder):
            old = _read(file) or ""
            needs = needing(old)
            if needs:
                end = "\r\n" if "\r\n" in old else "\n"
                write_atomically(file, loadable(old.replace("\r\n", "\n")).replace("\n", end))
        return _stay_but_fail(needs)
    except (CannotKeep, SyntaxError, ValueError, OSError):  # `check` says so, when there is something to keep
        return []


def _read(file: Path) -> str | None:
    """The text, its line ends as they are, without an editor's byte-order mark; None where there is no file."""
    return file.read_bytes().decode("utf-8-sig") if file.exists() else None


def _import_anew(file: Path) -> None:
    """So that a notebook that imports from the file, or has done so, gets what has just been kept."""
    importlib.invalidate_caches()
    # what was compiled less than a second ago, from as many bytes, would be taken for the new file's
    with contextlib.suppress(OSError):
        Path(importlib.util.cache_from_source(str(file))).unlink()
    module = sys.modules.get("my_llm")
    if Path(getattr(module, "__file__", None) or "").resolve() == file.resolve():
        with contextlib.suppress(Wrong, NotDone):  # it has just been tried out
            call(importlib.reload, (module,), SECONDS, Sink())


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
        source = textwrap.dedent(inspect.getsource(thing)).replace("\r\n", "\n").rstrip() + "\n"
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
    kept = (getattr(value, "__module__", None), getattr(value, "__name__", None)) == ("my_llm", name)
    if getattr(builtins, name, None) is value or kept:
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

    What is written gets the line ends of the file's first line; what is not touched keeps its own.

    Raises:
        CannotKeep: a marker has been lost.
        SyntaxError: a section is not Python.
    """
    before = {name: text for name, text in _split(old) if name}
    pieces = [(name, text.replace("\r\n", "\n") if name else text) for name, text in _split(old)]
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
            pieces[place:place] = [(name, text), (GAP, "\n")] if place < len(pieces) else [(GAP, "\n\n"), (name, text)]
            if place and not pieces[place][0]:
                place += 1
        written.add(name)
    now_mine = {name: line for name, line in lines.items() if name in parts.definitions}
    pieces = [(n, text if not n or n in (IMPORTS, *written) else _section_again(text, now_mine)) for n, text in pieces]
    sections = {name: _body(text) for name, text in pieces if name and name != IMPORTS}
    used = {name: set(_globals(body)) for name, body in sections.items()}
    needed = set().union(*used.values()) - sections.keys()
    imports = {name: line for name, line in (parts.imports | lines).items() if name in needed}
    pieces = _with_imports(pieces, imports)
    end = "\r\n" if old.split("\n", 1)[0].endswith("\r") else "\n"
    for at, (name, text) in enumerate(pieces):
        if name in kept and text == kept[name]:
            pieces[at] = (name, before[name])
        elif name != "":
            pieces[at] = (name, text.replace("\n", end))
    for name in changed:
        others = [other for other in sections if name in used[other] and other not in parts.definitions]
        if others:
            sentences.append(f"{name} has changed, and {', '.join(others)} uses it too: run its check again.")
    return "".join(text for _, text in pieces), sentences


def _stay_but_fail(needs: dict[str, str]) -> list[str]:
    sentences = []
    for line in dict.fromkeys(needs.values()):
        names = [name for name in needs if needs[name] == line]
        stay, need, their = ("stays", "needs", "its check") if len(names) == 1 else ("stay", "need", "their checks")
        sentences.append(
            f"{', '.join(names)} {stay} in {FILE}, but {need} `{line}`, which no longer works: run {their} again."
        )
    return sentences


def needing(text: str) -> dict[str, str]:
    """The kept functions that an import fails: the line that fails, their own or that of a function they call.

    Raises:
        CannotKeep: a marker has been lost.
        SyntaxError: a section is not Python.
    """
    bodies = {name: _body(section) for name, section in _split(text) if name}
    at_the_top = _lines(bodies.pop(IMPORTS, ""))
    used = {name: set(_globals(body)) for name, body in bodies.items()}
    lines = {
        name: [line for other, line in at_the_top.items() if other in used[name]]
        + [line for line in _lines(body).values() if "course_lib" in line]
        for name, body in bodies.items()
    }
    failing = _failing({line for each in lines.values() for line in each})
    needs = {name: line for name, each in lines.items() for line in each if line in failing}
    while more := {name: needs[other] for name in bodies.keys() - needs for other in used[name] & needs.keys()}:
        needs |= more
    return {name: needs[name] for name in bodies if name in needs}


def loadable(text: str) -> str:
    """The text as it is kept from now on: one that loads though the course no longer has what it imports.

    Raises:
        CannotKeep: a marker has been lost.
        SyntaxError: the imports are not Python.
    """
    pieces = _split(text)
    return "".join(text for _, text in _with_imports(pieces, _lines(_body(dict(pieces).get(IMPORTS, "")))))


def load(text: str, file: str = FILE) -> dict[str, Any]:
    """What the file binds. It runs as any code of a learner: it cannot print, leave, or go on for ever.

    Raises:
        SyntaxError, ValueError: it is not Python.
        Wrong, NotDone: it does not run to its end.
    """
    module = ModuleType("my_llm")
    call(exec, (compile(text, file, "exec"), vars(module)), SECONDS, Sink())
    return vars(module)


def _failing(lines: set[str]) -> set[str]:
    """Those of the import lines whose module or name there is no more."""

    def fails(line: str) -> bool:
        try:
            exec(line, {})
        except ImportError:
            return True
        return False

    with contextlib.suppress(Wrong, NotDone):  # loading the file will say what else is wrong
        return call(lambda: {line for line in lines if fails(line)}, (), SECONDS, Sink())
    return set()


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


def _lines(source: str) -> dict[str, str]:
    """The imports in a source, however deep, as name → line."""
    lines = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                lines[alias.asname or alias.name.split(".")[0]] = ast.unparse(
                    type(node)(**vars(node) | {"names": [alias]})
                )
    return lines


def _with_imports(pieces: list[tuple[str | None, str]], imports: dict[str, str]) -> list[tuple[str | None, str]]:
    failing = _failing(set(imports.values()))
    ordered = [
        LOST.format(name=name, line=line) if line in failing else line
        for name, line in sorted(imports.items(), key=lambda item: (item[1].startswith("from"), item[1]))
    ]
    section = _section(IMPORTS, "what the functions below need", "\n".join(ordered)) if imports else ""
    if any(name == IMPORTS for name, _ in pieces):
        return [(name, section if name == IMPORTS else text) for name, text in pieces]
    if not imports:
        return pieces
    first = next(i for i, (name, _) in enumerate(pieces) if name)
    return [*pieces[:first], (IMPORTS, section), (GAP, "\n\n"), *pieces[first:]]


def _try_out(text: str, exercise: Exercise, parts: Parts) -> None:
    from course_lib.classroom.judging import attempt

    lacks = f" ({', '.join(parts.missing)} cannot be kept)" if parts.missing else ""
    try:
        wrongs = [wrong for _, wrong, _ in attempt(exercise, load(text)[exercise.name], secrets.randbits(62))]
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise CannotKeep(f"{f'line {line} of ' if line else ''}the file would not be Python") from None
    except Wrong as wrong:
        raise CannotKeep(f"the file would not load on its own, {wrong.sentence}{lacks}") from None
    except (NotDone, KeyError):
        raise CannotKeep("something else in the file has its name") from None
    for wrong in filter(None, wrongs):
        raise CannotKeep(f"on its own {wrong.sentence}{lacks}")
