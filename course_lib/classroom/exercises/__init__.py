"""The exercises of the course: every module `lesson_XX.py` or `homework_X.py` here has a tuple EXERCISES."""

import functools
import importlib
import pkgutil

from course_lib.classroom.exercise import Exercise


@functools.cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by the name of its function, in the order of the lessons; the homework's come last."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [name for kind in ("lesson_", "homework_") for name in names if name.startswith(kind)]
    found = {}
    for module in modules:
        for exercise in importlib.import_module(f"{__name__}.{module}").EXERCISES:
            if exercise.name in found:
                raise ValueError(f"two exercises are called {exercise.name}")
            found[exercise.name] = exercise
    return found
