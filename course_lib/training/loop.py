"""The training loop at its smallest: guess the next token, see how wrong the guess was, move every weight a little."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.training.batches import check_tokens, random_batch, windows
from course_lib.transformer_block.transformer import Transformer

WARM_UP = 0.05  # the part of all steps in which the learning rate rises
LONGEST_GRADIENT = 1.0  # a longer one is scaled down to it
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01


def train(
    transformer: Transformer,
    tokens: Int[Tensor, " token"],
    *,
    steps: int,
    batch_size: int,
    context_length: int,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: bool = True,
) -> list[float]:
    """Train in place with AdamW (Loshchilov & Hutter 2019); the loss of each step, in nats per token.

    The learning rate rises over the first twentieth of the steps and then falls along a half cosine to zero. `seed`
    draws the batches: the same seed, weights and machine give the same losses. Interrupting (Ctrl-C, or the square in
    Jupyter) ends the training early: the model keeps what it has learned, and the losses so far come back.

    Raises:
        ValueError: steps or a size is less than 1, the context is longer than the model's, `tokens` is too short, or
            has ids that the model does not know.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be above 0, such as 3e-3, got {learning_rate}")
    _check(transformer, tokens, context_length)

    device, generator = transformer.token_embedding.weight.device, torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        transformer.parameters(), lr=learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    losses, was_training = [], transformer.training
    transformer.train()
    bar = tqdm(total=steps, disable=not progress, unit="step")
    try:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * schedule(step, steps)
            inputs, targets = random_batch(tokens, batch_size, context_length, generator)
            logits = transformer(inputs.to(device))  # (batch, position, vocab)
            error = F.cross_entropy(logits.flatten(0, 1), targets.to(device).flatten())
            optimizer.zero_grad()
            error.backward()
            torch.nn.utils.clip_grad_norm_(transformer.parameters(), LONGEST_GRADIENT)
            optimizer.step()
            losses.append(error.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update()
    except KeyboardInterrupt:
        pass  # what was learned so far is kept
    finally:
        bar.close()
        transformer.train(was_training)
    return losses


def schedule(step: int, steps: int) -> float:
    """The part of the learning rate used in `step`: up in a straight line, then down along a half cosine to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up + 1) / (steps - warm_up + 1)))


@torch.no_grad()
def loss(
    transformer: Transformer,
    tokens: Int[Tensor, " token"],
    *,
    context_length: int,
    past: int = 0,
    batch_size: int = 32,
) -> float:
    """The mean loss in nats per token over `tokens`, cut into windows one after the other.

    Each token is guessed once, from the tokens of its window before it: the first of a window from one token alone.
    With `past`, the windows overlap by as many tokens, and only guesses from more than `past` tokens count: that is
    what to hold against the entropy of the text, since a model cannot know what was cut off. The first past + 1
    tokens are not guessed, nor what is left at the end and does not fill a window.

    Raises:
        ValueError: as in `train`.
    """
    _check(transformer, tokens, context_length)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= past < context_length:
        raise ValueError(f"past must be from 0 to context_length − 1, {context_length - 1}, got {past}")
    device, was_training = transformer.token_embedding.weight.device, transformer.training
    transformer.eval()
    step = context_length - past
    total, starts = 0.0, torch.arange(0, len(tokens) - context_length, step)
    try:
        for some in starts.split(batch_size):
            inputs, targets = windows(tokens, some, context_length)
            logits, targets = transformer(inputs.to(device))[:, past:], targets[:, past:].to(device)
            total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    finally:
        transformer.train(was_training)
    return total / (len(starts) * step)


def _check(transformer: Transformer, tokens: Tensor, context_length: int) -> None:
    check_tokens(tokens, context_length)
    longest, known = transformer.config.context_length, transformer.config.vocab_size
    if context_length > longest:
        raise ValueError(f"context_length must be at most the model's, {longest}, got {context_length}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= known:
        wrong, advice = (low, "") if low < 0 else (high, f", or make the model with vocab_size={high + 1} or more")
        raise ValueError(
            f"tokens must be ids that the model knows, from 0 to {known - 1}, got {wrong}: "
            f"encode the text with the model's vocabulary{advice}"
        )
