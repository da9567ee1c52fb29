"""The whole stack: embeddings in, N blocks, logits out. GPT-2 and Llama are two configurations of it.

ids (batch, position) → embed → block 1 … block N → final norm → unembed → logits (batch, position, vocab)

What it can be, by its `TransformerConfig`:
- LayerNorm or RMSNorm, before each part, on its result, both, or after the sum (post-norm)
- learned, sinusoidal, rotary (of neighbours or halves), ALiBi or no positions
- grouped-query attention, with a sliding window or another rotation in some of the layers
- a plain or a gated feed-forward network, or a mixture of experts
- an entrance and an exit that share one table, or have one each

And what a run can bring along (`Pass`): a KV cache of any kind, a mask, positions of each row, a list for the attention
weights. From scratch and fused attention, one text and a padded batch, whole and token by token give the same numbers.
"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from course_lib.config import TransformerConfig
from course_lib.input_processing.embeddings import embed
from course_lib.input_processing.positions import position_scheme
from course_lib.transformer_block.block import Block
from course_lib.transformer_block.forward_pass import Cache, Pass
from course_lib.transformer_block.linear import Linear, learned, linear
from course_lib.transformer_block.normalization import norm


class Table(nn.Module):
    """One learned vector per row: per token of the vocabulary."""

    def __init__(self, rows: int, d_model: int):
        super().__init__()
        self.weight = learned(rows, d_model)


class Transformer(nn.Module):
    """A decoder-only transformer."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.token_embedding = Table(config.vocab_size, config.d_model)
        self.position_embedding = position_scheme(config)
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.n_layers))
        # a post-norm block has normalized what it hands on
        self.final_norm = nn.Identity() if config.norm_position == "post" else norm(config)
        if not config.tie_embeddings:
            self.output_head = Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.token_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """How exactly the weights are kept."""
        return self.token_embedding.weight.dtype

    def begin(
        self,
        n_new: int,
        cache: Cache | None = None,
        mask: Bool[Tensor, "batch #query key"] | None = None,
        positions: Shaped[Tensor, "*row position"] | None = None,
        tables: list[Tensor] | None = None,
    ) -> Pass:
        """A pass over `n_new` new tokens, to be handed to `embed` and to each block.

        Positions and mask are the cache's; without one they count from 0, and nothing but the future is hidden.
        `mask` is True where a query may look at a key, on top of the causal mask: `real[:, None, :]` for padding,
        `same_document(…)` for packing. Its keys are those in the cache and then the new ones. `positions` may be given,
        too, one for each new token or (batch, position); on the CPU, where checking them is no wait for a GPU.
        Attention weights are kept in `tables`, an empty list, if there is one.

        Raises:
            ValueError: there are no tokens, or they reach past the context; a position is negative, or all of the mask
                is False.
        """
        if n_new == 0:
            raise ValueError("ids is empty: the model needs at least one token")
        if positions is not None and positions.numel() and (first := int(positions.min())) < 0:
            raise ValueError(f"positions must be 0 or more, counted from the first token, got {first}")
        if mask is not None and not mask.any():
            raise ValueError("mask must let some query look at some key, and all of it is False")
        if positions is None:
            positions = torch.arange(n_new) if cache is None else cache.positions(n_new)
        if mask is None and cache is not None:
            mask = cache.mask(n_new)
        if (end := int(positions.max()) + 1) > self.config.context_length:
            raise ValueError(f"{end} tokens do not fit into the model's context of {self.config.context_length}")
        mask = None if mask is None else mask.to(self.device, non_blocking=True)
        return Pass(positions.to(self.device, non_blocking=True), cache, mask, tables)

    def embed(
        self, ids: Int[Tensor, "batch position"], run: Pass | None = None
    ) -> Float[Tensor, "batch position d_model"]:
        """The input embedding, what enters the first block: each id's vector, and its position's where one is added.

        Raises:
            ValueError: the ids reach past the context, or there are none.
        """
        positions = (run or self.begin(ids.shape[1])).positions
        x = embed(ids, self.token_embedding.weight)
        vectors = self.position_embedding.vectors(positions.flatten())
        return x if vectors is None else x + vectors.unflatten(0, positions.shape).to(x.dtype)

    def angles(self, start: int, end: int) -> Float[Tensor, "position pair"] | None:
        """RoPE's angles for positions start to end − 1; None for a model without it."""
        return self.position_embedding.angles(torch.arange(start, end, device=self.device))

    def hidden_states(
        self,
        ids: Int[Tensor, "batch position"],
        cache: Cache | None = None,
        mask: Bool[Tensor, "batch #query key"] | None = None,
        positions: Int[Tensor, "batch position"] | None = None,
    ) -> Float[Tensor, "batch position d_model"]:
        """The residual stream after the last block and the final norm. With a cache, ids holds only the new tokens.

        `mask` and `positions` are those of `begin`.
        """
        run = self.begin(ids.shape[1], cache, mask, positions)
        x = self.embed(ids, run)
        for block in self.blocks:
            x = block(x, run)
        if cache is not None:
            cache.grow(ids.shape[1])
        return self.final_norm(x)

    def unembed(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """One score per token of the vocabulary: the dot product with its vector."""
        table = self.token_embedding if self.config.tie_embeddings else self.output_head
        return linear(hidden, table.weight)

    def forward(
        self,
        ids: Int[Tensor, "batch position"],
        cache: Cache | None = None,
        mask: Bool[Tensor, "batch #query key"] | None = None,
    ) -> Float[Tensor, "batch position vocab"]:
        """Logits for the token that follows each position."""
        return self.unembed(self.hidden_states(ids, cache, mask))

    def n_parameters(self) -> int:
        """How many numbers the model learned; a tied embedding counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
