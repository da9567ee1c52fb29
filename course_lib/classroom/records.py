"""Which exercises are done: `progress()`, and the file `progress.json` in the learner's workspace."""

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

from course_lib.classroom.location import workspace_folder
from course_lib.files import locked, read_bytes, write_atomically
from course_lib.lessons import course, exercises

FILE = "progress.json"
done_here = set()  # in this session, for when there is no workspace


def progress() -> None:
    """Print the exercises of the course, lesson by lesson, then the homework's: ✓ done, ↷ filled in, ○ open."""
    passed, filled, sentences = _known(workspace_folder())
    for sentence in sentences:
        print(sentence)
    known = exercises()
    print(f"{sum(name in passed for name in known)} of {len(known)} exercises done")
    lesson = None
    for exercise in known.values():
        if exercise.lesson != lesson:
            lesson = exercise.lesson
            print(f"{lesson} {course()[lesson].name}")
        mark = "✓" if exercise.name in passed else "↷" if exercise.name in filled else "○"
        print(f"   {mark} {exercise.name}: {exercise.title}")


def done(folder: Path | None) -> set[str]:
    """The names of the exercises that passed: in this session, and as `progress.json` in the folder says."""
    return _known(folder)[0]


def caught_up(folder: Path | None) -> set[str]:
    """The names of the exercises that `catch-up` filled in."""
    return _known(folder)[1]


def done_or_filled(folder: Path) -> set[str]:
    """The names of the exercises that passed or were filled in, for whoever would write over what is not.

    Raises:
        OSError: the file cannot be read, or was damaged and is set aside; `strerror` says so.
    """
    kept, sentences = _read(folder)
    if sentences:
        raise OSError(errno.EIO, " ".join(sentences), str(folder / FILE))
    return done_here | {*kept.get("done", []), *kept.get("caught_up", [])}


def note(name: str) -> list[str]:
    """Note an exercise as done; sentences for the learner where something is in the way."""
    done_here.add(name)
    return _write()


def note_caught_up(names: set[str], folder: Path) -> list[str]:
    """Note exercises as filled in by `catch-up`; sentences where something is in the way."""
    return _write(names, folder)


def _write(more: set[str] = frozenset(), folder: Path | None = None) -> list[str]:
    folder = folder or workspace_folder()
    if folder is None:
        return []
    try:
        with locked(folder):  # another kernel may note something at this moment
            kept, sentences = _read(folder)
            kept["done"] = sorted({*kept.get("done", []), *done_here})
            if more:
                kept["caught_up"] = sorted({*kept.get("caught_up", []), *more})
            write_atomically(folder / FILE, json.dumps(kept, indent=1) + "\n")
        return sentences
    except OSError as error:
        return [f"That it is done could not be noted in {FILE}: {error.strerror}."]


def _known(folder: Path | None) -> tuple[set[str], set[str], list[str]]:
    """What is done, what was filled in, and sentences where something is wrong with the file."""
    try:
        kept, sentences = _read(folder) if folder else ({}, [])
    except OSError as error:
        kept, sentences = {}, [f"{FILE} cannot be read: {error.strerror}."]
    return done_here | {*kept.get("done", [])}, {*kept.get("caught_up", [])}, sentences


def _read(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The file, whatever version of the course wrote it; a damaged one is set aside, and a sentence says so.

    Raises:
        OSError: it cannot be read, or not be set aside.
    """
    file = folder / FILE
    with contextlib.suppress(ValueError, RecursionError):
        return _parsed(file), []
    with locked(folder):
        try:
            return _parsed(file), []  # another process has set the damaged one aside meanwhile
        except (ValueError, RecursionError):
            aside = _free_name(file)
            file.replace(aside)
    return {}, [f"{FILE} was damaged: it is now {aside.name}. Run the checks again, and it is filled anew."]


def _parsed(file: Path) -> dict[str, Any]:
    try:
        content = read_bytes(file)
    except FileNotFoundError:
        if file.is_symlink():
            raise OSError(errno.ENOENT, "it is a link to a file that is not there", str(file)) from None
        return {}
    kept = json.loads(content)  # from bytes, so that a byte-order mark is none of the text
    lists = [kept.get("done"), kept.get("caught_up", [])] if isinstance(kept, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("not lists of names")
    return kept


def _free_name(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.stem}.damaged-{number}{file.suffix}")).exists():
        number += 1
    return aside
