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


def test_promotion_is_the_neurons_part_of_the_logits(tiny):
    """Without the last norm, the logits are a sum; take one neuron out of it, and its promotion is missing."""
    transformer = tiny()
    transformer.final_norm = Weighted(transformer.final_norm.weight)
    with torch.no_grad():
        fired, before = neuron_activations(transformer, IDS), transformer(IDS)
        transformer.blocks[2].feed_forward.down.weight[:, 5] = 0
        after = transformer(IDS)
    transformer = tiny()
    missing = fired[2, ..., 5, None] * promoted(transformer, 2, 5)
    torch.testing.assert_close(before - after, missing, atol=1e-4, rtol=1e-4)


class Weighted(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return x * self.weight


def test_what_cannot_be_read_is_said(tiny):
    with pytest.raises(ValueError, match="one feed-forward network in a block"):
        neuron_activations(tiny(n_experts=2), IDS)
    with pytest.raises(ValueError):
        neuron_activations(tiny(), IDS[:, :0])
    with pytest.raises(ValueError, match="layer must be from 0 to 2, got 3"):
        promoted(tiny(), 3, 0)
    with pytest.raises(ValueError, match="neuron must be from 0 to 31, got -1"):
        promoted(tiny(), 0, -1)
