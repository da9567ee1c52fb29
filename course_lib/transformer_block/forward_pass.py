"""What one forward pass over some new tokens carries through all blocks."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from course_lib.input_processing.positions import rotation_angles


class Cache:
    """What a KV cache is to the model: it keeps each layer's keys and values, and says where the new tokens stand.

    Positions and mask are those of one text; a cache that keeps several, or elsewhere, says its own.
    """

    length = 0  # positions kept so far; it grows when a pass ends

    def positions(self, n_new: int) -> Int[Tensor, "*row position"]:
        """Where the new tokens stand, on the CPU: (position,), or (batch, position) where each row has its own."""
        return torch.arange(self.length, self.length + n_new)

    def mask(self, n_new: int) -> Bool[Tensor, "batch #query key"] | None:
        """Which keys, those kept and then the new ones, may be looked at, on top of the causal mask; None: all."""
        return None

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep one layer's new keys and values, (batch, kv_heads, new, d_head); give back all that it has."""
        raise NotImplementedError

    def grow(self, n_new: int) -> None:
        """All layers have appended: the pass is over."""
        self.length += n_new


@dataclass
class Pass:
    """One run of the model over some new tokens. Everything that its blocks share is made once, and travels here."""

    positions: Shaped[Tensor, "*row position"]  # (position,), or (batch, position) where each row has its own
    cache: Cache | None = None
    mask: Bool[Tensor, "batch #query key"] | None = None  # on top of the causal mask; keys in the cache come first
    tables: list[Tensor] | None = None  # a list to fill with each layer's attention weights; None: they are not formed
    rotations: dict[float, tuple[Tensor, Tensor]] = field(default_factory=dict)  # RoPE's, by theta

    def rotation(self, theta: float, d_head: int) -> tuple[Float[Tensor, "*row pair"], Float[Tensor, "*row pair"]]:
        """Cosines and sines of RoPE's angles; the first layer that turns by this theta makes them for all."""
        if theta not in self.rotations:
            angles = rotation_angles(self.positions.flatten(), d_head, theta).unflatten(0, self.positions.shape)
            angles = angles if self.positions.ndim == 1 else angles[:, None]  # a row's are the same in each head
            self.rotations[theta] = angles.cos(), angles.sin()
        return self.rotations[theta]
