"""The content of the course: its lessons and homework, and of each its exercises and its figures."""

import functools
import importlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from course_lib.classroom.exercise import Exercise


@dataclass(frozen=True)
class Lesson:
    """One lesson or homework; its notebook is the one whose metadata say its key."""

    key: str
    number: int  # of its kind
    name: str
    phase: int  # 1 to 3; 0 for the whole journey
    minutes: int  # about, for the whole of it
    homework: bool = False

    @property
    def folder(self) -> str:
        """The folder here that holds its exercises and figures."""
        return f"homework_{self.number}" if self.homework else f"lesson_{self.key}"


@functools.cache
def course() -> dict[str, Lesson]:
    """Every lesson by its key, in their order, then every homework (lessons.toml)."""
    table = tomllib.loads(Path(__file__).with_name("lessons.toml").read_text("utf-8"))
    rows = [Lesson(**row) for row in table["lesson"]] + [Lesson(**row, homework=True) for row in table["homework"]]
    return {row.key: row for row in rows}


@functools.cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by the name of its function, in the order of the lessons; the homework's come last."""
    found = {}
    for lesson in course().values():
        for exercise in importlib.import_module(f"{__name__}.{lesson.folder}.exercises").EXERCISES:
            if exercise.name in found:
                raise ValueError(f"two exercises are called {exercise.name}")
            found[exercise.name] = exercise
    return found
