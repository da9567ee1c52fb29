"""Self-attention: each token gathers what it needs from itself and the tokens before it.

Source: Vaswani et al. 2017, section 3.2; grouped-query attention: Ainslie et al. 2023.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.config import TransformerConfig
from course_lib.input_processing.positions import position_scheme, turn
from course_lib.transformer_block.forward_pass import Pass
from course_lib.transformer_block.linear import Linear


def causal_mask(
    n_query: int, n_key: int | None = None, device=None, window: int | None = None
) -> Bool[Tensor, "query key"]:
    """True where a query may look at a key: at itself and the past, or of these at the last `window` alone.

    With more keys than queries the queries are the *last* ones: the keys before them came out of a cache.
    """
    n_key = n_query if n_key is None else n_key
    allowed = torch.ones(n_query, n_key, dtype=torch.bool, device=device).tril(diagonal=n_key - n_query)
    return allowed if window is None else allowed.triu(diagonal=n_key - n_query - window + 1)


def repeat_kv(x: Float[Tensor, "batch kv_heads key d_head"], n_heads: int) -> Float[Tensor, "batch heads key d_head"]:
    """Give every query head its key (or value) head: kv head 0 serves the first n_heads/kv_heads query heads."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


def scaled_dot_product_attention(
    query: Float[Tensor, "*batch query d_head"],
    key: Float[Tensor, "*batch key d_head"],
    value: Float[Tensor, "*batch key d_head"],
    mask: Bool[Tensor, "*#batch #query key"] | None = None,
    bias: Float[Tensor, "*#batch query key"] | None = None,
) -> tuple[Float[Tensor, "*batch query d_head"], Float[Tensor, "*batch query key"]]:
    """softmax(query · keyᵀ / √d_head + bias) · value, and the weights that the softmax gave.

    `mask` is True where a query may look. Each row of weights sums to 1: how much of each token's value the query
    takes. A query that may look at nothing takes nothing: its weights, its result and its gradient are 0.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if mask is not None:
        # The lowest number there is does what −∞ does, and a row with nothing but −∞ would have NaN for a gradient.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)  # already so, except where the whole row is closed
    return weights @ value, weights


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own slice of d_head numbers; their results are mixed by `output`."""

    def __init__(self, config: TransformerConfig, number: int):
        super().__init__()
        layer = config.layers[number]
        self.number, self.window, self.rope_theta = number, layer.window, layer.rope_theta
        self.n_heads, self.n_kv_heads, self.d_head = config.n_heads, config.n_kv_heads, config.d_head
        self.turns, self.rope_pairs = config.positions == "rope", config.rope_pairs
        self.query = Linear(config.d_model, config.n_heads * config.d_head, config.bias)
        self.key = Linear(config.d_model, config.n_kv_heads * config.d_head, config.bias)
        self.value = Linear(config.d_model, config.n_kv_heads * config.d_head, config.bias)
        self.output = Linear(config.n_heads * config.d_head, config.d_model, config.bias)
        self.alibi = position_scheme(config) if config.positions == "alibi" else None

    def forward(self, x: Float[Tensor, "batch position d_model"], run: Pass) -> Float[Tensor, "batch position d_model"]:
        """What each token gathers. With a cache in `run`, x holds only the positions that are new."""
        query = self._split(self.query(x), self.n_heads)
        key = self._split(self.key(x), self.n_kv_heads)
        value = self._split(self.value(x), self.n_kv_heads)
        if self.turns:
            rotation = run.rotation(self.rope_theta, self.d_head)
            query, key = turn(query, *rotation, self.rope_pairs), turn(key, *rotation, self.rope_pairs)
        if run.cache is not None:
            key, value = run.cache.append(self.number, key, value)

        bias = self.alibi.bias(query.shape[2], key.shape[2], x.device) if self.alibi else None
        mixed, table = attend(query, key, value, run.tables is not None, bias, run.mask, self.window)
        if run.tables is not None:
            run.tables.append(table)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, n_heads: int) -> Tensor:  # (batch, position, n·d_head) → (batch, n, position, d_head)
        return x.unflatten(-1, (n_heads, self.d_head)).transpose(1, 2)


def attend(
    query: Float[Tensor, "batch heads query d_head"],
    key: Float[Tensor, "batch kv_heads key d_head"],
    value: Float[Tensor, "batch kv_heads key d_head"],
    weights: bool = False,
    bias: Float[Tensor, "heads query key"] | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    window: int | None = None,
) -> tuple[Float[Tensor, "batch heads query d_head"], Float[Tensor, "batch heads query key"] | None]:
    """Causal attention: from scratch where the weights are wanted, else by PyTorch's fused operation.

    `bias` is added to the scores (ALiBi's, for one). `mask` (batch, query or 1, key) is True where looking is allowed,
    on top of the causal mask: `real[:, None, :]` for padding, `same_document(…)` for packing. With a `window` a query
    sees no more than the last so many keys, its own included. A query that may look at nothing takes nothing: 0, and
    so is its gradient.
    This is the one place where the way to compute attention is chosen.

    Raises:
        ValueError: the mask has another shape, or holds anything but True and False.
    """
    (batch, n_heads, n_query, _), n_key = query.shape, key.shape[2]
    if mask is not None:
        mask = _over_heads(mask, batch, n_query, n_key)
    window = window if window is not None and window < n_key else None  # it leaves nothing out
    if weights:
        causal = causal_mask(n_query, n_key, query.device, window)
        allowed = causal if mask is None else causal & mask
        return scaled_dot_product_attention(query, repeat_kv(key, n_heads), repeat_kv(value, n_heads), allowed, bias)
    # The fused operation's own is_causal counts from the first key: right only when no key came out of a cache.
    by_itself = n_query == n_key > 1 and bias is None and mask is None and window is None
    if by_itself and query.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
        return _trained_in_half(query, repeat_kv(key, n_heads), repeat_kv(value, n_heads)), None
    if not by_itself and (n_query > 1 or window is not None):  # one query, the last, may look at every key
        causal = causal_mask(n_query, n_key, query.device, window)
        mask = causal if mask is None else causal & mask
    if bias is not None:  # one tensor says both: what is added, and −∞ where the mask is closed
        mask = bias.to(query.dtype) if mask is None else torch.where(mask, bias.to(query.dtype), -torch.inf)
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=by_itself, enable_gqa=n_heads != key.shape[1]
    )
    return mixed, None


def _trained_in_half(
    query: Float[Tensor, "batch heads position d_head"],
    key: Float[Tensor, "batch heads position d_head"],
    value: Float[Tensor, "batch heads position d_head"],
) -> Float[Tensor, "batch heads position d_head"]:
    """Causal attention under autocast on a CPU, where the fused operation's way back is three to six times as slow."""
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    future = torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype).triu(diagonal=1)
    return (scores + future).softmax(dim=-1) @ value


def _over_heads(mask: Tensor, batch: int, n_query: int, n_key: int) -> Bool[Tensor, "batch 1 #query key"]:
    """The mask with a place for the heads, all of which share it."""
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must hold True (may look) and False, got {mask.dtype}: compare it, as in ids != pad_id")
    if tuple(mask.shape) not in ((batch, n_query, n_key), (batch, 1, n_key)):
        raise ValueError(
            f"mask must be ({batch}, {n_query} or 1, {n_key}), that is (batch, queries, keys with those in the cache), "
            f"got {tuple(mask.shape)}: padding is real[:, None, :]"
        )
    return mask[:, None]
