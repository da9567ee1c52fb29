"""The feed-forward networks' neurons: how strongly each fires, and what its value row promotes.

Source of the reading as key–value memories: Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value Memories";
of the values as scores for words: Geva et al. 2022.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.arguments import Whole, whole
from course_lib.interpretation.lens import residual_stream
from course_lib.transformer_block.linear import Linear
from course_lib.transformer_block.normalization import LayerNorm
from course_lib.transformer_block.transformer import Transformer


def neuron_activations(
    transformer: Transformer, ids: Int[Tensor, "*batch position"]
) -> Float[Tensor, "layer *batch position d_ff"]:
    """The number that each neuron's value row is multiplied by, in every layer, at every position; on the CPU.

    `ids` is one text, (position,), or several of the same length, (batch, position).

    Raises:
        ValueError: the model is a mixture of experts, or ids is not what `residual_stream` takes.
    """
    _check_one_network(transformer)
    fired: list[Tensor] = []

    def keep(down: Linear, given: tuple[Tensor, ...]) -> None:
        fired.append(given[0].cpu())

    handles = [block.feed_forward.down.register_forward_pre_hook(keep) for block in transformer.blocks]
    try:
        residual_stream(transformer, ids)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(fired).view(len(fired), *ids.shape, -1)


@torch.no_grad()
def promoted(transformer: Transformer, layer: Whole, neuron: Whole) -> Float[Tensor, " vocab"]:
    """What a neuron adds to each token's logit when it fires with 1, up to the norms' common scale; on the CPU.

    Its value row is a column of `down`. Where it fires below 0, the signs turn round. Only the direct way to the output
    is counted: what later blocks make of it is not. A LayerNorm on the way takes away the row's mean, too.

    Raises:
        ValueError: there is no such layer or neuron, the model is a mixture of experts, or its blocks are post-norm.
    """
    _check_one_network(transformer)
    config = transformer.config
    if config.norm_position == "post":
        raise ValueError(
            "transformer must not have post-norm blocks: they normalize the stream itself, "
            "so that nothing a neuron adds reaches the logits as it was"
        )
    for name, value, count in (("layer", layer, config.n_layers), ("neuron", neuron, config.d_ff)):
        if whole(name, value) not in range(count):
            raise ValueError(f"{name} must be from 0 to {count - 1}, got {value!r}")
    block = transformer.blocks[layer]
    value = block.feed_forward.down.weight[:, neuron]
    for norm in (block.feed_forward_result_norm, transformer.final_norm):
        if isinstance(norm, LayerNorm):
            value = value - value.mean()
        if not isinstance(norm, nn.Identity):  # most blocks have no norm on a result
            value = value * norm.weight
    return transformer.unembed(value).cpu()


def _check_one_network(transformer: Transformer) -> None:
    if transformer.config.n_experts > 1:
        raise ValueError(
            "transformer must have one feed-forward network in a block: experts' neurons are not read here"
        )
