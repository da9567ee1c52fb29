"""From scores to probabilities."""

import torch
from jaxtyping import Float
from torch import Tensor


def softmax(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Scores → probabilities: each is e^score over the sum of them all.

    The largest score is taken off first. It cancels in the quotient, and keeps e^score from overflowing.
    """
    exponentials = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)
    return exponentials / exponentials.sum(dim=-1, keepdim=True)
