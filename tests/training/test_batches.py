"""Batches are windows of the tokens, each with the same window one token later."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.training.batches import random_batch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 30), st.integers(0, 10**6))
def test_windows_of_the_tokens(batch_size, context_length, more, seed):
    tokens = torch.randperm(context_length + more, generator=generator(seed))  # each token tells where it stands
    inputs, targets = random_batch(tokens, batch_size, context_length, generator(seed))
    assert inputs.shape == targets.shape == (batch_size, context_length)
    assert inputs.dtype == targets.dtype == torch.int64
    place = tokens.argsort()
    assert torch.equal(place[targets], place[inputs] + 1)
    assert (place[inputs].diff(dim=1) == 1).all()


def test_every_window_can_come():
    inputs, targets = random_batch(torch.arange(5), 500, 3, generator())
    assert set(inputs[:, 0].tolist()) == {0, 1} and set(targets[:, -1].tolist()) == {3, 4}


def test_the_same_seed_draws_the_same_windows_of_any_integers():
    tokens = torch.arange(100)
    one, other = random_batch(tokens, 4, 7, generator(3)), random_batch(tokens.to(torch.uint8), 4, 7, generator(3))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(one[0], random_batch(tokens, 4, 7, generator(4))[0])


@pytest.mark.parametrize(
    "tokens, batch_size, context_length, message",
    [
        (torch.arange(8), 2, 8, "tokens must be more than context_length=8, .* got 8: take a longer text"),
        (torch.arange(8), 0, 4, "batch_size must be at least 1, got 0"),
        (torch.arange(8), 2, 0, "context_length must be at least 1, got 0"),
        (torch.zeros(2, 8, dtype=torch.int64), 2, 4, r"one row of whole numbers, got shape \(2, 8\)"),
        (torch.zeros(8), 2, 4, "one row of whole numbers, got .* torch.float32"),
    ],
)
def test_what_cannot_be_cut(tokens, batch_size, context_length, message):
    with pytest.raises(ValueError, match=message):
        random_batch(tokens, batch_size, context_length, generator())
