"""What the exercises of all homeworks share: inputs drawn at random."""

import torch


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
