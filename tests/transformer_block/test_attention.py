import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.config import TransformerConfig
from course_lib.input_processing.batching import document_numbers, pack, pad, same_document
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.prediction.kv_cache import KVCache
from course_lib.transformer_block.attention import (
    MultiHeadAttention,
    attend,
    causal_mask,
    repeat_kv,
    scaled_dot_product_attention,
)
from course_lib.transformer_block.forward_pass import Pass

sizes = st.integers(1, 7)
seeds = st.integers(0, 2**31)
# How far from the fused operation the one from scratch may be, on standard normal inputs, absolutely and relatively.
# bfloat16 keeps 8 binary digits, and the steps from scratch round to them after each operation.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 4e-2}


def close(one, other, dtype=torch.float32):
    torch.testing.assert_close(one, other, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def normal(source, *shape, dtype=torch.float32, grad=False):
    return torch.randn(*shape, generator=source, dtype=torch.float64).to(dtype).requires_grad_(grad)


# ---- the function from scratch --------------------------------------------------------------------


def test_causal_mask_by_hand():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


@st.composite
def masks(draw, batch, n_query, n_key):
    """None, one mask for all, one a sequence (heads share it), or one a head; any row may be closed altogether."""
    shape = draw(st.sampled_from([None, (n_query, n_key), (batch, 1, n_query, n_key), (batch, 1, 1, n_key), "heads"]))
    return shape, draw(st.sampled_from([0.0, 0.2, 0.6, 1.0]))


@st.composite
def cases(draw):
    batch, heads, n_query, n_key, d_head = draw(st.tuples(sizes, sizes, sizes, sizes, sizes))
    shape, share = draw(masks(batch, n_query, n_key))
    shape = (batch, heads, n_query, n_key) if shape == "heads" else shape
    source = torch.Generator().manual_seed(draw(seeds))
    mask = None if shape is None else torch.rand(shape, generator=source) < share
    return source, (batch, heads, n_query, n_key, d_head), mask


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=100, deadline=None)
@given(cases())
def test_from_scratch_equals_torch_forward_and_backward(dtype, case):
    """Over shapes and masks, with rows that may look at nothing: PyTorch gives 0 there, too."""
    source, (batch, heads, n_query, n_key, d_head), mask = case
    query = normal(source, batch, heads, n_query, d_head, dtype=dtype, grad=True)
    key, value = (normal(source, batch, heads, n_key, d_head, dtype=dtype, grad=True) for _ in range(2))
    towards = normal(source, batch, heads, n_query, d_head, dtype=dtype)

    ours, weights = scaled_dot_product_attention(query, key, value, mask)
    theirs = F.scaled_dot_product_attention(query, key, value, mask)
    close(ours, theirs, dtype)
    for one, other in zip(
        torch.autograd.grad(ours, (query, key, value), towards),
        torch.autograd.grad(theirs, (query, key, value), towards),
        strict=True,
    ):
        close(one, other, dtype)

    allowed = torch.ones(n_query, n_key, dtype=torch.bool) if mask is None else mask
    allowed = allowed.expand(batch, heads, n_query, n_key)
    assert (weights[~allowed] == 0).all()
    close(weights.sum(-1), allowed.any(-1).to(dtype), dtype)
    assert (ours[~allowed.any(-1)] == 0).all()


@pytest.mark.parametrize("traced", [False, True])
def test_a_query_that_may_look_at_nothing_takes_nothing_and_has_no_gradient(traced):
    """No NaN anywhere, and the other queries are as if it were not there."""
    source = torch.Generator().manual_seed(0)
    query, key, value = (normal(source, 2, 2, 4, 8, grad=True) for _ in range(3))
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[0, 2] = False
    result, weights = attend(query, key, value, weights=traced, mask=mask)
    assert (result[0, :, 2] == 0).all() and (result[0, :, 1] != 0).all() and (result[1, :, 2] != 0).all()
    if traced:
        assert (weights[0, :, 2] == 0).all()
    towards = torch.ones_like(result)
    gradients = torch.autograd.grad(result, (query, key, value), towards)
    assert (gradients[0][0, :, 2] == 0).all() and all(g.isfinite().all() for g in gradients)
    without = torch.ones_like(result).index_fill(2, torch.tensor([2]), 0)  # whatever it would have taken
    plain = attend(query, key, value)[0]
    for one, other in zip(gradients, torch.autograd.grad(plain, (query, key, value), without), strict=True):
        close(one[0], other[0])


def test_gradcheck_with_a_closed_row_and_a_mask_a_sequence():
    source = torch.Generator().manual_seed(1)
    inputs = [normal(source, 2, 2, n, 3, dtype=torch.float64, grad=True) for n in (4, 5, 5)]
    mask = torch.rand(2, 1, 4, 5, generator=source) < 0.6
    mask[0, 0, 1] = False
    assert torch.autograd.gradcheck(lambda q, k, v: scaled_dot_product_attention(q, k, v, mask), inputs)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_gradcheck_of_causal_attention(traced, biased, masked):
    source = torch.Generator().manual_seed(2)
    query = normal(source, 2, 4, 3, 4, dtype=torch.float64, grad=True)
    key, value = (normal(source, 2, 2, 5, 4, dtype=torch.float64, grad=True) for _ in range(2))
    bias = normal(source, 4, 3, 5, dtype=torch.float64) if biased else None
    mask = torch.rand(2, 3, 5, generator=source) < 0.5 if masked else None
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, traced, bias, mask)[0], (query, key, value))


# ---- one place where the way is chosen ------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=70, deadline=None)
@given(
    sizes, st.integers(1, 3), st.integers(1, 3), sizes, st.integers(0, 5), st.booleans(), st.sampled_from("-1q"), seeds
)
def test_fused_and_traced_attention_agree_with_any_number_of_cached_keys(
    dtype, batch, kv_heads, group, new, cached, biased, masked, seed
):
    source = torch.Generator().manual_seed(seed)
    query = normal(source, batch, kv_heads * group, new, 8, dtype=dtype)
    key, value = normal(source, 2, batch, kv_heads, cached + new, 8, dtype=dtype)
    bias = normal(source, kv_heads * group, new, cached + new, dtype=dtype) if biased else None
    mask = None
    if masked != "-":  # padding has one row for all queries, packing a row for each
        mask = torch.rand(batch, 1 if masked == "1" else new, cached + new, generator=source) < 0.6
    fused, none = attend(query, key, value, bias=bias, mask=mask)
    traced, weights = attend(query, key, value, weights=True, bias=bias, mask=mask)
    assert none is None  # weights only on request
    close(fused, traced, dtype)

    place = torch.arange(cached, cached + new)[:, None]  # of each query among the keys
    allowed = (torch.arange(cached + new) <= place).expand(batch, -1, -1)
    allowed = (allowed if mask is None else allowed & mask)[:, None].expand_as(weights)
    assert ((weights > 0) == allowed).all()


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([(6, 6), (6, 3), (6, 2), (4, 1)]), st.integers(1, 6), st.integers(0, 4), st.booleans(), seeds)
def test_grouped_and_single_key_heads_equal_torch_and_a_loop_over_heads(heads, new, cached, masked, seed):
    """6 of 6 is multi-head, 3 and 2 are grouped-query, 1 is multi-query attention."""
    (n_heads, n_kv_heads), source = heads, torch.Generator().manual_seed(seed)
    query = normal(source, 2, n_heads, new, 8)
    key, value = normal(source, 2, 2, n_kv_heads, cached + new, 8)
    mask = torch.rand(2, new, cached + new, generator=source) < 0.7 if masked else None
    allowed = torch.ones(new, cached + new, dtype=torch.bool).tril(cached).expand(2, -1, -1)
    allowed = allowed & mask if masked else allowed
    theirs = F.scaled_dot_product_attention(query, key, value, allowed[:, None], enable_gqa=True)
    for traced in (False, True):
        ours, weights = attend(query, key, value, traced, mask=mask)
        close(ours, theirs)
        for head in range(n_heads):
            kv = head // (n_heads // n_kv_heads)
            alone, row = scaled_dot_product_attention(query[:, head], key[:, kv], value[:, kv], allowed)
            close(ours[:, head], alone)
            if traced:
                close(weights[:, head], row)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([(4, 4), (4, 2), (3, 1)]), st.integers(2, 9), seeds)
def test_training_in_bfloat16_on_a_cpu_equals_the_fused_operation(batch, heads, n, seed):
    """Forward and backward; the other way to compute it is chosen under autocast alone."""
    (n_heads, n_kv_heads), source = heads, torch.Generator().manual_seed(seed)
    query = normal(source, batch, n_heads, n, 8, grad=True)
    key, value = (normal(source, batch, n_kv_heads, n, 8, grad=True) for _ in range(2))
    towards = normal(source, batch, n_heads, n, 8)
    results = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            mixed, none = attend(query, key, value)
        assert none is None and mixed.dtype == (torch.bfloat16 if half else torch.float32)
        results.append((mixed.float(), *torch.autograd.grad(mixed.float(), (query, key, value), towards)))
    for one, other in zip(*results, strict=True):
        close(one, other, torch.bfloat16)


def test_a_bias_shifts_the_scores():
    """By hand: equal scores, and a bias of ln 3 for one of two keys: it gets three quarters."""
    query, key = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 2, 4)
    _, weights = attend(query, key, key, weights=True, bias=torch.tensor([[[0.0, math.log(3)]]]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25, 0.75]))


def test_a_mask_closes_keys_on_top_of_the_causal_one():
    """By hand: equal scores, three tokens, the first is padding."""
    zeros = torch.zeros(1, 1, 3, 4)
    _, weights = attend(zeros, zeros, zeros, weights=True, mask=torch.tensor([[[False, True, True]]]))
    assert weights[0, 0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0.5, 0.5]]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 3), (2, 3, 6), (2, 2, 5), (1, 3, 5), (2, 5), (2, 1, 3, 5)])
def test_a_mask_of_another_shape_is_refused_in_a_sentence(shape):
    query, key = torch.zeros(2, 4, 3, 8), torch.zeros(2, 4, 5, 8)
    with pytest.raises(ValueError, match=r"mask must be \(2, 3 or 1, 5\).* got .*: padding is real\[:, None, :\]"):
        attend(query, key, key, mask=torch.ones(shape, dtype=torch.bool))


def test_repeat_kv_serves_neighbouring_query_heads():
    kv = torch.arange(2.0).view(1, 2, 1, 1)
    assert repeat_kv(kv, 6).flatten().tolist() == [0, 0, 0, 1, 1, 1]


# ---- the module -----------------------------------------------------------------------------------


def multi_head(n_heads, n_kv_heads, seed=0, **settings):
    torch.manual_seed(seed)
    shape = dict(vocab_size=9, context_length=20, d_model=12, n_layers=1, d_head=4, d_ff=8)
    config = TransformerConfig(n_heads=n_heads, n_kv_heads=n_kv_heads, **shape, **settings)
    attention = MultiHeadAttention(config, 0)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return config, attention


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_kv_heads", [6, 3, 2, 1])
def test_the_module_is_projections_rotation_and_a_loop_over_heads(n_kv_heads, masked):
    _, attention = multi_head(6, n_kv_heads, rope_pairs="neighbours", bias=True)
    source = torch.Generator().manual_seed(3)
    x, angles = normal(source, 2, 5, 12), rotation_angles(torch.arange(5), 4)
    mask = torch.rand(2, 1, 5, generator=source) < 0.7 if masked else None
    allowed = causal_mask(5).expand(2, -1, -1)
    allowed = allowed & mask if masked else allowed

    gathered = []
    for head in range(6):
        kv = head // (6 // n_kv_heads)
        q, k, v = (
            F.linear(x, part.weight, part.bias)[..., 4 * i : 4 * i + 4]
            for part, i in ((attention.query, head), (attention.key, kv), (attention.value, kv))
        )
        q, k = rotate(q, angles, "neighbours"), rotate(k, angles, "neighbours")
        gathered.append(F.scaled_dot_product_attention(q, k, v, allowed))
    right = F.linear(torch.cat(gathered, dim=-1), attention.output.weight, attention.output.bias)
    for tables in (None, []):
        close(attention(x, Pass(torch.arange(5), mask=mask, tables=tables)), right)
        assert tables is None or len(tables) == 1


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", ["rope", "alibi", "none"])
def test_prefill_in_chunks_after_cached_keys_has_the_right_mask(positions, masked):
    """Several queries follow cached keys: the first of them sees the cached ones and itself, the last one all.

    is_causal of the fused operation would count from the first key, and let the first query see one key alone.
    """
    config, attention = multi_head(4, 2, positions=positions)
    source = torch.Generator().manual_seed(4)
    x = normal(source, 2, 9, 12)
    real = torch.tensor([[False] * 2 + [True] * 7, [True] * 9])  # the first row is padded on the left
    mask = real[:, None] if masked else None
    tables = []
    whole, [table] = attention(x, Pass(torch.arange(9), mask=mask, tables=tables)), tables
    for traced in (False, True):
        cache = KVCache(config, 9, batch=2)
        for start, end in ((0, 3), (3, 4), (4, 9)):
            seen = None if mask is None else mask[..., :end]
            run = Pass(cache.positions(end - start), cache, seen, [] if traced else None)
            close(attention(x[:, start:end], run), whole[:, start:end])
            cache.grow(end - start)
            if traced:
                [rows] = run.tables
                close(rows, table[:, :, start:end, :end])
                assert (rows[..., 0, start + 1 :] == 0).all() and rows.shape[-2:] == (end - start, end)


# ---- the whole transformer ------------------------------------------------------------------------

ROWS = [[3, 5, 9, 2, 4, 7], [8, 1], [6, 6, 2, 11]]
SCHEMES = ["rope", "alibi", "none", "learned", "sinusoidal"]


@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_padded_row_is_the_row_alone(tiny, positions, side):
    """Right: under every scheme. Left: where only distances count; learned and sinusoidal positions have shifted.

    Without the mask a left-padded row is another one under every scheme.
    """
    transformer = tiny("gpt2" if positions == "learned" else "llama", positions=positions)
    ids, real = pad(ROWS, 0, side)
    padded = transformer(ids, mask=real[:, None, :])
    careless = transformer(ids)
    assert padded.isfinite().all()
    for row, sequence in enumerate(ROWS):
        alone = transformer(torch.tensor([sequence]))[0]
        same = torch.allclose(padded[row][real[row]], alone, atol=1e-4, rtol=1e-4)
        unpadded = len(sequence) == ids.shape[1]
        assert same == (unpadded or side == "right" or positions in ("rope", "alibi", "none"))
        if side == "left" and not unpadded:
            assert not torch.allclose(careless[row][real[row]], alone, atol=1e-2)


@pytest.mark.parametrize("cached", [False, True])
def test_the_padding_id_does_not_matter_under_its_mask(tiny, cached):
    transformer = tiny()
    (ids, real), (others, _) = (pad(ROWS, pad_id, "left") for pad_id in (0, 13))

    def last(ids):
        if not cached:
            return transformer(ids, mask=real[:, None, :])[:, -1]
        cache = KVCache(transformer.config, 6, batch=3)
        transformer(ids[:, :4], cache, real[:, None, :4])
        return transformer(ids[:, 4:], cache, real[:, None, :])[:, -1]

    close(last(ids), last(others))
    close(last(ids), torch.stack([transformer(torch.tensor([row]))[0, -1] for row in ROWS]).detach())


@pytest.mark.parametrize("positions", ["rope", "alibi", "none"])
def test_a_packed_document_is_the_document_alone(tiny, positions):
    transformer = tiny(positions=positions)
    ids, _ = pack(ROWS, 15, end_id=0)  # one row
    packed = transformer(ids, mask=same_document(document_numbers(ids, 0)))[0]
    start = 0
    for row in ROWS:
        alone = transformer(torch.tensor([[*row, 0]]))[0]
        torch.testing.assert_close(packed[start : start + len(row) + 1], alone, atol=1e-4, rtol=1e-4)
        start += len(row) + 1


def test_a_mask_has_a_gradient_without_nan_through_the_whole_model(tiny):
    """The first queries of a left-padded row may look at nothing, in every layer."""
    transformer = tiny()
    ids, real = pad(ROWS, 0, "left")
    logits = transformer(ids, mask=real[:, None, :])
    F.cross_entropy(logits[real], ids[real]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in transformer.parameters())


def test_a_mask_that_forgets_the_cached_keys_is_refused(tiny):
    transformer = tiny()
    cache = KVCache(transformer.config, 6, batch=1)
    transformer(torch.tensor([ROWS[0][:4]]), cache)
    with pytest.raises(ValueError, match=r"mask must be \(1, 2 or 1, 6\).*keys with those in the cache"):
        transformer(torch.tensor([ROWS[0][4:]]), cache, torch.ones(1, 1, 2, dtype=torch.bool))
