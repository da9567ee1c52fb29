import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.transformer_block.attention import attend, causal_mask, repeat_kv, scaled_dot_product_attention

sizes = st.integers(1, 7)


def test_causal_mask_by_hand():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


@settings(max_examples=200, deadline=None)
@given(sizes, sizes, sizes, sizes, sizes, st.integers(0, 2**31))
def test_from_scratch_equals_torch(batch, heads, n_query, n_key, d_head, seed):
    source = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, heads, n_query, d_head, generator=source)
    key, value = torch.randn(2, batch, heads, n_key, d_head, generator=source)
    mask = torch.rand(n_query, n_key, generator=source) < 0.6
    mask[:, 0] = True  # every query may look somewhere; the other case has its own test
    ours, weights = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(query, key, value, mask), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(batch, heads, n_query))
    assert (weights[..., ~mask] == 0).all()


def test_a_query_that_may_look_at_nothing_takes_nothing():
    query, key, value = torch.randn(3, 2, 4, 8)
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[2] = False
    result, weights = scaled_dot_product_attention(query, key, value, mask)
    assert (result[:, 2] == 0).all() and (weights[:, 2] == 0).all()
    assert result.isfinite().all() and (result[:, 1] != 0).all()


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(1, 3), st.integers(1, 3), sizes, st.integers(0, 5), st.booleans(), st.integers(0, 2**31))
def test_fused_and_traced_attention_agree_with_any_number_of_cached_keys(
    batch, kv_heads, group, new, cached, biased, seed
):
    source = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, kv_heads * group, new, 8, generator=source)
    key, value = torch.randn(2, batch, kv_heads, cached + new, 8, generator=source)
    bias = torch.randn(kv_heads * group, new, cached + new, generator=source) if biased else None
    fused, none = attend(query, key, value, bias=bias)
    traced, weights = attend(query, key, value, weights=True, bias=bias)
    assert none is None
    torch.testing.assert_close(fused, traced, atol=1e-5, rtol=1e-5)
    # the last query sees all keys, the first only the cached ones and itself
    assert (weights[..., 0, cached + 1 :] == 0).all()
    assert (weights[..., -1, :] > 0).all()


def test_a_bias_shifts_the_scores():
    """By hand: equal scores, and a bias of ln 3 for one of two keys: it gets three quarters."""
    query, key = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 2, 4)
    _, weights = attend(query, key, key, weights=True, bias=torch.tensor([[[0.0, math.log(3)]]]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25, 0.75]))


def test_repeat_kv_serves_neighbouring_query_heads():
    kv = torch.arange(2.0).view(1, 2, 1, 1)
    assert repeat_kv(kv, 6).flatten().tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("traced", [False, True])
def test_gradients_equal_torch(traced):
    query, key, value = (torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, weights=traced)[0], (query, key, value))
