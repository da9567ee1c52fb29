"""The keys and values of all tokens so far, so that each new one is run alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.config import TransformerConfig
from course_lib.transformer_block.forward_pass import Cache


class KVCache(Cache):
    """In memory taken once: 2 · layers · kv_heads · d_head numbers for each position of each row.

    `padding` says of each row how many of its first positions are none: nobody looks at them, and the row counts from
    the token after them.
    """

    def __init__(
        self,
        config: TransformerConfig,
        max_length: int,
        batch: int = 1,
        device=None,
        dtype=torch.float32,
        padding: Sequence[int] = (),
    ):
        shape = (config.n_layers, batch, config.n_kv_heads, max_length, config.d_head)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.padding = torch.tensor(padding)[:, None] if any(padding) else None  # (row, 1), on the CPU

    def positions(self, n_new: int) -> Int[Tensor, "*row position"]:
        """Where the new tokens stand; padding stands nowhere, and any position will do."""
        places = super().positions(n_new)
        return places if self.padding is None else (places - self.padding).clamp(min=0)

    def mask(self, n_new: int) -> Bool[Tensor, "batch 1 key"] | None:
        """All keys but the padding's."""
        return None if self.padding is None else (torch.arange(self.length + n_new) >= self.padding)[:, None]

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch kv_heads new d_head"],
        values: Float[Tensor, "batch kv_heads new d_head"],
    ) -> tuple[Float[Tensor, "batch kv_heads key d_head"], Float[Tensor, "batch kv_heads key d_head"]]:
        """Keep one layer's new keys and values; return all of that layer's so far.

        Raises:
            ValueError: there is no room left.
        """
        room, end = self.keys.shape[3], self.length + keys.shape[2]
        if end > room:
            raise ValueError(f"the KV cache holds {room} positions, and position {end} was asked for")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def rewind(self, length: int) -> None:
        """Forget the positions from `length` on: the next ones are written over them.

        Raises:
            ValueError: there are not that many positions.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be from 0 to {self.length}, the positions that are kept, got {length}")
        self.length = length

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch, in this order, and forget the others."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.padding = None if self.padding is None else self.padding[rows]
