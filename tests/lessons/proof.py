"""Proofs that the exercises tell right from wrong: in each lesson's folder proofs.py, with a `Proof` an exercise.

Add an exercise: its name here, at least two right answers that are written differently, and at least five plausible
wrong ones, each with a piece of the sentence that it must get and no other wrong answer gets.
"""

import importlib
from pathlib import Path
from types import FunctionType


class Proof:
    def __init__(self, exercise: str):
        self.exercise, self.rights, self.wrongs = exercise, [], []

    def right(self, function):
        self.rights.append(function)
        return function

    def wrong(self, diagnosis: str):
        def add(function):
            self.wrongs.append((function, diagnosis))
            return function

        return add


def called(name, function):
    """The same function under the name of the exercise."""
    twin = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def proofs() -> dict[str, Proof]:
    found = {}
    for path in sorted(Path(__file__).parent.glob("*/proofs.py")):
        for value in vars(importlib.import_module(f"lessons.{path.parent.name}.proofs")).values():
            if isinstance(value, Proof):
                assert value.exercise not in found, f"two proofs of {value.exercise}"
                found[value.exercise] = value
    return found
