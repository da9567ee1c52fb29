import pytest
import torch

from course_lib.config import TransformerConfig
from course_lib.prediction.kv_cache import KVCache

FAMILIES = [
    dict(family="gpt2"),
    dict(family="llama"),
    dict(rope_pairs="neighbours"),
    dict(positions="none", tie_embeddings=False, bias=True),
    dict(positions="sinusoidal"),
    dict(positions="alibi"),
]


@pytest.mark.parametrize("settings", FAMILIES)
def test_a_cache_changes_nothing(tiny, settings):
    transformer = tiny(**settings)
    ids = torch.randint(50, (1, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = transformer(ids)
        cache = KVCache(transformer.config, max_length=12)
        pieces = [transformer(part, cache) for part in ids.split([5, 4, 1, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=1e-4)
    assert cache.length == 12


@pytest.mark.parametrize("settings", FAMILIES)
def test_no_token_sees_the_future(tiny, settings):
    transformer = tiny(**settings)
    ids = torch.randint(50, (1, 10), generator=torch.Generator().manual_seed(2))
    changed = ids.clone()
    changed[0, 6] = (ids[0, 6] + 1) % 50
    with torch.no_grad():
        before, after = transformer(ids), transformer(changed)
    assert torch.equal(before[0, :6], after[0, :6])
    assert not torch.allclose(before[0, 6:], after[0, 6:])


def test_context_is_a_limit_in_a_sentence(tiny):
    transformer = tiny()
    with pytest.raises(ValueError, match="41 tokens do not fit into the model's context of 40"):
        transformer(torch.zeros(1, 41, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one token"):
        transformer(torch.zeros(1, 0, dtype=torch.long))


def test_parameters_by_hand(tiny):
    embedding, attention, gated = 50 * 24, 24 * 24 + 2 * 24 * 8 + 24 * 24, 3 * 24 * 32
    assert tiny().n_parameters() == embedding + 3 * (attention + gated + 2 * 24) + 24


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(norm="batch_norm"), "norm must be one of 'layer_norm', 'rms_norm', got 'batch_norm'"),
        (dict(n_layers=0), "n_layers must be a positive whole number, got 0"),
        (dict(d_ff=2.5), "d_ff must be a positive whole number, got 2.5"),
        (dict(n_kv_heads=4), "n_heads must be a multiple of n_kv_heads"),
        (dict(d_head=5), "d_head must be even for RoPE"),
        (dict(positions="sinusoidal", d_model=25), "d_model must be even for sinusoidal positions"),
        (dict(positions="binary"), "positions must be one of 'learned', 'sinusoidal', 'rope', 'alibi', 'none', got"),
    ],
)
def test_impossible_shapes_are_refused(tiny, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**changes)


def test_defaults_are_llamas():
    config = TransformerConfig(
        vocab_size=9, context_length=9, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_head=4, d_ff=8
    )
    assert (config.norm, config.positions, config.feed_forward) == ("rms_norm", "rope", "gated")
