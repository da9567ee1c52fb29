"""How a transformer learns where a token stands.

RoPE (Su et al. 2021, section 3.2): the numbers of a query or key are taken in pairs, each pair is a point in a plane,
and the point is turned by an angle that grows with the position. The dot product of a turned query and a turned key
then depends on how far apart the two stand.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotation_angles(
    positions: Int[Tensor, " position"], d_head: int, theta: float = 10_000.0
) -> Float[Tensor, "position pair"]:
    """The angle, in radians, by which pair i turns at each position: position · theta^(−2i/d_head).

    The first pair turns fastest, one radian a position; the last one hardly moves.
    """
    pair = torch.arange(0, d_head, 2, device=positions.device, dtype=torch.float32)
    return positions.float()[:, None] * theta ** (-pair / d_head)


def rotate(
    x: Float[Tensor, "*batch position d_head"],
    angles: Float[Tensor, "position pair"],
    pairs: Literal["halves", "neighbours"] = "halves",
) -> Float[Tensor, "*batch position d_head"]:
    """Turn each pair of numbers in x by its angle: (a, b) → (a cos − b sin, a sin + b cos).

    `pairs` says who is paired: "halves", i with i + d_head/2, or "neighbours", 2i with 2i + 1. Both are in use; a model
    works with the one that its weights were stored for.
    """
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    if pairs == "halves":
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
