"""notebooks/ → workspace/: the learner's own copy of every lesson and homework, with solutions and outputs cleared.

What a learner wrote is never overwritten. A copy counts as edited where a cell's source differs from what was
written here: running or saving it changes only outputs and metadata, and those come back by running.

    the copy is …           and the lesson …    then
    not there               is any              it is written (a deleted copy comes back: that is how to start afresh)
    not edited              has changed         it is replaced
    edited                  has changed         the new one is put beside it: NAME.updated.ipynb (or .updated-2.ipynb …)
    edited or not           is the same         nothing happens

A version put beside an edited copy and deleted there stays deleted: it was seen. Files that are not copies, or copies
of a lesson that the course no longer has, are not touched. `whats_new.md` says which cells of a lesson have changed.

Line ends and a byte-order mark are no edit: git on Windows, and some editors, change them in a whole file.
"""

import codecs
import contextlib
import difflib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from datetime import date
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from course_lib.classroom.location import LESSONS, copy_folder
from course_lib.files import locked, read_bytes, replace


class WorkspaceError(RuntimeError):
    """The learner's copy cannot be made; the message says why and what to do."""


WHATS_NEW = "whats_new.md"
LIST = ".course/copies.json"  # what was written here, by file, and what stood in a file before


class Change(NamedTuple):
    """What happened to `file`, and, where a lesson has changed, the cells in which, in words."""

    file: str
    what: str
    cells: tuple[str, ...] = ()


class Copy(NamedTuple):
    """One of the learner's copies of a lesson."""

    file: str
    edited: bool
    older: bool  # than the newest version that came here


def lesson_names(lessons: Path = LESSONS) -> list[str]:
    """Every lesson's path below `lessons`, in order, then every homework's: 01_name.ipynb, hw1_name.ipynb."""
    found = [path for start in ("[0-9]", "hw[0-9]") for path in sorted(lessons.rglob(f"{start}*.ipynb"))]
    return [path.relative_to(lessons).as_posix() for path in found if ".ipynb_checkpoints" not in path.parts]


def key_of(lesson: Path) -> str:
    """Which lesson of lessons.toml a notebook is, as it says itself, whatever its file is called; empty for none."""
    return json.loads(content_of(lesson))["metadata"].get("course", {}).get("lesson", "")


def copy_lessons(lessons: Path = LESSONS, workspace: Path | None = None) -> list[Change]:
    """Bring every lesson's copy up to date, and say what changed; safe to stop and to run again at any moment.

    Raises WorkspaceError, in one sentence, where the workspace cannot be written or no lesson is found.
    """
    workspace = workspace or copy_folder()
    names = lesson_names(lessons)
    if not names:
        raise WorkspaceError(f"there are no lessons in {lessons}: run this from the course's repository")
    if workspace.resolve().is_relative_to(lessons.resolve()):
        raise WorkspaceError(
            f"the workspace cannot be among the lessons themselves ({workspace}): choose another folder"
        )
    if workspace.exists() and not workspace.is_dir():
        raise WorkspaceError(f"{workspace} is a file, and the learner's copy needs a folder there: move it away")
    try:
        with locked(workspace):
            copies, changes = _read(workspace / LIST)
            for name in names:
                if change := _bring(name, lessons, workspace, copies):
                    changes.append(change)
            _note_what_is_new(workspace / WHATS_NEW, changes, workspace)
        return changes
    except OSError as error:
        where = error.filename2 or error.filename or workspace
        raise WorkspaceError(f"the learner's copy cannot be written: {where}: {error.strerror}") from error


def was_saved(name: str, workspace: Path) -> float:
    """When the learner last saved the copy of a lesson, in seconds; 0 where it is as written here, or missing."""
    copies, _ = _read(workspace / LIST)
    path = workspace / name
    try:
        ours = copies.get(name, {}).get("sha256") == _sha256(content_of(path))
        return 0.0 if ours else path.stat().st_mtime
    except OSError:
        return 0.0


def learners_copies(workspace: Path) -> dict[str, list[Copy]]:
    """Every lesson that ever came here, and the copies that there are of it: first the one to go on with."""
    copies, _ = _read(workspace / LIST)
    found = {}
    for name in sorted({copy["of"] for copy in copies.values()}):
        given = {file: copy for file, copy in copies.items() if copy["of"] == name}
        files = sorted({name, *given}, key=lambda file: (len(file), file))  # as `_names` has them
        there = [_copy(file, given, workspace) for file in files if (workspace / file).is_file()]
        found[name] = sorted(there, key=lambda copy: copy.older)
    return found


def released_cells(workspace: Path) -> set[str]:
    """The digests, as `cell_digest` makes them, of all cells of all versions that are known to have come here."""
    copies, _ = _read(workspace / LIST)
    return {digest for copy in copies.values() for digest in copy.get("each", "").split()}


def cell_digest(source: str) -> str:
    """A short digest of one cell's source."""
    return _sha256(_lf(source).encode())[:8]


def learners_version(lesson: Path) -> bytes:
    """The lesson as a learner gets it: cell for cell what `nbgrader generate_assignment` releases.

    On a class's server the lessons are that already (deploy/for_learners.py), and stay as they are.
    """
    there = content_of(lesson)
    if b"### BEGIN " not in there and b'"output_type"' not in there:
        return there
    from nbconvert.exporters import NotebookExporter
    from nbgrader import preprocessors as nbgrader
    from traitlets.config import Config

    exporter = NotebookExporter(config=Config(Exporter={"default_preprocessors": []}))
    for step in (
        nbgrader.LockCells,
        nbgrader.ClearSolutions,
        nbgrader.ClearOutput,
        nbgrader.CheckCellMetadata,
        nbgrader.ClearHiddenTests,
        nbgrader.ClearMarkScheme,
        nbgrader.ComputeChecksums,  # last: a checksum is of what the learner sees
    ):
        exporter.register_preprocessor(step, enabled=True)
    text, _ = exporter.from_file(StringIO(there.decode()))
    return text.rstrip("\n").encode() + b"\n"


# ---- one lesson ----------------------------------------------------------------------------------


def _bring(name: str, lessons: Path, workspace: Path, copies: dict[str, dict[str, str]]) -> Change | None:
    """Bring one lesson's copy up to date. `copies` is what is known of every file written here, and is kept on disk."""
    lesson = lessons / name
    version = _sha256(content_of(lesson))
    given = any((copy["of"], copy["version"]) == (name, version) for copy in copies.values())
    if given and (workspace / name).exists():
        return None

    new = learners_version(lesson)
    record = {"of": name, "version": version, "sha256": _sha256(new), "cells": _cells(new), "each": _each(new)}
    written = {record["cells"], *(copy["cells"] for copy in copies.values() if copy["of"] == name)}
    given = [
        copy["each"] for copy in copies.values() if copy["of"] == name and "each" in copy
    ]  # the last is the newest
    for file in _names(name):
        path, copy = workspace / file, copies.get(file)
        what = ""  # nothing to write
        if not path.exists():
            what = f"the new version of {name}, beside yours, which you had edited"
            if file == name:
                what = "written again: it was missing" if copy else "new"
            break
        cells = _cells(content_of(path))
        if cells == record["cells"] and (not copy or copy["sha256"] == record["sha256"]):
            break
        if cells in written:
            what = "updated: the course has a new version, and you had not edited yours"
            break
        if copy and copy["cells"] == record["cells"]:  # edited, and the new version differs in no cell's source
            record = {**copy, "version": version}
            break

    if what:
        _replace(path, new, workspace)
    before = copies.pop(file, None)
    if before and before["version"] != version:  # it stays on record: the learner may have moved that copy over another
        copies[f"{file} of {before['version'][:8]}"] = before
    copies[file] = record
    _replace(workspace / LIST, json.dumps(copies, indent=1).encode(), workspace)
    return Change(file, what, tuple(changed_cells(given[-1], new)) if given else ()) if what else None


def changed_cells(before: str, new: bytes) -> Iterator[str]:
    """Each change from a version, given by its cells' digests, to the notebook `new`: where, and how it begins."""
    old, cells, heading, headings = before.split(), json.loads(new)["cells"], "at the beginning", []
    for cell in cells:
        titles = [line for line in _source(cell).splitlines() if cell["cell_type"] == "markdown" and line[:1] == "#"]
        heading = f"under “{titles[-1].lstrip('# ')}”" if titles else heading
        headings.append(heading)
    steps = difflib.SequenceMatcher(a=old, b=_each(new).split(), autojunk=False).get_opcodes()
    for kind, gone_from, gone_to, start, end in steps:
        if kind == "equal":
            continue
        for number in range(start, end):
            said = "changed" if number - start < gone_to - gone_from else "new"
            first = next((line.strip("# ") for line in _source(cells[number]).splitlines() if line.strip()), "")
            yield f"{said} {headings[number]}: {first[:70]}"
        if (fewer := gone_to - gone_from - (end - start)) > 0:
            place = headings[max(start - 1, 0)] if headings else "at the beginning"
            yield f"{fewer} cell{'s' * (fewer > 1)} gone {place}"


def _note_what_is_new(page: Path, changes: list[Change], workspace: Path) -> None:
    """The newest first; a page that the learner deleted begins anew."""
    new = [change for change in changes if change.cells]
    if not new:
        return
    before = page.read_text("utf-8", "replace").split("\n", 1)[-1] if page.is_file() else ""
    lines = []
    for change in new:
        lines += ["", f"## {date.today()} · [{change.file}]({change.file})", "", f"{change.what}.", ""]
        lines += [f"- {cell}" for cell in change.cells]
    _replace(page, ("# What is new in the lessons\n" + "\n".join(lines) + "\n" + before).encode(), workspace)


def _copy(file: str, given: dict[str, dict[str, str]], workspace: Path) -> Copy:
    """`given` has all versions of the lesson that are known to have come here, the newest last."""
    content, own, newest = content_of(workspace / file), given.get(file), [*given.values()][-1]
    cells = _cells(content)
    if cells == newest["cells"]:
        return Copy(file, edited=False, older=False)
    if own is None or cells == NO_NOTEBOOK:  # nothing says what it came from
        return Copy(file, edited=True, older=True)
    # a learner may have put a new version in the place of the old one: the version that is most like it, not its name's
    there = set(_each(content).split())
    version = min((own, *given.values()), key=lambda copy: len(there ^ set(copy.get("each", "").split())))
    return Copy(file, edited=cells != version["cells"], older=version["cells"] != newest["cells"])


def _names(name: str) -> Iterator[str]:
    """The lesson's own name, then the names for what is put beside it."""
    stem = name.removesuffix(".ipynb")
    yield name
    yield f"{stem}.updated.ipynb"
    for number in itertools.count(2):
        yield f"{stem}.updated-{number}.ipynb"


# ---- files ---------------------------------------------------------------------------------------

NO_NOTEBOOK = "not a notebook"


def content_of(path: Path) -> bytes:
    """A file without what git on Windows, or an editor, may have added to it: a byte-order mark, other line ends."""
    return read_bytes(path).removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")


def _cells(notebook: bytes) -> str:
    """A digest of what a person writes: the cells' kinds and sources, less the empty cell that Shift-Enter adds."""
    try:
        cells = [(cell["cell_type"], _source(cell)) for cell in json.loads(notebook)["cells"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return NO_NOTEBOOK  # so never the same as ours: it counts as edited
    return _sha256(json.dumps([cell for cell in cells if cell[1].strip()]).encode())


def _each(notebook: bytes) -> str:
    """A short digest of each cell, in order."""
    return " ".join(cell_digest(_source(cell)) for cell in json.loads(notebook)["cells"])


def _source(cell: dict) -> str:
    return _lf("".join(cell["source"]))


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(manifest: Path) -> tuple[dict[str, dict[str, str]], list[Change]]:
    """What was written here before. Without it every file that differs counts as edited, so nothing is lost."""
    if not manifest.exists():
        return {}, []
    try:
        copies = json.loads(content_of(manifest))
        known = {"of", "version", "sha256", "cells"}
        if all(
            known <= set(copy) and all(isinstance(value, str) for value in copy.values()) for copy in copies.values()
        ):
            return copies, []
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    aside = manifest.with_name("copies.damaged.json")
    with contextlib.suppress(FileNotFoundError):  # another process has done it already
        os.replace(manifest, aside)
    return {}, [Change(f".course/{aside.name}", "the list of copies was damaged: set aside, nothing of yours is lost")]


def _replace(path: Path, content: bytes, workspace: Path) -> None:
    """Whole or not at all, wherever it is stopped: one name for what is not finished, so that none pile up."""
    unfinished = workspace / ".course/unfinished"
    unfinished.write_bytes(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(unfinished, path)
