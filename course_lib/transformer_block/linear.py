"""Matrix products: the one place where a machine's faster way is chosen."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def linear(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """x · weightᵀ + bias, over the last dimension of x."""
    one_vector = x.numel() == x.shape[-1]
    if one_vector and x.device.type == "cpu" and len(weight) % SLICES == 0 and not torch.is_grad_enabled():
        product = _one_vector(x, weight)
        return product if bias is None else product + bias
    return F.linear(x, weight, bias)


SLICES = 4


def _one_vector(x: Tensor, weight: Tensor) -> Tensor:
    """Matrix times one vector, as a batch of four shorter ones.

    Decoding is this product, over and over. The CPU library behind F.linear runs it on one core; given four products
    it uses all cores, and tables are read two to three times as fast (tests/benchmarks measures it).
    """
    slices = weight.view(SLICES, -1, weight.shape[1])
    vector = x.reshape(1, 1, -1).expand(SLICES, 1, -1).transpose(1, 2)
    return torch.bmm(slices, vector).view(*x.shape[:-1], -1)


def learned(*shape: int) -> nn.Parameter:
    """A weight to be learned. It starts from small random numbers: normal, standard deviation 0.02 (GPT-2's choice)."""
    weight = nn.Parameter(torch.empty(shape))
    if not weight.is_meta:  # on "meta" a checkpoint fills it, and drawing there would cost two seconds of imports
        nn.init.normal_(weight, std=0.02)
    return weight


class Linear(nn.Module):
    """A learned matrix product: weight (d_out, d_in) and, for GPT-2, a bias (d_out,)."""

    def __init__(self, d_in: int, d_out: int, bias: bool):
        super().__init__()
        self.weight = learned(d_out, d_in)
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return linear(x, self.weight, self.bias)
