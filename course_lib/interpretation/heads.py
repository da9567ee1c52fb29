"""What attention heads do, found by a score instead of by eye.

Sources: previous-token and induction heads, Elhage et al. 2021 and Olsson et al. 2022 (the score on repeated random
tokens: their "prefix matching"); heads that rest on the first token, Xiao et al. 2023 ("attention sinks").
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.arguments import Whole, whole
from course_lib.interpretation.lens import block_by_block, entrance, refuse_larger
from course_lib.transformer_block.transformer import Transformer


@torch.no_grad()
def attention_weights(
    transformer: Transformer, ids: Int[Tensor, "*batch position"]
) -> Float[Tensor, "layer *batch heads query key"]:
    """Every head's attention weights, on the CPU: row `query` says how much the query takes from each key.

    `ids` is one text, (position,), or several of one length, (batch, position).

    Raises:
        ValueError: ids is empty, too long for the model's context, or holds an id that the model does not know; or the
            weights would take more than 1 GiB.
    """
    config, length = transformer.config, ids.shape[-1]
    refuse_larger(
        config.n_layers * config.n_heads * ids.numel() * length * transformer.dtype.itemsize,
        f"the attention weights of {config.n_layers} × {config.n_heads} heads for ids of the shape {tuple(ids.shape)}",
        "take a shorter text, or fewer at a time",
    )
    x, run = entrance(transformer, ids)
    run.tables = tables = []
    for _ in block_by_block(transformer, x, run):
        tables[-1] = tables[-1].cpu()
    return torch.stack(tables).view(config.n_layers, *ids.shape[:-1], config.n_heads, length, length)


def previous_token_scores(attention: Float[Tensor, "*heads query key"]) -> Float[Tensor, "*heads"]:
    """The weight that queries 1, 2, … give to the token right before them, on average.

    Query 0 has no token before it and does not count. 1 is a head that looks nowhere else; a head that spreads its
    weight evenly gets the mean of 1/2, 1/3, …, 1/n.

    Raises:
        ValueError: the tables are not square, or of fewer than two tokens.
    """
    _check(attention, at_least=2)
    return attention.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)


def first_token_scores(attention: Float[Tensor, "*heads query key"]) -> Float[Tensor, "*heads"]:
    """The weight that queries 1, 2, … give to the first token, on average.

    Query 0 can look nowhere else and does not count. For query 1 the first token is also the one right before it.

    Raises:
        ValueError: the tables are not square, or of fewer than two tokens.
    """
    _check(attention, at_least=2)
    return attention[..., 1:, 0].mean(-1)


def repeated_random_ids(vocabulary: Whole, length: Whole, generator: torch.Generator) -> Int[Tensor, " position"]:
    """`length` different ids drawn from 0 … vocabulary − 1, and the same ids once more: (2 · length,).

    No id stands twice in a half, so that each token of the second half has exactly one like it before.

    Raises:
        ValueError: length is less than 2 or more than vocabulary.
    """
    vocabulary, length = whole("vocabulary", vocabulary), whole("length", length)
    if not 2 <= length <= vocabulary:
        raise ValueError(f"length must be from 2 to vocabulary, {vocabulary}, since no id is drawn twice: got {length}")
    once = torch.randperm(vocabulary, generator=generator)[:length]
    return once.repeat(2)


def induction_scores(attention: Float[Tensor, "*heads query key"]) -> Float[Tensor, "*heads"]:
    """On `repeated_random_ids`: the weight on the token that followed the same token in the first half, on average.

    With n ids in a half, query n + i (i = 0 … n − 1) has its like at i, and what followed it at i + 1. All queries of
    the second half count; for the last one, what followed is the first token of the second half.

    Raises:
        ValueError: the tables are not square, or the number of tokens is odd or less than four.
    """
    _check(attention, at_least=4)
    if attention.shape[-1] % 2:
        raise ValueError(
            "attention must come from a text of two equal halves (repeated_random_ids), "
            f"got an odd number of tokens, {attention.shape[-1]}"
        )
    half = attention.shape[-1] // 2
    return attention.diagonal(offset=1 - half, dim1=-2, dim2=-1)[..., 1:].mean(-1)


def _check(attention: Tensor, at_least: int) -> None:
    if attention.ndim < 2 or attention.shape[-2] != attention.shape[-1]:
        raise ValueError(
            f"attention must end in a square table, (…, query, key), got the shape {tuple(attention.shape)}"
        )
    if attention.shape[-1] < at_least:
        raise ValueError(f"attention must be of at least {at_least} tokens for this score, got {attention.shape[-1]}")
