"""From one long row of tokens to batches: short windows of it, each with the same window one token later."""

import torch
from jaxtyping import Int
from torch import Tensor


def random_batch(
    tokens: Int[Tensor, " token"], batch_size: int, context_length: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"]]:
    """(inputs, targets): windows of `tokens` that begin at random places.

    targets[b, p] is the token that follows inputs[b, p] in `tokens`. The generator lives on the CPU, so that the same
    seed draws the same windows wherever the tokens are.

    Raises:
        ValueError: `tokens` is not one row of whole numbers, or shorter than one window and its next token; a size is
            less than 1.
    """
    check_tokens(tokens, context_length)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    starts = torch.randint(len(tokens) - context_length, (batch_size,), generator=generator)
    return windows(tokens, starts, context_length)


def windows(
    tokens: Int[Tensor, " token"], starts: Int[Tensor, " batch"], context_length: int
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"]]:
    """(inputs, targets) of the windows that begin at `starts`."""
    places = (starts[:, None] + torch.arange(context_length + 1)).to(tokens.device)  # (batch, position + 1)
    taken = tokens[places].long()
    return taken[:, :-1], taken[:, 1:]


def check_tokens(tokens: Tensor, context_length: int) -> None:
    """Raises:
    ValueError: no window of `context_length` tokens, with its next token, can be cut out of `tokens`.
    """
    if context_length < 1:
        raise ValueError(f"context_length must be at least 1, got {context_length}")
    if tokens.ndim != 1 or tokens.is_floating_point():
        raise ValueError(
            f"tokens must be one row of whole numbers, got shape {tuple(tokens.shape)} of {tokens.dtype}: "
            "put all texts into one row, one after the other"
        )
    if len(tokens) <= context_length:
        raise ValueError(
            f"tokens must be more than context_length={context_length}, for a window and the token after it, "
            f"got {len(tokens)}: take a longer text or a shorter context_length"
        )
