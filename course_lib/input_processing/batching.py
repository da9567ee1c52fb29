"""Texts of unequal length become rectangles of ids: padding, packing, and cutting what does not fit.

A model works on a tensor (batch, position), and a tensor has no ragged edge. Padding fills the short rows up with an
id that means nothing. Packing puts documents one after the other and cuts the chain into rows: next to nothing is
wasted, and a row then holds several documents that must be told apart.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from course_lib import arguments
from course_lib.arguments import Whole, refused, several, whole

IDS = (-(2**63), 2**63 - 1)  # what a tensor of whole numbers holds
LONGEST = 2**24  # positions: no model has seen so long a row


def pad(
    sequences: Sequence[Sequence[int]], pad_id: Whole, side: str = "right"
) -> tuple[Int[Tensor, "batch position"], Bool[Tensor, "batch position"]]:
    """All sequences in one rectangle, as wide as the longest: the ids, and a mask that is True where they are real.

    "right" puts the padding after the sequence, "left" before it. An empty sequence becomes a row of padding.

    Raises:
        ValueError: there are no sequences, or the side is neither.
    """
    sequences = [arguments.ids("sequences", one) for one in several("sequences", sequences, "a list of lists of ids")]
    if not sequences:
        raise ValueError("sequences is empty: a batch needs at least one, which may itself be empty")
    if not isinstance(side, str) or side not in ("right", "left"):
        raise refused("side", '"right" or "left"', side)
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), whole("pad_id", pad_id, *IDS))
    real = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        start = 0 if side == "right" else width - len(sequence)
        ids[row, start : start + len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        real[row, start : start + len(sequence)] = True
    return ids, real


def pack(
    documents: Sequence[Sequence[int]], length: Whole, end_id: Whole
) -> tuple[Int[Tensor, "row position"], Bool[Tensor, "row position"]]:
    """Documents back to back, an end token after each, cut into rows of `length`: the ids, and a mask as `pad` gives.

    A document may go on in the next row. The last row is filled up with end tokens, and these are not real.

    Raises:
        ValueError: there are no documents, or `length` is below 1.
    """
    documents = [arguments.ids("documents", one) for one in several("documents", documents, "a list of lists of ids")]
    if not documents:
        raise ValueError("documents is empty: there is nothing to pack")
    end_id = whole("end_id", end_id, *IDS)
    if (length := whole("length", length)) < 1:
        raise ValueError(f"length must be at least 1, the positions of a row, got {length}")
    if length > LONGEST:
        raise ValueError(f"length must be at most {LONGEST:,}, the positions of a row, got {length}")
    chain = [id for document in documents for id in (*document, end_id)]
    rows = -(-len(chain) // length)
    ids = torch.full((rows * length,), end_id)
    ids[: len(chain)] = torch.tensor(chain)
    return ids.view(rows, length), (torch.arange(rows * length) < len(chain)).view(rows, length)


def document_numbers(ids: Int[Tensor, "row position"], end_id: int) -> Int[Tensor, "row position"]:
    """Which document of its row each position belongs to, counted from 0. An end token belongs to the one it ends."""
    ends = (ids == end_id).long()
    return ends.cumsum(dim=1) - ends  # the ends before this position


def same_document(documents: Int[Tensor, "row position"]) -> Bool[Tensor, "row query key"]:
    """True where query and key belong to the same document; together with a causal mask, what packing asks for."""
    return documents[:, :, None] == documents[:, None, :]


def padding_share(real: Bool[Tensor, "batch position"]) -> float:
    """The share of the rectangle that holds no real token: the model calculates it for nothing."""
    return 1 - real.float().mean().item()


def keep_last(ids: Sequence[int], window: Whole) -> Sequence[int]:
    """The last `window` ids, which is all that a model with this context window can see of a longer text.

    Raises:
        ValueError: the window is below 1.
    """
    if (window := whole("window", window)) < 1:
        raise ValueError(f"window must be at least 1 token, got {window}")
    return several("ids", ids)[-window:]
