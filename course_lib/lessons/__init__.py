"""The content of the course: of each lesson and homework its exercises and its figures."""

import functools
import importlib
import pkgutil

from course_lib.classroom.exercise import Exercise


@functools.cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by the name of its function, in the order of the lessons; the homework's come last."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    folders = [name for kind in ("lesson_", "homework_") for name in names if name.startswith(kind)]
    found = {}
    for folder in folders:
        for exercise in importlib.import_module(f"{__name__}.{folder}.exercises").EXERCISES:
            if exercise.name in found:
                raise ValueError(f"two exercises are called {exercise.name}")
            found[exercise.name] = exercise
    return found
