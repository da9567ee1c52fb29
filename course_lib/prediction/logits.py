"""From scores to probabilities, and how good these are. Everything that is measured is in nats, as training losses are.

Source: Shannon 1948 (entropy, bits); Kullback & Leibler 1951; Jelinek et al. 1977 (perplexity).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def softmax(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Scores → probabilities: each is e^score over the sum of them all.

    The largest score is taken off first. It cancels in the quotient, and keeps e^score from overflowing.
    """
    exponentials = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def log_softmax(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Scores → logarithms of probabilities: each score less ln Σ e^score.

    Not the logarithm of `softmax`: a probability below 1e-45 is 0 in float32, and its logarithm would be −inf.
    """
    shifted = logits - logits.max(dim=-1, keepdim=True).values
    return shifted - torch.log(torch.exp(shifted).sum(dim=-1, keepdim=True))


def cross_entropy(logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """The mean of −ln P(target) over all positions, in nats: how surprised the scores are by what came.

    Raises:
        ValueError: a target is not the place of a score, or there are no targets.
    """
    if targets.numel() == 0:
        raise ValueError("targets is empty: the mean loss needs at least one position")
    low, high, vocab = int(targets.min()), int(targets.max()), logits.shape[-1]
    if low < 0 or high >= vocab:
        raise ValueError(f"targets must be ids from 0 to {vocab - 1}, got {low if low < 0 else high}")
    return -log_softmax(logits).gather(-1, targets[..., None]).mean()


def entropy(probabilities: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """−Σ p ln p, in nats: the loss that remains when the probabilities are the true ones."""
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)


def kl_divergence(
    truth: Float[Tensor, "*batch vocab"], log_probabilities: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch"]:
    """Σ p (ln p − ln q), in nats: by how much the loss of q lies above the entropy of the truth p.

    It takes ln q, as `log_softmax` gives it. What the truth rules out (p = 0) adds nothing, whatever q says of it; a q
    that rules out what can come is infinitely far off.
    """
    terms = truth * (truth.log() - log_probabilities)
    return terms.masked_fill(truth == 0, 0.0).sum(dim=-1)


def perplexity(nats: float) -> float:
    """e^loss, from a mean loss in nats: among how many equally likely tokens the choice would be as open."""
    try:
        return math.exp(nats)
    except OverflowError:  # beyond 709 nats
        return math.inf


def bits(nats: float) -> float:
    """Nats in bits, the logarithm to base 2: questions answered by yes or no."""
    return nats / math.log(2)
