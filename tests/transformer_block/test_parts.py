"""Matrix products: ours against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.transformer_block import linear

SHAPES = [(8,), (3, 8), (2, 5, 64)]


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
