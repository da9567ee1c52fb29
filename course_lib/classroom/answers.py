"""Answers to exercises: whether two are the same, what can be said of one that is wrong, and how one is shown."""

import inspect
import math
import operator
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

ROWS, OTHER_DICTS = (str, bytes, list, tuple), (Counter, defaultdict, OrderedDict)
OTHER_VALUE = "it gives another value than it should"


def same(one: Any, other: Any, tolerance: float = 1e-5) -> bool:
    """Equal, whole numbers and truth values exactly, floats within 1e-4 of themselves or `tolerance`; NaN equals NaN.

    Only the exact built-in types and tensors: an object that says of itself that it equals everything does not.
    A function, which only an argument can be, is the same as itself.
    """
    if inspect.isfunction(one):
        return one is other
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.detach(), other.detach()
        if not (_has_plain_numbers(one) and _has_plain_numbers(other)) or one.shape != other.shape:
            return False
        one, other = one.cpu(), other.cpu()
        if one.is_floating_point() or other.is_floating_point():
            return bool(_close(one, other, tolerance).all())
        return bool((one == other).all())
    one, other = _plain(one), _plain(other)
    numbers = (int, float, bool)
    if type(one) in numbers and type(other) in numbers:
        if float not in (type(one), type(other)):
            return one == other
        try:
            return math.isclose(one, other, rel_tol=1e-4, abs_tol=tolerance) or (math.isnan(one) and math.isnan(other))
        except OverflowError:  # a whole number that is larger than any float
            return False
    if type(one) is not type(other):
        return False
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(same(*two, tolerance) for two in zip(one, other, strict=True))
    if type(one) is dict:
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    return type(one) in (str, bytes, set, frozenset, type(None), torch.dtype, torch.Size) and one == other


def _close(one: Tensor, other: Tensor, tolerance: float) -> Tensor:
    """Number by number: within 1e-4 of itself, or `tolerance`."""
    return torch.isclose(one.double(), other.double(), rtol=1e-4, atol=tolerance, equal_nan=True)


def _plain(value: Any) -> Any:
    """A number out of a tensor without dimensions, or out of NumPy; a dict of any kind as a plain one; else itself."""
    if type(value) in OTHER_DICTS:
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
    return next(filter(None, (_kind_inside(f"its {place}", *two) for place, *two in _parts(answer, expected))), "")


def _kind_inside(place: str, answer: Any, expected: Any) -> str:
    """As `_kind`, of a part: numbers of another type than the right answer's."""
    if isinstance(expected, Tensor) and expected.ndim and isinstance(answer, Tensor) and _has_plain_numbers(answer):
        given, asked = _number_kind(answer), _number_kind(expected)
        return f"{place} has numbers of type {_dtype(answer)}, and {_dtype(expected)} is asked for" * (given != asked)
    answer, expected, numbers = _plain(answer), _plain(expected), (int, float, bool)
    if type(answer) in numbers and type(expected) in numbers:
        fits = type(answer) is type(expected) or (type(answer) is int and type(expected) is float)
        return "" if fits else f"{place} is {_name(answer)}, and {_name(expected)} is asked for"
    return next(filter(None, (_kind_inside(place + inner, *two) for inner, *two in _parts(answer, expected))), "")


def _parts(answer: Any, expected: Any) -> Iterator[tuple[str, Any, Any]]:
    """What stands in the same places of two lists, tuples or dicts of the same size; nothing of others."""
    answer, expected = _plain(answer), _plain(expected)
    if type(answer) in (list, tuple) and type(answer) is type(expected) and len(answer) == len(expected):
        places, two = range(len(expected)), zip(answer, expected, strict=True)
    elif type(answer) is dict is type(expected) and answer.keys() == expected.keys():
        places, two = expected, ((answer[key], expected[key]) for key in expected)
    else:
        return
    # in a list of floats, or among a dict's, a whole number is one of them
    values = expected.values() if type(expected) is dict else expected
    floats = type(expected) is not tuple and float in map(type, values)
    for place, (one, other) in zip(places, two, strict=True):
        yield f"[{describe(place)}]", one, float(other) if floats and type(other) is int else other


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


def fault_of(answer: Any, expected: Any, tolerance: float = 1e-5) -> str:
    """What can be said of any wrong answer; empty where it is right."""
    if fault := _kind(answer, expected):
        return fault
    return "" if same(answer, expected, tolerance) else _nan(answer, expected) or OTHER_VALUE


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
    if type(value) in (dict, *OTHER_DICTS):
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


def as_it_is_now(answer: Any) -> Any:
    """A copy of what is in the answer: plain containers and tensors without a gradient; other objects as they are."""
    kept: dict[int, Any] = {}  # a list may hold itself

    def copied(value: Any) -> Any:
        if id(value) in kept:
            return kept[id(value)]
        if type(value) is Tensor and not value.requires_grad and _has_plain_numbers(value):
            return value.clone()
        if type(value) is list:
            kept[id(value)] = new = []
            new.extend(map(copied, value))
            return new
        if type(value) is dict:
            kept[id(value)] = new = {}
            new.update((key, copied(item)) for key, item in value.items())
            return new
        return tuple(map(copied, value)) if type(value) is tuple else value

    return copied(answer)


def in_a_tuple(answer: Any, expected: Any) -> Any:
    """The answer, a list as a tuple where a tuple of as many is right: “two tensors” may come in either."""
    several = type(answer) is list and type(expected) is tuple and len(answer) == len(expected)
    return tuple(answer) if several else answer


# ---- where a wrong answer parts from the right one, and how -----------------------------------------


def first_difference(answer: Any, expected: Any, tolerance: float = 1e-5) -> tuple[str, Any, Any] | None:
    """The first place where they part, as Python writes it, "[0, 2]", and what stands there; None where all of it."""
    if isinstance(answer, Tensor) and isinstance(expected, Tensor):
        if answer.shape != expected.shape or not expected.ndim:
            return None
        place = tuple((~_close(answer, expected, tolerance)).nonzero()[0].tolist())
        return str([*place]), answer[place].item(), expected[place].item()
    for place, one, other in _parts(answer, expected):
        if not same(one, other, tolerance):
            inner = first_difference(one, other, tolerance)
            return (place + inner[0], *inner[1:]) if inner else (place, one, other)
    return None


def common(cases: Sequence[Any]) -> str:
    """What wrong answers have in common where no mistake of the exercise explains them; empty where nothing.

    Each case has its `answer`, `expected` and `fault`.
    """
    wrong = [case for case in cases if case.fault]
    if not wrong or any(case.fault != OTHER_VALUE for case in wrong):
        return ""
    for sentence, holds in RELATIONS.items():
        if all(holds(_plain(case.answer), _plain(case.expected)) for case in wrong):
            return sentence
    every = [(_numbers(case.answer), _numbers(case.expected)) for case in cases]
    if any(one is None or other is None or one.shape != other.shape for one, other in every):
        return ""
    return _factor_or_difference(*(torch.cat(numbers) for numbers in zip(*every, strict=True)))


def _sized(value: Any) -> bool:
    return type(value) in ROWS or (isinstance(value, Tensor) and value.ndim > 0)


def _of_rows(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """The relation for texts, bytes, lists and tuples with more than one item; it does not hold for others."""

    def both(answer: Any, expected: Any) -> bool:
        rows = type(expected) in ROWS and type(answer) is type(expected)
        return rows and len(expected) > 1 and bool(holds(answer, expected))

    return both


def _of_tensors(holds: Callable[[Tensor, Tensor], bool]) -> Callable[[Any, Any], bool]:
    def both(answer: Any, expected: Any) -> bool:
        return isinstance(expected, Tensor) and isinstance(answer, Tensor) and bool(holds(answer, expected))

    return both


def _in_another_order(answer: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor):
        return expected.numel() > 1 and same(answer.flatten().sort().values, expected.flatten().sort().values)
    return type(expected) in (list, tuple) and sorted(map(describe, answer)) == sorted(map(describe, expected))


def _wrong_at(place: int) -> Callable[[Any, Any], bool]:
    """Whether of several items (the first dimension of a tensor) this one alone is wrong."""

    def holds(answer: Any, expected: Any) -> bool:
        if len(answer) != len(expected) or len(expected) < 3:
            return False
        wrong = [i for i in range(len(expected)) if not same(answer[i], expected[i])]
        return wrong == [place % len(expected)]

    return lambda answer, expected: (
        _sized(answer) and _sized(expected) and type(answer) is type(expected) and holds(answer, expected)
    )


RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "the last one is missing": _of_rows(lambda answer, expected: same(answer, expected[:-1])),
    "the first one is missing": _of_rows(lambda answer, expected: same(answer, expected[1:])),
    "there is one too many at its end": _of_rows(lambda answer, expected: same(answer[:-1], expected)),
    "there is one too many at its beginning": _of_rows(lambda answer, expected: same(answer[1:], expected)),
    "it ends too early: what is there is right": _of_rows(
        lambda answer, expected: len(answer) < len(expected) and same(answer, expected[: len(answer)])
    ),
    "it goes on too long: it is right up to there": _of_rows(
        lambda answer, expected: len(answer) > len(expected) and same(answer[: len(expected)], expected)
    ),
    "spaces or line breaks at its ends are not as they should be": _of_rows(
        lambda answer, expected: type(answer) is str and answer.strip() == expected.strip()
    ),
    "upper and lower case are not as they should be": _of_rows(
        lambda answer, expected: type(answer) is str and answer.casefold() == expected.casefold()
    ),
    "rows and columns have changed places": _of_tensors(
        lambda answer, expected: expected.ndim > 1 and answer.shape == expected.shape and same(answer, expected.mT)
    ),
    "True and False have changed places": _of_tensors(
        lambda answer, expected: expected.dtype is torch.bool and same(answer, ~expected)
    ),
    "the values are right, and their order is not": lambda answer, expected: (
        type(answer) is type(expected) and _sized(expected) and _in_another_order(answer, expected)
    ),
    "only the first one is wrong": _wrong_at(0),
    "only the last one is wrong": _wrong_at(-1),
}


def _numbers(value: Any) -> Tensor | None:
    """A tensor, a number, or a list or tuple of numbers, as one row of float64; None for anything else."""
    if isinstance(value, Tensor):
        return value.detach().flatten().double() if value.dtype is not torch.bool and not value.is_complex() else None
    values = value if type(value) in (list, tuple) else [value]
    numbers = [_plain(one) for one in values]
    fit = all(type(one) is float or (type(one) is int and one.bit_length() < 1024) for one in numbers)
    return torch.tensor(numbers, dtype=torch.float64) if fit else None


def _factor_or_difference(answer: Tensor, expected: Tensor) -> str:
    """Said only where it holds for at least three numbers that are not all the same: one or two may be chance."""
    known = answer.isfinite() & expected.isfinite()
    if not same(answer[~known], expected[~known]) or len(expected[known].unique()) < 3:
        return ""
    answer, expected = answer[known], expected[known]
    largest = expected.abs().argmax()
    factor, difference = (answer[largest] / expected[largest]).item(), (answer - expected).mean().item()
    near = 1e-5 * min(1.0, expected.abs().max().item())
    if factor and abs(factor - 1) > 1e-3 and same(answer, factor * expected, near):
        if abs(factor + 1) < 1e-4:
            return "the sign is wrong: it gives the negative of what is right"
        return f"every value is {factor:.4g} times what it should be"
    if same(answer, expected + difference, near):
        return f"every value is {abs(difference):.4g} too {'large' if difference > 0 else 'small'}"
    return ""
