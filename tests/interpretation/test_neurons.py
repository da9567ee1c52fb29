"""Neurons: what they fire with is what `down` mixes, and a value row's promotion is its part of the logits."""

import pytest
import torch

from course_lib.interpretation.neurons import neuron_activations, promoted

IDS = torch.tensor([[1, 7, 3, 9], [2, 2, 5, 4]])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_activations_are_what_down_mixes(tiny, family):
    transformer, seen = tiny(family), []
    for block in transformer.blocks:
        block.feed_forward.down.register_forward_pre_hook(lambda down, given: seen.append(given[0]))
    fired = neuron_activations(transformer, IDS)
    assert fired.shape == (3, 2, 4, 32)
    seen.clear()
    with torch.no_grad():
        transformer(IDS)
    torch.testing.assert_close(fired, torch.stack(seen))
    alone = neuron_activations(transformer, IDS[1])
    assert alone.shape == (3, 4, 32)
    torch.testing.assert_close(alone, fired[:, 1], atol=1e-5, rtol=1e-5)
    assert not any(block.feed_forward._forward_pre_hooks for block in transformer.blocks)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("norm_position", ["pre", "both"])
def test_promotion_is_the_neurons_part_of_the_logits(tiny, family, norm_position):
    """Where no norm scales, the logits are a sum; take one neuron out of it, and its promotion is missing."""
    transformer = tiny(family, norm_position=norm_position)
    promotion, last = promoted(transformer, 2, 5), transformer.blocks[2]
    transformer.final_norm = WithoutScale(transformer.final_norm)
    if norm_position == "both":
        last.feed_forward_result_norm = WithoutScale(last.feed_forward_result_norm)
    with torch.no_grad():
        fired, before = neuron_activations(transformer, IDS), transformer(IDS)
        last.feed_forward.down.weight[:, 5] = 0
        after = transformer(IDS)
    torch.testing.assert_close(before - after, fired[2, ..., 5, None] * promotion, atol=1e-4, rtol=1e-4)


class WithoutScale(torch.nn.Module):
    """What a norm does to a vector, but for the scale that the whole vector gets."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.centres = norm.weight, hasattr(norm, "bias")

    def forward(self, x):
        return (x - x.mean(-1, keepdim=True) if self.centres else x) * self.weight


def test_what_cannot_be_read_is_said(tiny):
    with pytest.raises(ValueError, match="one feed-forward network in a block"):
        neuron_activations(tiny(n_experts=2), IDS)
    with pytest.raises(ValueError):
        neuron_activations(tiny(), IDS[:, :0])
    with pytest.raises(ValueError, match="layer must be from 0 to 2, got 3"):
        promoted(tiny(), 3, 0)
    with pytest.raises(ValueError, match="neuron must be from 0 to 31, got -1"):
        promoted(tiny(), 0, -1)
    with pytest.raises(ValueError, match="one feed-forward network in a block"):
        promoted(tiny(n_experts=2), 0, 0)
    with pytest.raises(ValueError, match="must not have post-norm blocks"):
        promoted(tiny(norm_position="post"), 0, 0)
