"""What a person hands in: whole numbers, whoever made them."""

from operator import index
from typing import Any, TypeAlias

Whole: TypeAlias = int | Any  # Python's own, NumPy's or a tensor of one number: `whole` refuses what is none of these

SEEDS = (-(2**63), 2**64 - 1)  # the lowest and the highest that PyTorch's generators take


def whole(name: str, value: Whole, low: int | None = None, high: int | None = None) -> int:
    """The whole number that was handed in as `name`, as an int.

    Raises:
        ValueError: it is not a whole number, or not from `low` to `high`.
    """
    try:
        value = index(value)
        fits = (low is None or value >= low) and (high is None or value <= high)
    except TypeError:
        fits = False
    if not fits:
        limits = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
        raise ValueError(f"{name} must be a whole number{limits}, got {value!r}")
    return value
