"""The learner's function as the checks see it: each call is guarded and held against the oracle."""

import contextlib
import copy
import dis
import inspect
import logging
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from time import thread_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.classroom import guard
from course_lib.classroom.answers import (
    OTHER_VALUE,
    as_it_is_now,
    common,
    describe,
    fault_of,
    first_difference,
    in_a_tuple,
    same,
)
from course_lib.classroom.exercise import BrokenCheck, Exercise, NotDone, Wrong

log = logging.getLogger(__name__)


def attempt(exercise: Exercise, function: Callable, seed: int, part: str | None = None) -> Iterator[tuple]:
    """Run the checks (of one part, or all): yields for each its docstring, the `Wrong` or None, and the `Learner`.

    A check that crashes yields a `BrokenCheck`, and the others go on.

    Raises:
        NotDone: the function is not written yet.
    """
    learner = Learner(function, exercise, seed)
    chosen = exercise.checks.values() if part is None else [exercise.checks[part]]
    for number, one in enumerate(check for group in chosen for check in group):
        random = torch.Generator().manual_seed(seed + number)
        try:
            with apart(seed + number):
                one(learner, random)
            found = None
        except Wrong as wrong:
            found = wrong
        except NotDone:
            raise
        except Exception as error:
            log.info("the check %s of %s broke", one.__name__, exercise.name, exc_info=True)
            found = BrokenCheck(error)
        yield one.__doc__, found, learner
        if found is not None and learner.left <= 0:
            return  # it would only run out of time again


@dataclass(frozen=True)
class Case:
    """One input, what the learner's function gave, and what is right."""

    arguments: tuple
    answer: Any
    expected: Any
    tolerance: float = 1e-5

    @cached_property
    def fault(self) -> str:
        return fault_of(self.answer, self.expected, self.tolerance)


class Learner:
    """Calls the learner's function on copies of the arguments, within what is left of the exercise's time."""

    def __init__(self, function: Callable, exercise: Exercise, seed: int):
        if _is_empty(function):
            raise NotDone
        self.function, self.exercise, self.sink = function, exercise, guard.Sink()
        self.left, self.luck, self.made = exercise.seconds, random.Random(seed), {}
        self.watched = False  # the first call is, and stands for all

    def compare(
        self,
        inputs: Iterable[Any],
        mistakes: Mapping[str, Callable[..., Any]] | None = None,
        crashes: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        """Hold the learner's answers for all inputs, smallest first, against the oracle's.

        An input is a tuple of arguments, or the only argument. `crashes` are mistakes, too: those that PyTorch refuses
        to compute for some of the inputs.

        Raises:
            Wrong: where it crashes, the first of `crashes` that does so with the same words; else the first of
                `mistakes` and the exercise's mistakes (sentence → formula) that explains every answer; else what can be
                said of any function: nothing returned, type, shape, NaN, another answer each time, another value.
        """
        inputs = [given if type(given) is tuple else (given,) for given in inputs]
        try:
            answers = [(arguments, self.answer(*arguments)) for arguments in inputs]
        except Wrong as wrong:
            for sentence, formula in (crashes or {}).items():
                if (crash := _first_crash(formula, inputs)) and crash in wrong.sentence:
                    raise Wrong(sentence, wrong.shown) from None
            raise
        cases = [
            Case(arguments, self._taken(answer, right := self._expected(arguments)), right, self.exercise.tolerance)
            for arguments, answer in answers
        ]
        first = next((case for case in cases if case.fault), None)
        if first is None:
            return
        shown = self._shown(first)
        for sentence, formula in (self.made | (mistakes or {}) | self.exercise.mistakes).items():
            if _explains_all(formula, cases):
                self.made[sentence] = formula  # in later checks too, rather than another that looks the same
                raise Wrong(sentence, shown)
        if first.fault == OTHER_VALUE:
            raise Wrong(self._unsteady(first) or common(cases) or first.fault, shown)
        raise Wrong(first.fault, shown)

    def _unsteady(self, case: Case) -> str:
        """What is said of a function whose answers change from call to call; empty where they do not."""
        luck = self.luck.getrandbits(62)
        if not all(same(case.answer, self.answer(*case.arguments)) for _ in range(20)):
            if same(*(self.answer(*case.arguments, luck=luck) for _ in range(2))):
                return "it gives another answer each time for the same input: nothing is left to chance here"
            return "it gives another answer when it is called again: it keeps something from one call to the next"
        return ""

    def _shown(self, case: Case) -> str:
        gave, right = describe(case.answer), describe(case.expected)
        long = case.fault == OTHER_VALUE and (len(gave + right) > 100 or gave == right)
        if long and (parted := first_difference(case.answer, case.expected, case.tolerance)):
            place, gave, right = parted
            return f"{self._call(case.arguments)}{place} is {describe(gave)}; right is {describe(right)}"
        return f"{self._call(case.arguments)} gave {gave}; right is {right}"

    def answer(self, *arguments: Any, luck: int | None = None) -> Any:
        """The learner's answer, for a check that looks at a property of it; later calls change nothing about it.

        `luck` seeds what the function draws; else it is another in each call.
        """
        return as_it_is_now(self._called(arguments, luck)[1])

    def gradient(self, *arguments: Any, to: int, upstream: Tensor) -> Tensor | None:
        """What comes back to the argument number `to` where `upstream` comes to the answer; None where nothing does.

        Raises:
            Wrong: the answer is no tensor of the shape of `upstream`, or PyTorch cannot go back through it.
        """
        asking = (*arguments[:to], arguments[to].clone().requires_grad_(), *arguments[to + 1 :])
        given, answer = self._called(asking, None)
        if not isinstance(answer, Tensor) or answer.shape != upstream.shape:
            self.compare([arguments])
            raise Wrong("where its input asks for gradients, it gives another answer")
        if answer.requires_grad:
            try:
                answer.backward(upstream)
            except Exception as error:  # PyTorch's, or that of a backward which somebody wrote
                raise Wrong(f"no gradient can be found: {str(error).splitlines()[0]}", self._call(arguments)) from None
        return given[to].grad

    def _called(self, arguments: tuple, luck: int | None) -> tuple[tuple, Any]:
        """What was handed in (copies), and the answer itself."""
        given = _copied(arguments)
        watch = contextlib.nullcontext([]) if self.watched else guard.watched(given, self.exercise)
        self.watched, limit = True, guard.Limit(self.left, thread_time)
        try:
            with watch as called, apart(self.luck.getrandbits(62) if luck is None else luck):
                answer = guard.call(self.function, given, self.left, self.sink)
        except NotDone as other:
            if str(other):
                raise Wrong(f"it calls `{other}`, which is not done yet") from None
            raise
        except Wrong as wrong:
            if not called:
                raise Wrong(wrong.sentence, wrong.shown or self._call(arguments)) from None
        finally:
            self.left = limit.left()
        if called:
            raise Wrong(f"it calls `{called[0]}` of course_lib, and that is what you are to write")
        if not all(map(same, given, arguments)):
            raise Wrong(
                "it changes what it was given: work on a copy, or make a new value",
                f"after {self._call(arguments)} the input is {', '.join(map(describe, given))}",
            )
        if self.exercise.gives_new and any(answer is one for one in given):
            raise Wrong("it gives back the very object that it was given: another one is asked for, equal or not")
        return given, answer

    def _taken(self, answer: Any, expected: Any) -> Any:
        return in_a_tuple(answer, expected) if self.exercise.list_will_do else answer

    def _expected(self, arguments: tuple) -> Any:
        return self.exercise.oracle(*_copied(arguments))

    def _call(self, arguments: tuple) -> str:
        return f"{self.exercise.name}({', '.join(map(describe, arguments))})"


def _first_crash(formula: Callable[..., Any], inputs: Iterable[tuple]) -> str:
    """What PyTorch says at the first input for which the formula cannot be computed; empty where there is none."""
    for arguments in inputs:
        try:
            formula(*_copied(arguments))
        except RuntimeError as error:
            return str(error).split("\n")[0]
    return ""


def _explains_all(formula: Callable[..., Any], cases: Iterable[Case]) -> bool:
    """Whether it gives every answer, wherever it says something, and a wrong one for at least one wrong answer."""
    explained = False
    for case in cases:
        try:
            made = formula(*_copied(case.arguments))
            agrees = same(case.answer, made, case.tolerance)
        except (RuntimeError, IndexError):  # for this input the formula says nothing
            continue
        except Exception:
            log.info("the formula of a mistake broke", exc_info=True)  # ours: a test sees it, and not the learner
            continue
        if not agrees:
            return False
        explained = explained or bool(case.fault and fault_of(made, case.expected, case.tolerance))
    return explained


def _copied(arguments: tuple) -> tuple:
    """As copy.deepcopy, which takes ten times as long for a tensor as its own `clone`."""
    inside = [*arguments, *(item for one in arguments if type(one) in (list, tuple) for item in one)]
    inside += [item for one in arguments if type(one) is dict for item in one.values()]
    tensors = [item for item in inside if type(item) is Tensor and not item.requires_grad]
    return copy.deepcopy(arguments, {id(tensor): tensor.clone() for tensor in tensors})


@contextlib.contextmanager
def apart(seed: int) -> Iterator[None]:
    """What a notebook has set for all of PyTorch, NumPy and Python does not hold inside, and holds again afterwards.

    Nor does what is set inside hold outside. Draws are those of the seed: they change nothing for the lesson, and come
    out the same in each grading.
    """
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic, luck, numpys_luck = torch.get_deterministic_debug_mode(), random.getstate(), np.random.get_state()
    with (
        torch.device("cpu") if _elsewhere() else contextlib.nullcontext(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autograd.set_detect_anomaly(False),
        torch.random.fork_rng(devices=[]),
        np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.set_deterministic_debug_mode("default")
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            torch.set_deterministic_debug_mode(deterministic)
            random.setstate(luck)
            np.random.set_state(numpys_luck)
            if _elsewhere():
                torch.set_default_device(None)


def _elsewhere() -> bool:
    """Whether new tensors are made on another device than the CPU."""
    try:
        return torch.get_default_device().type != "cpu"
    except (RuntimeError, AssertionError):  # on a GPU that is not there
        return True


def _nothing():
    """What an empty function consists of, in the Python that runs."""
    ...
    pass
    return None


NOTHING = {step.opcode for step in dis.get_instructions(_nothing)}


def _is_empty(function: Callable) -> bool:
    """Whether there is nothing in it but a docstring, `...`, `pass` or `return None`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return False
    steps = [*dis.get_instructions(code)]
    constants = [step.argval for step in steps if step.opcode in dis.hasconst]
    return {step.opcode for step in steps} <= NOTHING and all(value in (None, ...) for value in constants)
