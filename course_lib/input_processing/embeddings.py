"""Token ids become vectors: a table with one row per token. And which rows lie near each other."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.arguments import Whole, ids, whole


def embed(
    ids: Int[Tensor, "batch position"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch position d_model"]:
    """Look up row `ids[b, p]` of the table for every token: the same as a one-hot vector times the table."""
    return F.embedding(ids, table)


def embedding_gradient(
    ids: Int[Tensor, "*positions"], upstream: Float[Tensor, "*positions d_model"], vocab_size: int
) -> Float[Tensor, "vocab_size d_model"]:
    """The table's gradient, from the gradient that arrives at each vector that was looked up.

    What arrives at row i is the sum over all places where the token i stands; a row that was not used gets 0. It is
    one_hot(ids)ᵀ @ upstream, without the multiplications by 0.
    """
    d_model = upstream.shape[-1]
    gradient = upstream.new_zeros(vocab_size, d_model)
    return gradient.index_add_(0, ids.flatten(), upstream.reshape(-1, d_model))


def cosine_similarity(
    x: Float[Tensor, "*rows d_model"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*rows vocab"]:
    """The cosine of the angle between each vector in x and each row of the table: 1 same direction, 0 at right angles.

    A row of zeros has no direction; its cosine is given as 0.
    """
    return F.normalize(x, dim=-1) @ F.normalize(table, dim=-1).T


def nearest(
    x: Float[Tensor, " d_model"], table: Float[Tensor, "vocab d_model"], k: Whole, without: Iterable[int] = ()
) -> tuple[list[int], list[float]]:
    """The ids and the cosines of the k rows that point most nearly where x points, the nearest first.

    Of rows that are equally near, the one with the lowest id comes first. `without`: ids to leave out, such as the
    token's own.

    Raises:
        ValueError: k is not in 1 … the number of rows that are left.
    """
    without = sorted({*ids("without", without, len(table), unordered=True)})
    left = len(table) - len(without)
    if not 1 <= (k := whole("k", k)) <= left:
        raise ValueError(f"k must be from 1 to {left}, the number of rows to choose from, got {k}")
    cosines = cosine_similarity(x, table)
    cosines[torch.tensor(without, dtype=torch.long, device=table.device)] = -torch.inf
    best = cosines.sort(descending=True, stable=True).indices[:k]
    return best.tolist(), cosines[best].tolist()


def principal_axes(vectors: Float[Tensor, "rows d_model"], k: Whole = 2) -> Float[Tensor, "k d_model"]:
    """The k directions along which the rows differ most, the first one the most: the axes of a map of them.

    The rows' mean is taken off; then the directions are the first right singular vectors (principal component
    analysis). The opposite of such a direction is one as well; here the largest number of each is positive, so that a
    map does not come out mirrored on another machine.

    Raises:
        ValueError: k is not in 1 … min(rows, d_model).
    """
    if not 1 <= (k := whole("k", k)) <= min(vectors.shape):
        raise ValueError(f"k must be from 1 to {min(vectors.shape)} for {len(vectors)} vectors, got {k}")
    axes = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False).Vh[:k]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))  # (k, 1)
    return axes * largest.sign()
