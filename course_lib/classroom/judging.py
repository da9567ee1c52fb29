"""The learner's function as the checks see it: each call is guarded and held against the oracle."""

import contextlib
import copy
import dis
import inspect
import logging
import math
import operator
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import thread_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.classroom import guard
from course_lib.classroom.exercise import BrokenCheck, Exercise, NotDone, Wrong

ALMOST = dict(rel_tol=1e-4, abs_tol=1e-5)
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
        for arguments, answer in answers:
            expected = self._expected(arguments)
            if fault := _fault(answer, expected):
                break
        else:
            return
        shown = f"{self._call(arguments)} gave {describe(answer)}; right is {describe(expected)}"
        for sentence, formula in (self.made | (mistakes or {}) | self.exercise.mistakes).items():
            if _explains_all(formula, answers):
                self.made[sentence] = formula  # in later checks too, rather than another that looks the same
                raise Wrong(sentence, shown)
        if not _kind(answer, expected):
            again = [self.answer(*arguments) for _ in range(20)]
            if not all(same(answer, other) for other in again):
                raise Wrong(
                    "it gives another answer each time for the same input: nothing is left to chance here", shown
                )
        raise Wrong(fault, shown)

    def answer(self, *arguments: Any) -> Any:
        """The learner's answer as it is, for a check that looks at a property of it."""
        given = _copied(arguments)
        watch = contextlib.nullcontext([]) if self.watched else guard.watched(given, self.exercise)
        self.watched, limit = True, guard.Limit(self.left, thread_time)
        try:
            with watch as called, apart(self.luck.getrandbits(62)):
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
        return answer

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


def _explains_all(formula: Callable[..., Any], answers: Iterable[tuple[tuple, Any]]) -> bool:
    explained = False
    for arguments, answer in answers:
        found = _explains(formula, arguments, answer)
        if found is False:
            return False
        explained = explained or bool(found)
    return explained


def _explains(formula: Callable[..., Any], arguments: tuple, answer: Any) -> bool | None:
    try:
        return same(answer, formula(*_copied(arguments)))
    except (RuntimeError, IndexError):  # for this input the formula says nothing
        return None
    except Exception:
        log.info("the formula of a mistake broke", exc_info=True)  # ours, and so not for the learner: a test sees it
        return None


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


def same(one: Any, other: Any) -> bool:
    """Equal, whole numbers and truth values exactly, floats within 1e-4 of themselves; NaN equals NaN.

    Only the exact built-in types and tensors: an object that says of itself that it equals everything does not.
    A function, which only an argument can be, is the same as itself.
    """
    if inspect.isfunction(one):
        return one is other
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.detach(), other.detach()
        if not (_has_plain_numbers(one) and _has_plain_numbers(other)) or one.shape != other.shape:
            return False
        if one.is_floating_point() or other.is_floating_point():
            return torch.allclose(one.cpu().double(), other.cpu().double(), rtol=1e-4, atol=1e-5, equal_nan=True)
        return bool((one.cpu() == other.cpu()).all())
    one, other = _plain(one), _plain(other)
    numbers = (int, float, bool)
    if type(one) in numbers and type(other) in numbers:
        if float not in (type(one), type(other)):
            return one == other
        try:
            return math.isclose(one, other, **ALMOST) or (math.isnan(one) and math.isnan(other))
        except OverflowError:  # a whole number that is larger than any float
            return False
    if type(one) is not type(other):
        return False
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) in (str, bytes, set, frozenset, type(None), torch.dtype, torch.Size) and one == other


def _plain(value: Any) -> Any:
    """A number out of a tensor without dimensions, or out of NumPy; a counter as a dict; else the value itself."""
    if type(value) in (Counter, defaultdict):
        return dict(value)
    if type(value) in (Tensor, torch.nn.Parameter) and value.ndim == 0 and _has_plain_numbers(value):
        return value.item()
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return value


def _kind(answer: Any, expected: Any) -> str:
    """What is wrong with the type, the dtype or the shape; empty where nothing is."""
    if answer is None and expected is not None:
        return "it returns nothing: does each way through it end with `return`?"
    if type(_plain(expected)) is not type(expected):
        answer, expected = _plain(answer), _plain(expected)
    elif not isinstance(expected, Tensor):
        answer = _plain(answer)
    asked = _name(expected)
    if isinstance(expected, Tensor):
        if type(answer) not in (Tensor, torch.nn.Parameter):
            return f"it returns {_name(answer)}, and {asked} is asked for"
        if not _has_plain_numbers(answer):
            return f"it returns a tensor of the kind {answer.layout} on {answer.device}: an ordinary one is asked for"
        if _number_kind(answer) != _number_kind(expected):
            return f"it returns numbers of type {_dtype(answer)}, and {_dtype(expected)} is asked for"
        if answer.shape != expected.shape:
            return f"it returns the shape {tuple(answer.shape)}, and {tuple(expected.shape)} is asked for"
    elif type(answer) is not type(expected) and not (type(answer) is int and type(expected) is float):
        return f"it returns {_name(answer)}, and {asked} is asked for"
    return ""


def _has_plain_numbers(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized


def _number_kind(tensor: Tensor) -> str:
    if tensor.dtype is torch.bool:
        return "bool"
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "int"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _name(value: Any) -> str:
    names = {
        int: "a whole number",
        float: "a float",
        bool: "True or False",
        str: "a text",
        bytes: "bytes",
        dict: "a dict",
        type(None): "None",
    }
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if type(value) in (list, tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return names.get(type(value), f"an object of type {type(value).__name__}")


def _fault(answer: Any, expected: Any) -> str:
    """What can be said of any wrong answer; empty where it is right."""
    if fault := _kind(answer, expected):
        return fault
    return "" if same(answer, expected) else _nan(answer, expected) or "it gives another value than it should"


def _nan(answer: Any, expected: Any) -> str:
    count = [
        int(value.isnan().sum()) if isinstance(value, Tensor) else value != value
        for value in (answer, expected)
        if _numeric(value)
    ]
    if len(count) == 2 and count[0] > count[1]:
        return "NaN (not a number) comes out: a 0 / 0, an ∞ − ∞, or the root or logarithm of a negative number"
    return ""


def _numeric(value: Any) -> bool:
    return isinstance(value, Tensor) or type(value) in (int, float)


def describe(value: Any) -> str:
    """A value in a few words: small tensors as lists of rounded numbers, large ones by shape, functions by name."""
    try:
        return _described(value)
    except Exception:  # a list that holds itself, or an object that cannot say what it is
        return f"<an object of type {type(value).__name__}>"


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        few = value.numel() <= 24 and _has_plain_numbers(value)
        return str(_rounded(value.tolist())) if few else f"<{_name(value)[2:]}>"
    if type(value) in (dict, Counter, defaultdict):
        text = "{" + ", ".join(f"{describe(key)}: {describe(item)}" for key, item in value.items()) + "}"
        return text if len(text) <= 200 else f"<{_name(dict(value))[2:]} of {len(value)}>"
    if inspect.isfunction(value):
        return value.__name__
    if type(value) is int and value.bit_length() > 600:  # Python refuses to write down the largest
        return f"<a whole number of {value.bit_length()} bits>"
    if type(value) in (set, frozenset):
        items = ", ".join(sorted(map(describe, value), key=lambda item: (len(item), item)))
        return ("{" + items + "}" if items else "set()") if len(items) < 200 else f"<set of {len(value)}>"
    if type(value) in (list, tuple) and any(isinstance(item, Tensor | Callable | list | tuple) for item in value):
        text = ("[%s]" if type(value) is list else "(%s)") % ", ".join(map(describe, value))
        return text if len(text) <= 200 else text[:200] + " …"
    text = repr(_rounded(value)) if type(value) in (int, float, bool, str, bytes, list, tuple) else _name(value)
    return "None" if value is None else text if len(text) <= 200 else text[:200] + " …"


def _rounded(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(map(_rounded, value))
    if type(value) is float and operator.lt(abs(value), math.inf):
        return round(value, 4) or float(f"{value:.2g}")  # 1e-05 is not 0
    return value
