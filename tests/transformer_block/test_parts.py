"""Matrix products: ours against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.transformer_block import linear

SHAPES = [(8,), (3, 8), (0, 8), (2, 4, 16), (2, 5, 64)]


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


def test_the_faster_way_is_really_taken_for_a_few_vectors(monkeypatch):
    calls = []
    monkeypatch.setattr(linear, "_few_vectors", lambda x, weight, rows: calls.append(rows) or F.linear(x, weight))
    wide, narrow = torch.randn(8, 8), torch.randn(4, 8)
    with torch.no_grad():
        for rows in (1, 2, 8, 9):
            linear.linear(torch.randn(1, rows, 8), wide)
            linear.linear(torch.randn(1, rows, 8), narrow)
            linear.linear(torch.randn(1, rows, 8).bfloat16(), wide.bfloat16())
    linear.linear(torch.randn(1, 1, 8), wide)  # while training, gradients are wanted: PyTorch's own path
    assert calls == [1, 1, 1, 2, 2, 8]
