"""How surprised a model is by a text that it has not seen."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Integer
from torch import Tensor

from course_lib.arguments import Whole, whole
from course_lib.config import config_of
from course_lib.training.batches import check_batch, check_tokens, lowest_and_highest, windows
from course_lib.transformer_block.transformer import Transformer


@torch.no_grad()
def loss(
    transformer: Transformer,
    tokens: Integer[Tensor, " token"],
    *,
    context_length: Whole,
    past: Whole = 0,
    batch_size: Whole = 32,
) -> float:
    """The mean loss in nats per token over `tokens`, cut into windows one after the other.

    Each token is guessed once, from the tokens of its window before it: the first of a window from one token alone.
    With `past`, the windows overlap by as many tokens, and only guesses from more than `past` tokens count: that is
    what to hold against the entropy of the text, since a model cannot know what was cut off. The first past + 1
    tokens are not guessed, nor what is left at the end and does not fill a window.

    Raises:
        ValueError: a size is less than 1, the context is longer than the model's, `tokens` is too short, or has ids
            that the model does not know.
    """
    context_length = whole("context_length", context_length)
    check_model(transformer, tokens, context_length)
    batch_size = check_batch(batch_size, context_length)
    if not 0 <= (past := whole("past", past)) < context_length:
        raise ValueError(f"past must be from 0 to context_length − 1, {context_length - 1}, got {past}")
    device, step = transformer.device, context_length - past
    total, starts = 0.0, torch.arange(0, len(tokens) - context_length, step)
    with evaluating(transformer):
        for some in starts.split(batch_size):
            inputs, targets = windows(tokens, some, context_length)
            logits, targets = transformer(inputs.to(device))[:, past:], targets[:, past:].to(device)
            total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    return total / (len(starts) * step)


@contextmanager
def evaluating(transformer: Transformer) -> Iterator[None]:
    """Inside, the model is not in training mode; afterwards it is in the mode that it was in."""
    was_training = transformer.training
    transformer.eval()
    try:
        yield
    finally:
        transformer.train(was_training)


def check_model(transformer: Transformer, tokens: Tensor, context_length: Whole) -> None:
    """Raises:
    ValueError: `tokens` has no window of `context_length`, or the model cannot read what is in it.
    """
    config = config_of(transformer)
    check_tokens(tokens, context_length)
    longest, known = config.context_length, config.vocab_size
    if context_length > longest:
        raise ValueError(f"context_length must be at most the model's, {longest}, got {context_length}")
    low, high = lowest_and_highest(tokens)
    if low < 0 or high >= known:
        wrong, advice = (low, "") if low < 0 else (high, f", or make the model with vocab_size={high + 1} or more")
        raise ValueError(
            f"tokens must be ids that the model knows, from 0 to {known - 1}, got {wrong}: "
            f"encode the text with the model's vocabulary{advice}"
        )
