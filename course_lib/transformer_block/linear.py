"""Matrix products: the one place where a machine's faster way is chosen."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def linear(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """x · weightᵀ + bias, over the last dimension of x."""
    rows, (d_out, d_in) = x.numel() // x.shape[-1], weight.shape
    few = 1 if x.dtype != torch.float32 else 8 if d_out >= d_in else 3  # beyond, F.linear was as fast or faster
    if rows <= few and x.device.type == "cpu" and d_out % SLICES == 0 and not torch.is_grad_enabled():
        product = _few_vectors(x, weight, rows)
        return product if bias is None else product + bias
    return F.linear(x, weight, bias)


SLICES = 4


def _few_vectors(x: Tensor, weight: Tensor, rows: int) -> Tensor:
    """Matrix times a few vectors, as a batch of four shorter ones.

    Decoding is this product with one vector, over and over; with a few it decodes a small batch, or checks a draft.
    The CPU library behind F.linear runs one vector on one core, and a few of them in a way made for many; given four
    products it uses all cores, and tables are read up to three times as fast (tests/benchmarks measures it).
    """
    d_out, d_in = weight.shape
    vectors = x.reshape(1, rows, d_in).expand(SLICES, rows, d_in).transpose(1, 2)
    return torch.bmm(weight.view(SLICES, -1, d_in), vectors).permute(2, 0, 1).reshape(*x.shape[:-1], d_out)


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
