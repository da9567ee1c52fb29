"""What to beat: a model that guesses each character from the two before it, by counting.

Interpolated Kneser-Ney smoothing (Ney, Essen & Kneser 1994; Chen & Goodman 1999, section 4.1.6): each count gives up a
little, the discount, and what is taken off is shared out by the next shorter guess. The shorter guesses count in how
many *different* places a character was seen. The three discounts are tuned on text that was not counted.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

Counts = tuple[Float[Tensor, " vocab"], Float[Tensor, "vocab vocab"], Float[Tensor, "vocab vocab vocab"]]
DISCOUNTS = tuple(step / 20 for step in range(1, 20))  # what is tried


def count(tokens: Integer[Tensor, " token"], vocab_size: int) -> Counts:
    """Of how many different tokens each came second, [c]; each pair came second and third, [b, c]; and how often each
    three came, [a, b, c].
    """
    one, two, three = _three(tokens)
    places = (one * vocab_size + two) * vocab_size + three
    threes = torch.bincount(places, minlength=vocab_size**3).view(vocab_size, vocab_size, vocab_size).double()
    pairs = (threes > 0).sum(dim=0).double()
    return (pairs > 0).sum(dim=0).double(), pairs, threes


def trigram(counts: Counts, discounts: Sequence[float]) -> Float[Tensor, "vocab vocab vocab"]:
    """P(c | a, b) for every three tokens, as [a, b, c]. `discounts`: for single tokens, for pairs, for threes.

    Every probability is above 0, also of a token that was never seen.
    """
    vocab_size = len(counts[0])
    guess = torch.full((vocab_size,), 1 / vocab_size, dtype=torch.float64)
    for numbers, discount in zip(counts, discounts, strict=True):
        guess = _interpolated(numbers, guess, discount)
    return guess


def _interpolated(counts: Tensor, shorter: Tensor, discount: float) -> Tensor:
    total = counts.sum(dim=-1, keepdim=True)
    kinds = (counts > 0).to(counts).sum(dim=-1, keepdim=True)  # each of them gives up the discount
    smooth = ((counts - discount).clamp(min=0) + discount * kinds * shorter) / total.clamp(min=1)
    return torch.where(total > 0, smooth, shorter)


def bits_per_token(table: Float[Tensor, "vocab vocab vocab"], tokens: Integer[Tensor, " token"]) -> float:
    """The mean −log₂ P of each token from the third on."""
    return -table[_three(tokens)].log2().mean().item()


def tuned_discounts(counts: Counts, tuning: Integer[Tensor, " held_out"]) -> tuple[float, float, float]:
    """The discounts, in steps of 0.05, that cost the fewest bits on the row `tuning`: one after the other, twice."""
    best = [0.5, 0.5, 0.5]
    for place in (2, 1, 0, 2, 1, 0):

        def cost(discount, place=place):
            return bits_per_token(trigram(counts, [*best[:place], discount, *best[place + 1 :]]), tuning)

        best[place] = min(DISCOUNTS, key=cost)
    return tuple(best)


def _three(tokens: Integer[Tensor, " token"]) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(tokens[start : len(tokens) - 2 + start].long() for start in range(3))
