"""The feed-forward network: each token's vector, by itself, is widened, bent by a non-linearity, and narrowed again.

A mixture of experts has several such networks in one block, and sends each token through a few of them.

Sources: GELU, Hendrycks & Gimpel 2016; gated forms, Shazeer 2020; mixture of experts, Shazeer et al. 2017, Fedus et al.
2021 (Switch), Jiang et al. 2024 (Mixtral).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.arguments import Whole, whole
from course_lib.config import TransformerConfig
from course_lib.transformer_block.linear import Linear, linear


def relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(x, 0): what is positive passes, the rest becomes 0."""
    return x.clamp(min=0)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x · Φ(x): each number times the chance that a standard normal draw lies below it."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GPT-2's approximation of gelu by a tanh."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x · sigmoid(x), also called swish."""
    return x * torch.sigmoid(x)


def swiglu(
    x: Float[Tensor, "*batch d_model"],
    gate_weight: Float[Tensor, "d_ff d_model"],
    up_weight: Float[Tensor, "d_ff d_model"],
    down_weight: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "*batch d_model"]:
    """Llama's feed-forward network: down(silu(gate(x)) · up(x)). A weight has a row for each number it puts out."""
    return linear(silu(linear(x, gate_weight)) * linear(x, up_weight), down_weight)


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

    def neurons(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_ff"]:
        """How strongly each of the d_ff neurons fires: the numbers that `down` mixes."""
        return self.activation(self.up(x))

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(self.neurons(x))


class GatedFeedForward(FeedForward):
    """Llama's form: a second matrix decides how much of each number passes, down(activation(gate(x)) · up(x))."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.gate = Linear(config.d_model, config.d_ff, config.bias)

    def neurons(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_ff"]:
        return self.activation(self.gate(x)) * self.up(x)


# ---- a mixture of experts -----------------------------------------------------------------------


class Routing(NamedTuple):
    """Where a router sends each token, and how much it makes of each expert's answer."""

    scores: Float[Tensor, "*batch expert"]
    weights: Float[Tensor, "*batch k"]  # of the experts chosen, in falling order: they sum to 1
    experts: Int[Tensor, "*batch k"]  # their numbers


def top_k_routing(scores: Float[Tensor, "*batch expert"], k: Whole) -> Routing:
    """The k best experts of each token, and the softmax over *their* scores (Mixtral's order: choose, then softmax).

    A softmax over all experts before the choice, its k largest shares scaled up to sum 1, gives the same weights. Not
    scaled up, they sum to less than 1; for k = 1 that has a use (Switch): the weight of a lone expert would else be 1
    whatever its score, and the router would get no gradient through it. Of equal scores the lowest number is chosen.

    Raises:
        ValueError: k is not from 1 to the number of experts.
    """
    if not 1 <= (k := whole("k", k)) <= scores.shape[-1]:
        raise ValueError(f"k must be from 1 to the number of experts, {scores.shape[-1]}, got {k}")
    # not topk: of equal scores it promises nothing
    best, experts = scores.sort(dim=-1, descending=True, stable=True)
    return Routing(scores, best[..., :k].softmax(dim=-1), experts[..., :k])


def load(experts: Int[Tensor, "*batch k"], n_experts: int) -> Float[Tensor, " expert"]:
    """The share of the tokens that each expert gets. The shares sum to k; balanced, each is k / n_experts.

    Raises:
        ValueError: there is no token.
    """
    if experts.numel() == 0:
        raise ValueError("experts is empty: a load is a share of tokens, so there must be at least one")
    n_tokens = experts.numel() // experts.shape[-1]
    return torch.bincount(experts.flatten(), minlength=n_experts) / n_tokens


def load_balancing_loss(scores: Float[Tensor, "*batch expert"], experts: Int[Tensor, "*batch k"]) -> Float[Tensor, ""]:
    """What training adds, times a small factor, so that no expert is left idle: n · Σ load · mean probability.

    It is k when all is balanced, and grows up to n where all tokens go to the same k experts with certainty. The load
    is a count and has no gradient; the probabilities have, and the busiest experts' are pushed down hardest. Source:
    Fedus et al. 2021, equations 4 to 6 (for k = 1); Mixtral's code takes it for any k.
    """
    n_experts = scores.shape[-1]
    probability = scores.softmax(dim=-1).reshape(-1, n_experts).mean(dim=0)
    return n_experts * (load(experts, n_experts).to(probability) * probability).sum()


class MixtureOfExperts(nn.Module):
    """Several feed-forward networks; a router sends each token to n_active_experts of them and mixes their answers."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.n_active = config.n_active_experts
        self.router = Linear(config.d_model, config.n_experts, bias=False)
        self.experts = nn.ModuleList(_network(config) for _ in range(config.n_experts))
        self.keeps_routing, self.routing = False, None  # `kept_routing` asks for it

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        tokens = x.reshape(-1, x.shape[-1])  # (token, d_model): an expert does not ask from which text or place
        routing = top_k_routing(self.router(tokens), self.n_active)
        if self.keeps_routing:
            self.routing = Routing(*(part.view(*x.shape[:-1], -1) for part in routing))

        mixed = torch.zeros_like(tokens)
        chosen, weights = routing.experts.flatten(), routing.weights.flatten()  # (token · k)
        order = chosen.argsort(stable=True)  # first all places where expert 0 was chosen, then expert 1, …
        counts = (chosen[:, None] == torch.arange(len(self.experts), device=x.device)).sum(dim=0)
        for expert, places in zip(self.experts, order.split(counts.tolist()), strict=True):  # the one wait for a GPU
            if len(places):
                token = places // self.n_active
                answer = expert(tokens[token]) * weights[places, None]
                mixed = mixed.index_add(0, token, answer.to(mixed.dtype))  # autocast answers in half precision
        return mixed.view_as(x)


@contextmanager
def kept_routing(model: nn.Module) -> Iterator[list[MixtureOfExperts]]:
    """Inside, each mixture of experts in `model` keeps its last `Routing` in `.routing`; afterwards it is forgotten.

    Gives the mixtures, in the order of the blocks: with `load_balancing_loss(m.routing.scores, m.routing.experts)` of
    each, a training step can be balanced.
    """
    mixtures = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    try:
        for mixture in mixtures:
            mixture.keeps_routing = True
        yield mixtures
    finally:
        for mixture in mixtures:
            mixture.keeps_routing, mixture.routing = False, None


def feed_forward(config: TransformerConfig) -> nn.Module:
    """The feed-forward network that the configuration names, or a mixture of several."""
    return MixtureOfExperts(config) if config.n_experts > 1 else _network(config)


def _network(config: TransformerConfig) -> FeedForward:
    return (GatedFeedForward if config.feed_forward == "gated" else FeedForward)(config)
