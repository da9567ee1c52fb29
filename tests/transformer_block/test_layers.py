"""Layers that differ: windows and rotations of their own, each layer's work done once a pass."""

import pytest
import torch

from course_lib.config import Layer
from course_lib.input_processing import positions
from course_lib.prediction.kv_cache import KVCache
from course_lib.transformer_block import forward_pass
from course_lib.transformer_block.attention import attend, causal_mask, scaled_dot_product_attention

IDS = torch.randint(50, (2, 14), generator=torch.Generator().manual_seed(2))
LOCAL, GLOBAL = Layer(window=4, rope_theta=100.0), Layer()


def cached(model, ids, sizes):
    cache = KVCache(model.config, ids.shape[1], len(ids))
    return torch.cat([model(part, cache) for part in ids.split(sizes, dim=1)], dim=1)


def test_a_window_is_the_last_few_tokens():
    assert causal_mask(5, window=2).int().tolist() == [
        *([1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1])
    ]
    assert causal_mask(2, 5, window=2).int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    assert torch.equal(causal_mask(3, 7, window=1), torch.arange(7) == torch.arange(4, 7)[:, None])


@pytest.mark.parametrize("n_query, n_key", [(9, 9), (1, 9), (4, 9), (1, 1), (1, 3)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_both_ways_to_attend_keep_to_the_window(n_query, n_key, masked, biased):
    source = torch.Generator().manual_seed(n_query + n_key)
    query = torch.randn(2, 4, n_query, 6, generator=source)
    key, value = torch.randn(2, 2, 4, n_key, 6, generator=source)
    bias = torch.randn(4, n_query, n_key, generator=source) if biased else None
    mask = torch.rand(2, 1, n_key, generator=source) < 0.8 if masked else None
    near = torch.tensor([[0 <= n_key - n_query + q - k < 3 for k in range(n_key)] for q in range(n_query)])
    expected, _ = scaled_dot_product_attention(
        query, key, value, near & mask[:, None] if masked else near.expand(2, 1, -1, -1), bias
    )
    for weights in (False, True):
        ours, _ = attend(query, key, value, weights, bias, mask, window=3)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[14], [5, 4, 5], [1] * 14, [9, 1, 1, 3]])
def test_a_window_is_mistrals(tiny, sizes):
    """Also with a cache, by which transformers forgets what is outside the window, and we hide it."""
    transformers = pytest.importorskip("transformers")
    shape = dict(
        vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, head_dim=4, max_position_embeddings=40, rms_norm_eps=1e-5, tie_word_embeddings=True,
        sliding_window=4, attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.MistralForCausalLM(transformers.MistralConfig(**shape)).eval()
    ours = tiny(pattern=(Layer(window=4, rope_theta=theirs.config.rope_parameters["rope_theta"]),))
    names = {
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.o_proj": "attention.output",
        "mlp.gate_proj": "feed_forward.gate",
        "mlp.up_proj": "feed_forward.up",
        "mlp.down_proj": "feed_forward.down",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "feed_forward_norm",
        "model.layers": "blocks",
        "model.norm": "final_norm",
        "model.embed_tokens": "token_embedding",
    }
    weights = theirs.state_dict()
    weights.pop("lm_head.weight")
    for old, new in names.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    ours.load_state_dict(weights)
    with torch.no_grad():
        expected = theirs(IDS).logits
        torch.testing.assert_close(cached(ours, IDS, sizes), expected, atol=1e-5, rtol=1e-4)
        everything = tiny(rope_theta=10_000.0)
        everything.load_state_dict(weights)
        assert (everything(IDS) - expected).abs().max() > 0.01, "without a window it is another model"


@pytest.mark.parametrize("sizes", [[14], [6, 1, 1, 6]])
def test_layers_differ_as_their_pattern_says(tiny, sizes):
    """Two local layers with a rotation of their own, one global, in turn; beside models whose layers are all alike."""
    model = tiny(n_layers=4, pattern=(LOCAL, LOCAL, GLOBAL))
    assert model.config.layers == (LOCAL, LOCAL, Layer(rope_theta=10_000.0), LOCAL)
    alike = {one: tiny(n_layers=4, pattern=(one,)) for one in (LOCAL, GLOBAL)}
    for other in alike.values():
        other.load_state_dict(model.state_dict())
    with torch.no_grad():
        x, runs = model.embed(IDS), {one: other.begin(14) for one, other in alike.items()}
        for number, one in enumerate((LOCAL, LOCAL, GLOBAL, LOCAL)):
            x = alike[one].blocks[number](x, runs[one])
        expected = model.unembed(model.final_norm(x))
        torch.testing.assert_close(cached(model, IDS, sizes), expected, atol=1e-5, rtol=1e-5)
        assert all((other(IDS) - expected).abs().max() > 0.01 for other in alike.values())


def test_rotations_are_made_once_a_pass_for_the_layers_that_turn_alike(tiny, monkeypatch):
    made = []

    def counted(positions_, d_head, theta):
        made.append(theta)
        return positions.rotation_angles(positions_, d_head, theta)

    monkeypatch.setattr(forward_pass, "rotation_angles", counted)
    model = tiny(n_layers=6, pattern=(LOCAL, GLOBAL))
    model(IDS)
    assert made == [100.0, 10_000.0]
    cached(model, IDS, [13, 1])
    assert made == [100.0, 10_000.0] * 3


def test_a_cache_grows_when_the_pass_ends(tiny):
    model = tiny()
    cache, last = KVCache(model.config, 14, 2), model.blocks[-1]
    lengths = []
    handle = last.register_forward_hook(lambda *_: lengths.append(cache.length))
    model(IDS[:, :5], cache)
    handle.remove()
    assert lengths == [0] and cache.length == 5

    def stop(*_):
        raise KeyboardInterrupt

    handle = last.feed_forward.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        model(IDS[:, 5:9], cache)
    handle.remove()
    assert cache.length == 5, "a pass that was broken off has not been"
    with torch.no_grad():
        torch.testing.assert_close(model(IDS[:, 5:], cache), model(IDS)[:, 5:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "pattern, said",
    [
        ((Layer(), 3), "pattern must hold a Layer"),
        ("global", "pattern must hold a Layer"),
        (Layer(), "pattern must hold a Layer"),
    ],
)
def test_a_pattern_of_something_else_is_refused(tiny, pattern, said):
    with pytest.raises(ValueError, match=said):
        tiny(pattern=pattern)


@pytest.mark.parametrize("window", [0, -1, 2.5])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValueError, match="window must be"):
        Layer(window=window)


@pytest.mark.parametrize("theta", [0.0, -5.0, float("nan"), float("inf")])
def test_a_theta_by_which_nothing_turns_is_refused_not_replaced_by_the_models(theta):
    with pytest.raises(ValueError, match="rope_theta must be above 0 and finite"):
        Layer(rope_theta=theta)
