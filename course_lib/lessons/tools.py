"""What exercises share: inputs drawn at random, and a sentence of its own for a crash."""

import torch

from course_lib.classroom.exercise import Wrong


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


def counted(function):
    """The function, and a list that gets longer with each call: for who is to ask once."""
    calls = []

    def call(*given, **named):
        calls.append(given)
        return function(*given, **named)

    return call, calls


def only_if(condition, formula):
    """The formula of a mistake, where it says something: elsewhere it is what others say as well, or right."""

    def or_nothing(*given):
        if not condition(*given):
            raise RuntimeError
        return formula(*given)

    return or_nothing


OVERFLOWS = (
    "NaN comes out where scores are large: e to the power of them is infinite, or all become 0. A softmax that "
    "survives takes the largest of each row off first"
)


def crash_said(try_out, pieces, sentence):
    """The same check, with a sentence of its own for a crash or fault whose message holds one of the pieces."""

    def check(learner, random):
        try:
            try_out(learner, random)
        except Wrong as wrong:
            if any(piece in wrong.sentence for piece in pieces):
                raise Wrong(sentence, wrong.shown) from None
            raise

    check.__doc__ = try_out.__doc__
    return check
