"""The whole stack: embeddings in, N blocks, logits out. GPT-2 and Llama are two configurations of it.

ids (batch, position) → embed → block 1 … block N → final norm → unembed → logits (batch, position, vocab)
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.config import TransformerConfig
from course_lib.input_processing.embeddings import embed
from course_lib.input_processing.positions import position_scheme
from course_lib.transformer_block.attention import Cache
from course_lib.transformer_block.block import Block
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
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        # a post-norm block has normalized what it hands on
        self.final_norm = norm(config) if config.norm_position == "pre" else nn.Identity()
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

    def embed(
        self, ids: Int[Tensor, "batch position"], start: int = 0, positions: Int[Tensor, "batch position"] | None = None
    ) -> Float[Tensor, "batch position d_model"]:
        """What enters the first block. `start` is the position of the first id, or `positions` says that of each.

        Raises:
            ValueError: the ids reach past the context, or there are none.
        """
        if ids.shape[1] == 0:
            raise ValueError("ids is empty: the model needs at least one token")
        end = start + ids.shape[1] if positions is None else int(positions.max()) + 1
        if end > self.config.context_length:
            raise ValueError(f"{end} tokens do not fit into the model's context of {self.config.context_length}")
        x = embed(ids, self.token_embedding.weight)
        if positions is None:
            positions = torch.arange(start, end, device=ids.device)
        vectors = self.position_embedding.vectors(positions.flatten().to(ids.device))
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

        `mask` is True where a query may look at a key, on top of the causal mask: `real[:, None, :]` for padding,
        `same_document(…)` for packing. Its keys are those in the cache and then the new ones. `positions` are counted
        on from the cache's length, unless they are given: after padding on the left a row has a count of its own. They
        may be on the CPU, where checking them is no wait for a GPU.
        """
        start = 0 if cache is None else cache.length
        x, angles = self.embed(ids, start, positions), self.angles(start, start + ids.shape[1])
        if angles is not None and positions is not None:
            angles = self.position_embedding.angles(positions.flatten().to(ids.device))
            angles = angles.unflatten(0, positions.shape)[:, None]  # (batch, 1, position, pair): the same in each head
        for block in self.blocks:
            x, _ = block(x, angles, cache, mask=mask)
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
