"""The feed-forward network: each token's vector, by itself, is widened, bent by a non-linearity, and narrowed again.

Sources: GELU, Hendrycks & Gimpel 2016; gated forms, Shazeer 2020.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.config import TransformerConfig
from course_lib.transformer_block.linear import Linear


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x · Φ(x): each number times the chance that a standard normal draw lies below it."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GPT-2's approximation of gelu by a tanh."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x · sigmoid(x), also called swish."""
    return x * torch.sigmoid(x)


FUSED = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """GPT-2's form: down(activation(up(x)))."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.activation = FUSED[config.activation]
        self.up = Linear(config.d_model, config.d_ff, config.bias)
        self.down = Linear(config.d_ff, config.d_model, config.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(FeedForward):
    """Llama's form: a second matrix decides how much of each number passes, down(activation(gate(x)) · up(x))."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.gate = Linear(config.d_model, config.d_ff, config.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(self.activation(self.gate(x)) * self.up(x))


def feed_forward(config: TransformerConfig) -> nn.Module:
    """The feed-forward network that the configuration names."""
    return (GatedFeedForward if config.feed_forward == "gated" else FeedForward)(config)
