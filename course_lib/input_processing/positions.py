"""How a transformer learns where a token stands: counting in binary as a warm-up, then five schemes.

| scheme     | what it does                                                  | source                           |
| ---------- | ------------------------------------------------------------- | -------------------------------- |
| sinusoidal | adds a fixed vector of waves to each token's vector           | Vaswani et al. 2017, section 3.5 |
| learned    | adds a learned vector, one a position                         | GPT-2, Radford et al. 2019       |
| rope       | turns pairs of numbers in queries and keys                    | Su et al. 2021, section 3.2      |
| alibi      | takes from each attention score, the more the farther the key | Press et al. 2022, section 3     |
| none       | nothing: the causal mask alone tells early from late          | Haviv et al. 2022                |

Each is a pure function first and a module second.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.arguments import Number, Whole, finite, whole
from course_lib.config import TransformerConfig

# ---- what enters the first block ------------------------------------------------------------------


def binary_code(positions: Int[Tensor, " position"], bits: Whole) -> Int[Tensor, "position bits"]:
    """Each position in binary, the fastest column first: column i flips every 2^i positions.

    No model in use marks positions so; it is what `sinusoids` are the smooth version of.

    Raises:
        ValueError: a position is negative, or needs more than `bits` bits, of which there are 63 at most.
    """
    if (bits := whole("bits", bits, 1)) > 63:
        raise ValueError(f"bits must be at most 63, as many as a position has, got {bits}")
    if len(positions) and not 0 <= positions.min() <= positions.max() < 2**bits:
        raise ValueError(
            f"positions must be from 0 to {2**bits - 1}, which is what {bits} bits can count, "
            f"got {positions.min()} to {positions.max()}: ask for more bits"
        )
    return positions[:, None] >> torch.arange(bits, device=positions.device) & 1


def sinusoids(
    positions: Int[Tensor, " position"], d_model: Whole, base: Number = 10_000.0
) -> Float[Tensor, "position d_model"]:
    """Waves in pairs: column 2i is sin(position / base^(2i/d_model)), column 2i + 1 the cosine of the same.

    The dot product of two rows depends on how far apart their positions are, and on nothing else.

    Raises:
        ValueError: d_model is odd.
    """
    d_model, base = whole("d_model", d_model, 1, 2**24), finite("base", base, above=0, expected="above 0 and finite")
    if d_model % 2:
        raise ValueError(f"d_model must be even, a sine and a cosine for each wave, got {d_model}")
    angles = rotation_angles(positions, d_model, base)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


# ---- what happens where tokens are compared -------------------------------------------------------


def rotation_angles(
    positions: Int[Tensor, " position"], d_head: int, theta: float = 10_000.0
) -> Float[Tensor, "position pair"]:
    """RoPE: the angle, in radians, by which pair i turns at each position: position · theta^(−2i/d_head).

    The first pair turns fastest, one radian a position; the last one hardly moves.
    """
    pair = torch.arange(0, d_head, 2, device=positions.device, dtype=torch.float32)
    return positions.float()[:, None] * theta ** (-pair / d_head)


def rotate(
    x: Float[Tensor, "*batch position d_head"],
    angles: Float[Tensor, "*#batch position pair"],
    pairs: Literal["halves", "neighbours"] = "halves",
) -> Float[Tensor, "*batch position d_head"]:
    """RoPE: turn each pair of numbers in x by its angle, (a, b) → (a cos − b sin, a sin + b cos).

    The dot product of a turned query and a turned key then depends on how far apart the two stand. `pairs` says who is
    paired: "halves", i with i + d_head/2, or "neighbours", 2i with 2i + 1. Both are in use; a model works with the one
    that its weights were stored for.
    """
    return turn(x, angles.cos(), angles.sin(), pairs)


def turn(
    x: Float[Tensor, "*batch position d_head"],
    cos: Float[Tensor, "*#batch position pair"],
    sin: Float[Tensor, "*#batch position pair"],
    pairs: Literal["halves", "neighbours"] = "halves",
) -> Float[Tensor, "*batch position d_head"]:
    """`rotate`, by angles whose cosines and sines are known already."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if pairs == "halves":
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def alibi_slopes(n_heads: Whole) -> Float[Tensor, " heads"]:
    """How much each head takes off a score per position of distance: 2^(−8/n), 2^(−16/n), …, 2^(−8) for n heads.

    Where n is not a power of two: the slopes of the next lower power of two, then every other one of the next higher.
    """
    n_heads = whole("n_heads", n_heads, 1, 2**16)
    power = 2 ** math.floor(math.log2(n_heads))
    exponents = [8 * (i + 1) / power for i in range(power)]
    exponents += [4 * (2 * i + 1) / power for i in range(n_heads - power)]
    return 2.0 ** -torch.tensor(exponents)


def alibi_bias(n_heads: int, n_query: int, n_key: int | None = None, device=None) -> Float[Tensor, "heads query key"]:
    """ALiBi: what is added to the attention scores, −slope · distance, with a slope for each head.

    With more keys than queries the queries are the *last* ones: the keys before them came out of a cache.
    """
    n_key = n_query if n_key is None else n_key
    key = torch.arange(n_key, device=device)
    distance = (key[n_key - n_query :, None] - key).abs()
    return -alibi_slopes(n_heads).to(device)[:, None, None] * distance


# ---- the schemes as modules -----------------------------------------------------------------------


class NoPositions(nn.Module):
    """The scheme "none", and what the others have in common: three places to mark a position, each left alone here."""

    def vectors(self, positions: Int[Tensor, " position"]) -> Float[Tensor, "position d_model"] | None:
        """What is added to the token vectors before the first block."""
        return None

    def angles(self, positions: Int[Tensor, " position"]) -> Float[Tensor, "position pair"] | None:
        """By how much attention turns the pairs of its queries and keys."""
        return None

    def bias(self, n_query: int, n_key: int, device=None) -> Float[Tensor, "heads query key"] | None:
        """What attention adds to its scores."""
        return None


class Sinusoidal(NoPositions):
    """`sinusoids`, added to the token vectors."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.d_model = config.d_model

    def vectors(self, positions: Int[Tensor, " position"]) -> Float[Tensor, "position d_model"]:
        return sinusoids(positions, self.d_model)


class Learned(NoPositions):
    """A table with one learned row a position; there is nothing at position `context_length`."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.context_length, config.d_model))
        if not self.weight.is_meta:  # on "meta" a checkpoint fills it
            nn.init.normal_(self.weight, std=0.02)

    def vectors(self, positions: Int[Tensor, " position"]) -> Float[Tensor, "position d_model"]:
        return self.weight[positions]


class Rotary(NoPositions):
    """RoPE: `rotation_angles`, by which each attention will `rotate` its queries and keys."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.d_head, self.theta = config.d_head, config.rope_theta

    def angles(self, positions: Int[Tensor, " position"]) -> Float[Tensor, "position pair"]:
        return rotation_angles(positions, self.d_head, self.theta)


class Alibi(NoPositions):
    """`alibi_bias`, added to the scores of each attention."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.n_heads = config.n_heads

    def bias(self, n_query: int, n_key: int, device=None) -> Float[Tensor, "heads query key"]:
        return alibi_bias(self.n_heads, n_query, n_key, device)


def position_scheme(config: TransformerConfig) -> NoPositions:
    """The scheme that the configuration names."""
    if config.positions == "none":
        return NoPositions()
    kinds = {"sinusoidal": Sinusoidal, "learned": Learned, "rope": Rotary, "alibi": Alibi}
    return kinds[config.positions](config)
