"""Switch parts of a model off, and see what it can no longer do.

with ablated(transformer, [Head(layer=16, head=0)]):
    logits = transformer(ids)
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.arguments import Whole, whole
from course_lib.transformer_block.transformer import Transformer


@dataclass(frozen=True)
class Head:
    """One attention head; layer and head count from 0."""

    layer: Whole
    head: Whole


@dataclass(frozen=True)
class Attention:
    """All that the attention of one layer adds to the residual stream."""

    layer: Whole


@dataclass(frozen=True)
class FeedForward:
    """All that the feed-forward network of one layer adds to the residual stream."""

    layer: Whole


Part = Head | Attention | FeedForward
ReplaceBy = Literal["zero", "mean"]


@contextmanager
def ablated(
    transformer: Transformer, parts: Part | Iterable[Part], replace_by: ReplaceBy = "zero"
) -> Iterator[Transformer]:
    """While the block runs, these parts do not say what they would: zeros instead, or their own mean.

    What is replaced: for `Attention` and `FeedForward`, what they add to the residual stream (with post-norm, before
    the norm that follows); for `Head`, its d_head numbers where they enter the attention's output matrix. All heads of
    a layer at zero are therefore its attention at zero, but for that matrix' bias, where a model has one.

    "mean" is taken over all positions and rows of a run, those after a position included: what is left of the part says
    the same thing everywhere. One token alone is its own mean, so a run of one (a step of generation with a KV
    cache) takes the mean of the last longer run in this block: the prompt's.

    Blocks can be nested. Afterwards the model is what it was, whatever ended the block; no weight is touched.

    Raises:
        ValueError: a layer or head does not exist, or replace_by is neither; in a run, "mean" for one token alone.
    """
    parts = [parts] if isinstance(parts, Part) else list(parts)
    if replace_by not in get_args(ReplaceBy):
        raise ValueError(f"replace_by must be 'zero' or 'mean', got {replace_by!r}")
    for part in parts:
        _check(transformer, part)
    handles = []
    try:
        for part in parts:
            handles.append(_hook(transformer, part, _replacement(replace_by)))
        yield transformer
    finally:
        for handle in handles:
            handle.remove()


def _check(transformer: Transformer, part: Part) -> None:
    if not isinstance(part, Part):
        raise ValueError(f"parts must hold Head, Attention or FeedForward, got {part!r}")
    config = transformer.config
    if whole("layer", part.layer) not in range(config.n_layers):
        raise ValueError(f"layer must be from 0 to {config.n_layers - 1}, counted from 0, got {part}")
    if isinstance(part, Head) and whole("head", part.head) not in range(config.n_heads):
        raise ValueError(f"head must be from 0 to {config.n_heads - 1}, counted from 0, got {part}")


def _hook(transformer: Transformer, part: Part, replacement: Callable[[Tensor], Tensor]):
    block = transformer.blocks[part.layer]
    if isinstance(part, FeedForward | Attention):
        whole_part = block.feed_forward if isinstance(part, FeedForward) else block.attention
        return whole_part.register_forward_hook(lambda module, given, result: replacement(result))
    d_head = transformer.config.d_head
    columns = slice(part.head * d_head, (part.head + 1) * d_head)

    def replace_head(module, given):
        x = given[0].clone()  # (batch, position, heads · d_head)
        x[..., columns] = replacement(x[..., columns])
        return x, *given[1:]

    return block.attention.output.register_forward_pre_hook(replace_head)


def _replacement(by: ReplaceBy) -> Callable[[Float[Tensor, "batch position d"]], Float[Tensor, "batch position d"]]:
    if by == "zero":
        return torch.zeros_like
    last: list[Tensor] = []  # the mean of the last run of more than one token

    def mean(x: Tensor) -> Tensor:
        if x[..., 0].numel() > 1:
            last[:] = [x.flatten(0, -2).mean(0)]
        elif not last:
            raise ValueError(
                "replace_by='mean' needs a run of more than one token first: one token alone is its own mean, "
                "so nothing would be replaced; run a longer text, or replace by 'zero'"
            )
        return last[0].expand_as(x)

    return mean
