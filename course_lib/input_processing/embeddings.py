"""Token ids become vectors: a table with one row per token."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def embed(
    ids: Int[Tensor, "batch position"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch position d_model"]:
    """Look up row `ids[b, p]` of the table for every token: the same as a one-hot vector times the table."""
    return F.embedding(ids, table)
