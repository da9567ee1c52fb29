"""LayerNorm and RMSNorm, from scratch and fused, against PyTorch's: values and gradients."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.transformer_block.normalization import LayerNorm, RMSNorm, layer_norm, rms_norm

# float32 and float64 differ from PyTorch by rounding in another order; bfloat16 keeps 8 bits, and PyTorch's fused
# norms sum in float32 where ours sum in bfloat16
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 4e-2}
SHAPES = st.tuples(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 70)).map(lambda t: (*t[0], t[1]))


def drawn(seed, shape, size, dtype=torch.float64):
    """x with its own offset, weight, and bias; sizes over many orders of magnitude, so that eps matters for some."""
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64) for s in (shape, shape[-1], shape[-1]))
    return [t.to(dtype) for t in (size * (x + 0.5), weight, bias)]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32),
    SHAPES,
    st.sampled_from(list(TOLERANCES)),
    st.sampled_from([0.0, 1e-4, 1e-2, 1.0, 30.0]),
    st.sampled_from([1e-6, 1e-5, 1e-2]),
)
def test_norms_equal_torch(seed, shape, dtype, size, eps):
    x, weight, bias = drawn(seed, shape, size, dtype)
    close = dict(atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])
    torch.testing.assert_close(rms_norm(x, weight, eps), F.rms_norm(x, weight.shape, weight, eps), **close)
    if dtype is torch.bfloat16 and shape[-1] < 16:
        return  # a few numbers that happen to be alike: 8 bits hold too little of what is left without their mean
    mine, reference = layer_norm(x, weight, bias, eps), F.layer_norm(x, weight.shape, weight, bias, eps)
    torch.testing.assert_close(mine, reference, **close)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), SHAPES, st.sampled_from([0.1, 1.0, 30.0]))
def test_gradients_equal_torch(seed, shape, size):
    for ours, theirs, names in (
        (layer_norm, lambda x, w, b: F.layer_norm(x, w.shape, w, b, 1e-5), 3),
        (rms_norm, lambda x, w: F.rms_norm(x, w.shape, w, 1e-5), 2),
    ):
        inputs = [t.requires_grad_() for t in drawn(seed, shape, size)[:names]]
        upstream = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gradients = (torch.autograd.grad(norm(*inputs), inputs, upstream) for norm in (ours, theirs))
        for mine, reference in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, reference, atol=1e-9, rtol=1e-9)


def test_gradients_are_the_slopes():
    x, weight, bias = (t.requires_grad_() for t in drawn(1, (2, 3, 5), 1.0))
    assert torch.autograd.gradcheck(layer_norm, (x, weight, bias))
    assert torch.autograd.gradcheck(rms_norm, (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_are_the_functions(dtype):
    x, weight, bias = drawn(2, (2, 3, 24), 3.0, dtype)
    fused = LayerNorm(24, 1e-5).to(dtype), RMSNorm(24, 1e-5).to(dtype)
    for norm in fused:
        assert torch.equal(norm.weight, torch.ones(24, dtype=dtype))  # to begin with, nothing is weighted
        norm.weight.data = weight
    fused[0].bias.data = bias
    close = dict(atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fused[0](x), layer_norm(x, weight, bias), **close)
    torch.testing.assert_close(fused[1](x), rms_norm(x, weight), **close)


def test_what_each_norm_ignores():
    x, _, _ = drawn(3, (4, 64), 1.0)
    one, none = torch.ones(64, dtype=torch.float64), torch.zeros(64, dtype=torch.float64)
    for scaled in (0.5 * x, 8 * x):
        torch.testing.assert_close(layer_norm(scaled, one, none, 0.0), layer_norm(x, one, none, 0.0))
        torch.testing.assert_close(rms_norm(scaled, one, 0.0), rms_norm(x, one, 0.0))
    torch.testing.assert_close(layer_norm(x + 7, one, none), layer_norm(x, one, none))
    assert (rms_norm(x + 7, one) - rms_norm(x, one)).abs().max() > 0.5
    for size in (rms_norm(x, one).pow(2), layer_norm(x, one, none).pow(2)):
        torch.testing.assert_close(size.mean(-1), torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0)


def test_zero_stays_zero():
    zero, one = torch.zeros(3, 8), torch.ones(8)
    assert torch.equal(rms_norm(zero, one), zero)
    assert torch.equal(layer_norm(zero, one, 2 * one), 2 * torch.ones(3, 8))


def test_shapes_in_signatures_are_really_checked_here():
    with pytest.raises(jaxtyping.TypeCheckError, match="d_model"):
        rms_norm(torch.randn(2, 8), torch.ones(1))  # would broadcast without a word
