"""The residual stream between the blocks, and what the model would say if it stopped there.

Source of the logit lens: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.transformer_block.forward_pass import Pass
from course_lib.transformer_block.transformer import Transformer

LARGEST = 2**30  # bytes that one result may take: 1 GiB


@torch.no_grad()
def residual_stream(
    transformer: Transformer, ids: Int[Tensor, "*batch position"]
) -> Float[Tensor, "depth *batch position d_model"]:
    """The stream at every depth, on the CPU: row 0 is what enters block 1, row i what leaves block i.

    depth is n_layers + 1. `ids` is one text, (position,), or several of one length, (batch, position).

    Raises:
        ValueError: ids is empty, too long for the model's context, or holds an id that the model does not know.
    """
    x, run = entrance(transformer, ids)
    depths = torch.stack([x.cpu(), *(x.cpu() for x in block_by_block(transformer, x, run))])
    return depths.view(len(depths), *ids.shape, -1)


@torch.no_grad()
def logit_lens(transformer: Transformer, stream: Float[Tensor, "*depth d_model"]) -> Float[Tensor, "*depth vocab"]:
    """The logits that the model would give if these vectors of its stream were the last block's: on the CPU.

    unembed(final_norm(stream)); at the last depth they are the model's own. A vocabulary is wide: choose the positions
    first, stream[:, -1] for one.

    Raises:
        ValueError: the vectors are not as wide as the model's, or the logits would take more than 1 GiB.
    """
    config = transformer.config
    if stream.shape[-1] != config.d_model:
        raise ValueError(
            f"stream must have the model's width in its last dimension, {config.d_model}, got {tuple(stream.shape)}"
        )
    refuse_larger(
        stream[..., 0].numel() * config.vocab_size * transformer.dtype.itemsize,
        f"the logits of {stream[..., 0].numel()} vectors",
        "choose fewer positions, such as stream[:, -1]",
    )
    return transformer.unembed(transformer.final_norm(stream.to(transformer.device, transformer.dtype))).cpu()


def block_by_block(
    transformer: Transformer, x: Float[Tensor, "batch position d_model"], run: Pass
) -> Iterator[Float[Tensor, "batch position d_model"]]:
    """What leaves each block, one block at a time."""
    for block in transformer.blocks:
        x = block(x, run)
        yield x


def entrance(
    transformer: Transformer, ids: Int[Tensor, "*batch position"]
) -> tuple[Float[Tensor, "row position d_model"], Pass]:
    """What the first block is given: the input embedding of the ids, on the model's device, and a pass over them.

    Raises:
        ValueError: ids is empty, too long for the model's context, or holds an id that the model does not know.
    """
    if ids.numel() == 0:
        raise ValueError(f"ids is empty, its shape is {tuple(ids.shape)}: the model needs at least one token")
    low, high, known = int(ids.min()), int(ids.max()), transformer.config.vocab_size
    if low < 0 or high >= known:
        raise ValueError(
            f"ids must be from 0 to {known - 1}, the model's vocabulary, got {low if low < 0 else high}: "
            "encode the text with the model's own tokenizer"
        )
    length = ids.shape[-1]
    rows = ids.reshape(-1, length).to(transformer.device)
    run = transformer.begin(length)
    return transformer.embed(rows, run), run


def refuse_larger(size: int, what: str, advice: str) -> None:
    """Raise a ValueError where `what` would take more than LARGEST bytes."""
    if size > LARGEST:
        raise ValueError(
            f"{what} would take {size / 2**30:.1f} GiB, and at most {LARGEST / 2**30:.0f} is given: {advice}"
        )
