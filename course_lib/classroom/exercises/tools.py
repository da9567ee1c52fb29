"""What the exercises of both homeworks share: inputs drawn at random, and a call that is watched."""

import os
import sys

import torch

import course_lib
from course_lib.classroom import guard
from course_lib.classroom.exercise import Wrong

LIBRARY = os.path.dirname(course_lib.__file__) + os.sep


def by_oneself(learner, *arguments, allowed=()):
    """The answer of the learner's function, watched: of course_lib, it may call what stands in the allowed files alone.

    `allowed` are files of input_processing. What is handed in, an encoder or a rule of choice, stands in the folder
    classroom, as the checks do.
    """
    free = (f"{LIBRARY}classroom{os.sep}", *(f"{LIBRARY}input_processing{os.sep}{name}.py" for name in allowed))
    called = []

    def watch(frame, event, _):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(LIBRARY) or code.co_filename.startswith(free):
            return
        caller = frame.f_back
        while caller and not caller.f_code.co_filename.startswith(LIBRARY):
            caller = caller.f_back
        if caller and caller.f_code.co_filename == guard.__file__ and code.co_name != "<module>":  # an import
            called.append(code.co_qualname)

    if sys.getprofile() is not None:
        return learner.answer(*arguments)  # somebody else's profiler runs, and there can be but one
    answer = None
    sys.setprofile(watch)
    try:
        answer = learner.answer(*arguments)
    except Wrong:
        if not called:
            raise
    finally:
        sys.setprofile(None)
    if called:
        raise Wrong(f"it calls `{called[0]}` of course_lib, and that is what you are to write")
    return answer


def draw(random, low, high):
    """A whole number from low to high."""
    return int(torch.randint(low, high + 1, (), generator=random))


def some(random, things, number):
    """A list of `number` of the things, drawn one by one."""
    return [things[draw(random, 0, len(things) - 1)] for _ in range(number)]


def shuffled(random, things):
    return [things[i] for i in torch.randperm(len(things), generator=random)]


def vectors(random, *shape):
    """Numbers from the normal distribution."""
    return torch.randn(*shape, generator=random)
