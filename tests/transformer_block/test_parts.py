"""Normalization, feed-forward activations, matrix products: each from-scratch function against PyTorch's."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F

from course_lib.transformer_block import feed_forward, linear
from course_lib.transformer_block.normalization import layer_norm, rms_norm

SHAPES = [(8,), (3, 8), (2, 5, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_equal_torch(shape):
    x, weight, bias = torch.randn(shape) * 5 + 3, torch.randn(shape[-1]), torch.randn(shape[-1])
    torch.testing.assert_close(layer_norm(x, weight, bias), F.layer_norm(x, weight.shape, weight, bias))
    torch.testing.assert_close(rms_norm(x, weight), F.rms_norm(x, weight.shape, weight, 1e-5))


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_activations_equal_torch(name):
    x = torch.linspace(-8, 8, 1001)
    torch.testing.assert_close(getattr(feed_forward, name)(x), feed_forward.FUSED[name](x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("d_out", [4, 64, 65])  # 65 does not divide into slices
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_linear_equals_torch(d_out, shape, bias):
    x, weight = torch.randn(shape), torch.randn(d_out, shape[-1])
    bias = torch.randn(d_out) if bias else None
    with torch.no_grad():
        ours = linear.linear(x, weight, bias)
    assert ours.shape == (*shape[:-1], d_out)
    torch.testing.assert_close(ours, F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)


def test_the_faster_way_is_really_taken_for_one_vector(monkeypatch):
    calls = []
    monkeypatch.setattr(linear, "_one_vector", lambda x, weight: calls.append(1) or F.linear(x, weight))
    weight = torch.randn(8, 8)
    with torch.no_grad():
        linear.linear(torch.randn(1, 1, 8), weight)
        linear.linear(torch.randn(1, 2, 8), weight)
    linear.linear(torch.randn(1, 1, 8), weight)  # while training, gradients are wanted: PyTorch's own path
    assert len(calls) == 1


def test_shapes_in_signatures_are_really_checked_here():
    with pytest.raises(jaxtyping.TypeCheckError, match="d_model"):
        rms_norm(torch.randn(2, 8), torch.ones(1))  # would broadcast without a word
