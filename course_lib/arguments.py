"""What a person hands in at the library's doors: refused in one sentence, or taken as the type that is worked with.

Each function gets the argument's name, for the sentence, and its value. NumPy's numbers and a tensor of one number are
as good as Python's. True is no number, and neither 1 nor "yes" is a truth value.
"""

import math
import os
from collections.abc import Collection, Iterable, Sequence
from operator import index
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeAlias, TypeVar

Whole: TypeAlias = int | Any  # Python's own, NumPy's or a tensor of one number: `whole` refuses what is none of these
Number: TypeAlias = float | Any  # likewise; `finite` refuses
T = TypeVar("T")

SEEDS = (-(2**63), 2**64 - 1)  # the lowest and the highest that PyTorch's generators take
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 120
NAMES = {str: "a text", bool: "True or False", int: "a whole number", dict: "a dictionary"}


def whole(name: str, value: Whole, low: int | None = None, high: int | None = None, expected: str = "") -> int:
    """The whole number that was handed in as `name`, as an int. `expected` may say in other words what it must be.

    Raises:
        ValueError: it is not a whole number, not from `low` to `high`, or of more than 64 bits.
    """
    try:
        number = value if type(value) is int else None if _holds_truth(value) else index(value)
        fits = number is not None and (low is None or number >= low) and (high is None or number <= high)
    except Exception:  # an object's own __index__, or a tensor's that has no numbers
        number, fits = None, False
    if not fits:
        limits = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
        raise refused(name, expected or f"a whole number{limits}", value if number is None else number)
    if number.bit_length() > 64:  # no tensor and no generator takes it, and Python may refuse to write it down
        raise refused(name, "a whole number of at most 64 bits", number)
    return number


def finite(
    name: str,
    value: Number,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    expected: str = "a finite number",
) -> float:
    """The finite number that was handed in as `name`, as a float. `expected` says in words what it must be.

    Raises:
        ValueError: it is no finite number, not from `low` to `high`, or not larger than `above`.
    """
    try:
        text = isinstance(value, str | bytes | bytearray)
        number = value if type(value) is float else math.nan if text or _holds_truth(value) else float(value)
    except Exception:  # as in `whole`
        number = math.nan
    if not (low <= number <= high and above < number < math.inf) or number == -math.inf:
        raise refused(name, expected, value)
    return number


def truth(name: str, value: Any) -> bool:
    """Raises:
    ValueError: it is neither True nor False.
    """
    if not isinstance(value, bool) and not (str(getattr(value, "dtype", "")) == "bool" and value.ndim == 0):
        raise refused(name, "True or False", value)
    return bool(value)


def instance(name: str, value: Any, kind: type[T] | tuple[type, ...], expected: str = "") -> T:
    """The value, which is of this kind.

    Raises:
        ValueError: it is of another one.
    """
    if not isinstance(value, kind):
        raise refused(name, expected or NAMES.get(kind) or f"a {kind.__name__}", value)
    return value


def text(name: str, value: Any) -> str:
    """Raises:
    ValueError: it is no text.
    """
    return instance(name, value, str)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Raises:
    ValueError: it is none of the texts that can be chosen.
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise refused(name, f"one of {', '.join(map(repr, choices))}", value)
    return value


def several(name: str, values: Any, expected: str = "a list", unordered: bool = False) -> Collection | Sequence:
    """What can be gone through more than once: a list, a tuple, a range, an array …; with `unordered`, a set too.

    Raises:
        ValueError: it is something else, such as one text.
    """
    kinds = Collection if unordered else Sequence
    has_none = getattr(values, "is_meta", False) or getattr(values, "is_sparse", False)  # of a tensor's numbers
    fits = values.ndim > 0 if hasattr(values, "ndim") else isinstance(values, kinds)
    if not fits or has_none or isinstance(values, str | bytes | bytearray | memoryview | dict):
        raise refused(name, expected, values)
    return values


def ids(name: str, values: Any, n_ids: int | None = None, unordered: bool = False) -> list[int]:
    """Token ids as a list, each from 0 to n_ids − 1.

    Raises:
        ValueError: it is no list of whole numbers, or one is out of range.
    """
    values = several(name, values, "a list of token ids", unordered)
    try:
        values = values.tolist() if hasattr(values, "tolist") else list(values)
    except Exception:  # a tensor that has no numbers
        raise refused(name, "a list of token ids", values) from None
    last = None if n_ids is None else n_ids - 1
    if values and set(map(type, values)) == {int}:  # many, as a rule
        whole(f"each of {name}", min(values), 0, last)
        whole(f"each of {name}", max(values), 0, last)
        return values
    return [whole(f"each of {name}", id, 0, last) for id in values]


def path_of(name: str, value: Any) -> Path:
    """Raises:
    ValueError: it cannot be the name of a file.
    """
    value = instance(name, value, (str, os.PathLike), "the path of a file")
    try:
        path = Path(value).expanduser()
        fits = str(value) != "" and all(len(part) < 256 for part in map(os.fsencode, path.parts))
    except Exception:  # a lone surrogate, somebody's home folder, an object's own __fspath__
        fits = False
    if not fits or "\0" in str(path):
        raise refused(name, "the path of a file", value)
    return path


def refused(name: str, expected: str, value: Any) -> ValueError:
    """The error, in the words that all doors use."""
    return ValueError(f"{name} must be {expected}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value as a sentence shows it: short, on one line, also where its own repr fails."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception:  # a whole number of more digits than Python writes down
        return (
            f"one of {value.bit_length()} bits" if type(value) is int else f"something of type {type(value).__name__}"
        )


def _holds_truth(value: Any) -> bool:
    """Whether it is True or False, or holds such: Python's own, NumPy's or a tensor's."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
