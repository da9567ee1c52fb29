"""Each position scheme against an independent formula or `transformers`, then all five inside a model."""

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.input_processing.positions import (
    alibi_bias,
    alibi_slopes,
    binary_code,
    rotate,
    rotation_angles,
    sinusoids,
)
from course_lib.prediction.kv_cache import KVCache

SCHEMES = ["learned", "sinusoidal", "rope", "alibi", "none"]


# ---- binary, sinusoids ----------------------------------------------------------------------------


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20))
def test_binary_code_is_pythons_own(positions):
    code = binary_code(torch.tensor(positions), 8)
    assert ["".join(map(str, row[::-1])) for row in code.tolist()] == [f"{p:08b}" for p in positions]


@pytest.mark.parametrize("positions", [[8], [-1], [0, 1, 9]])
def test_binary_code_says_what_does_not_fit(positions):
    with pytest.raises(ValueError, match="from 0 to 7, which is what 3 bits can count"):
        binary_code(torch.tensor(positions), 3)


@pytest.mark.parametrize(("d_model", "base"), [(2, 10_000.0), (8, 10_000.0), (64, 500.0)])
def test_sinusoids_are_the_parts_of_complex_waves(d_model, base):
    table = sinusoids(torch.arange(50), d_model, base).tolist()
    for position in (0, 1, 7, 49):
        for i in range(d_model // 2):
            wave = cmath.exp(1j * position * math.exp(-2 * i / d_model * math.log(base)))
            assert table[position][2 * i] == pytest.approx(wave.imag, abs=1e-5)
            assert table[position][2 * i + 1] == pytest.approx(wave.real, abs=1e-5)


def test_sinusoids_know_distance_and_positions_not_in_order():
    table = sinusoids(torch.arange(100), 64)
    products = table @ table.T
    for distance in (0, 1, 10, 50):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-3, rtol=0)
    torch.testing.assert_close(sinusoids(torch.tensor([41, 3]), 64), table[[41, 3]])


def test_sinusoids_come_in_pairs():
    with pytest.raises(ValueError, match="d_model must be even, a sine and a cosine for each wave, got 7"):
        sinusoids(torch.arange(3), 7)


# ---- RoPE -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [10_000.0, 100_000.0])
def test_rope_equals_transformers(theta):
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    source = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 4, 30, 64, generator=source)
    positions = torch.arange(200, 230)
    rope = dict(rope_type="default", rope_theta=theta)
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, max_position_embeddings=300, rope_parameters=rope)
    theirs = apply_rotary_pos_emb(query, key, *LlamaRotaryEmbedding(config)(query, positions[None]))
    angles = rotation_angles(positions, 64, theta)
    for ours, other in zip((rotate(query, angles), rotate(key, angles)), theirs, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-4, rtol=1e-4)


def test_rope_equals_complex_multiplication():
    x, angles = torch.randn(5, 8), rotation_angles(torch.arange(5), 8)
    turned = torch.view_as_complex(x.view(5, 4, 2)) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x, angles, "neighbours"), torch.view_as_real(turned).flatten(1))


def test_the_two_layouts_are_one_up_to_the_order_of_columns():
    x, angles = torch.randn(3, 5, 8), rotation_angles(torch.arange(5), 8)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # first members of the neighbouring pairs, then second ones
    torch.testing.assert_close(rotate(x, angles, "neighbours")[..., order], rotate(x[..., order], angles, "halves"))


@pytest.mark.parametrize("pairs", ["halves", "neighbours"])
def test_rope_depends_on_distance_alone(pairs):
    query, key = torch.randn(2, 1, 16)
    angles = rotation_angles(torch.arange(40), 16)

    def score(i, j):
        return (rotate(query, angles[i : i + 1], pairs) @ rotate(key, angles[j : j + 1], pairs).T).item()

    assert score(7, 3) == pytest.approx(score(30, 26), abs=1e-4)
    assert score(7, 3) != pytest.approx(score(7, 4), abs=1e-2)


# ---- ALiBi ----------------------------------------------------------------------------------------


def test_alibi_slopes_by_hand():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(1).tolist() == [2.0**-8]
    assert alibi_slopes(3).tolist() == [2.0**-4, 2.0**-8, 2.0**-2]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 12), st.integers(0, 9))
def test_alibi_equals_bloom(n_heads, n_query, cached):
    """Up to a number a row, which softmax does not see: Bloom counts from the first key, we from the query."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    n_key = n_query + cached
    theirs = build_alibi_tensor(torch.ones(1, n_key), n_heads, torch.float32).view(n_heads, 1, n_key)
    own_place = torch.arange(cached, n_key)
    theirs = theirs - theirs[:, 0, own_place][..., None]
    past = torch.ones(n_query, n_key).tril(cached).bool()
    torch.testing.assert_close(alibi_bias(n_heads, n_query, n_key)[:, past], theirs[:, past], atol=1e-5, rtol=1e-5)


def test_alibi_is_a_penalty_whichever_way():
    bias = alibi_bias(2, 4)
    assert bias[0].tolist() == [[-abs(i - j) / 16 for j in range(4)] for i in range(4)]


# ---- in a model -----------------------------------------------------------------------------------


def test_learned_positions_are_gpt2s(tiny):
    """The table is transformers' own `wpe`, and what enters the first block is its `wte` + `wpe`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = tiny(family="gpt2")
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=40, n_embd=24, n_layer=1, n_head=6)).transformer
    with torch.no_grad():
        theirs.wte.weight.copy_(model.token_embedding.weight)
        theirs.wpe.weight.copy_(model.position_embedding.weight)
    seen = []
    theirs.h[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    ids = torch.randint(50, (1, 12), generator=torch.Generator().manual_seed(0))
    theirs.eval()(ids)
    torch.testing.assert_close(model.embed(ids), seen[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_flow_and_only_the_learned_scheme_has_parameters(tiny, scheme):
    model = tiny(positions=scheme)
    logits = model(torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(0)))
    assert logits.isfinite().all()
    logits.logsumexp(-1).mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert len(list(model.position_embedding.parameters())) == (scheme == "learned")
    names = {name for name, _ in model.named_parameters() if "position" in name}
    assert names == ({"position_embedding.weight"} if scheme == "learned" else set())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_block_with_weights_says_the_same_as_without(tiny, scheme):
    """What a trace does: block after block, each with its table of weights."""
    model = tiny(positions=scheme)
    ids = torch.randint(50, (1, 9), generator=torch.Generator().manual_seed(0))
    x, run = model.embed(ids), model.begin(9, tables=[])
    for block in model.blocks:
        x = block(x, run)
    assert len(run.tables) == len(model.blocks)
    torch.testing.assert_close(model.final_norm(x), model.hidden_states(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_follows_depends_on_order_but_for_none(tiny, scheme):
    """One causal layer without positions sees a bag of earlier tokens."""
    model = tiny(positions=scheme, n_layers=1)
    with torch.no_grad():
        one, other = model(torch.tensor([[3, 9, 27, 31]])), model(torch.tensor([[9, 3, 27, 31]]))
    same = torch.allclose(one[0, -1], other[0, -1], atol=1e-3)
    assert same == (scheme == "none")


@pytest.mark.parametrize("scheme", ["rope", "alibi", "none"])
def test_what_is_relative_does_not_see_a_shift(tiny, scheme):
    """The same tokens ten places on, in a cache whose first ten places say nothing: here, moved positions."""
    model = tiny(positions=scheme)
    ids = torch.randint(50, (1, 6), generator=torch.Generator().manual_seed(0))

    def stream(start):
        x, run = model.embed(ids), model.begin(6, positions=torch.arange(start, start + 6))
        for block in model.blocks:
            x = block(x, run)
        return x

    with torch.no_grad():
        torch.testing.assert_close(stream(0), stream(10), atol=1e-3, rtol=1e-3)


def test_alibi_takes_the_cached_keys_into_account(tiny):
    model = tiny(positions="alibi", n_heads=6, n_kv_heads=2)
    ids = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model(ids)
        cache = KVCache(model.config, max_length=12, batch=2)
        pieces = [model(part, cache) for part in ids.split([3, 1, 5, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=1e-4)
