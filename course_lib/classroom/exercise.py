"""What an exercise is: data, and a few small functions that try a learner's function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Wrong(Exception):
    """A check found a mistake: `sentence` names the symptom, `shown` is the smallest input that shows it."""

    def __init__(self, sentence: str, shown: str = ""):
        super().__init__(sentence)
        self.sentence, self.shown = sentence, shown


class BrokenCheck(Wrong):
    """A check, or the oracle, crashed: that is the course's mistake, and never the learner's."""

    def __init__(self, error: Exception):
        self.__cause__ = error
        said = str(error).strip().split("\n")[0][:200]
        super().__init__(
            f"a mistake of the course, not yours: this check itself stopped with {type(error).__name__}"
            + (f": {said}" if said else "")
            + ". Nothing of yours is lost. Please report it"
        )


class NotDone(Exception):
    """The function is not written yet."""


@dataclass(frozen=True)
class Exercise:
    """One function that the learner writes.

    A check is a function `check(learner, random)`: `random` is a `torch.Generator` to draw its inputs from, and
    `learner.compare(inputs, mistakes)` holds the learner's function against the oracle. For a property,
    `learner.answer(*arguments)` gives the answer alone, and the check raises `Wrong(sentence, input)`. The check's
    docstring is the line that is printed when it passes.

    A mistake is a sentence and the formula of somebody who makes it: `compare` finds the one that gives all the
    learner's answers. `mistakes` are those of the whole exercise.

    `may_call` is for homework: of the course itself, the learner's function may call what is handed in and what stands
    in these files of input_processing, and nothing else. The first call of each part is watched.

    `checks` are grouped in parts: `grade(f, part)` runs one part, `check(f)` all of them in order.
    """

    name: str
    lesson: str
    title: str
    oracle: Callable[..., Any]
    hints: tuple[str, str, str]
    checks: Mapping[str, tuple[Callable[..., None], ...]]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    may_call: tuple[str, ...] | None = None  # None: not watched
    gives_new: bool = False  # the statement asks for a list or tensor other than what was handed in
    list_will_do: bool = False  # the statement asks for several things, and does not say that they are a tuple
    tolerance: float = 1e-5  # how far a float may be off beside a ten-thousandth of itself; 0 where all are small
    seconds: float = 8.0  # for all calls of the learner's function in one go
