"""The zoo's shapes against what their makers publish; its formulas against models that were built, ours and others'."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from course_lib.pretrained.model_shape import Attention, Experts, FeedForward, ModelShape, Norms, Published
from course_lib.pretrained.zoo import (
    UNPUBLISHED,
    ZOO,
    count_active_parameters,
    count_as_published,
    count_parameters,
    flops_per_token,
    kv_cache_bytes,
    parameter_table,
    published_figure,
    shape,
    transformer_config,
)
from course_lib.transformer_block.transformer import Transformer

# ---- what the makers publish ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number", "rounding"),
    [("8,030,261,248", 8_030_261_248, 0), ("671B", 671e9, 0.5e9), ("12.9B", 12.9e9, 0.05e9), ("1T", 1e12, 0.5e12)],
)
def test_a_figure_and_its_rounding(text, number, rounding):
    assert published_figure(text) == pytest.approx((number, rounding))


# What the counted files hold besides the model: found as a difference, so only its pattern is evidence.
BESIDES = {
    "llama-2-7b": 32 * 64,  # RoPE's frequencies, one for each pair of a head, in each layer
    "llama-2-13b": 40 * 64,
    "llama-2-70b": 80 * 64,
    "llama-4-scout": 871_932_416,  # what reads pictures: the same in both
    "llama-4-maverick": 871_932_416,
    "gemma-3-4b": -64 * 2560,  # 64 rows of the table that the figure leaves out
    "gemma-3-12b": -64 * 3840,
    "gemma-3-27b": -64 * 5376,
    "kimi-k2": 61 * 56,
}


@pytest.mark.parametrize("name", ZOO)
def test_the_published_number_of_parameters(name):
    said, count = ZOO[name].published, count_as_published(ZOO[name])
    published, rounding = published_figure(said.parameters)
    assert abs(count - published) <= max(published / 100, rounding)
    if not rounding:
        assert published - count == BESIDES.get(name, 0)
    assert said.counts or not (said.twice or name in BESIDES)


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].published.active])
def test_the_published_number_of_active_parameters(name):
    published, rounding = published_figure(ZOO[name].published.active)
    count = count_as_published(ZOO[name], active=True)
    assert abs(count - published) <= max(published / 100, rounding)


@pytest.mark.parametrize(
    ("name", "in_the_files"),
    [("deepseek-r1", 684_489_845_504), ("glm-4.5", 358_337_791_296), ("glm-4.5-air", 110_468_824_832)],
)
def test_files_with_a_layer_for_the_token_after_the_next_one(name, in_the_files):
    """That layer has tables and a norm of its own, and a matrix that joins two streams, each normalized before."""
    model = ZOO[name]
    one_layer = replace(model, n_layers=1, experts=replace(model.experts, n_dense_layers=0))
    joint = 2 * model.d_model**2 + 2 * model.d_model
    assert count_parameters(model) + count_parameters(one_layer) + joint == in_the_files
    if name == "glm-4.5":  # its maker counts that layer in, and the tables out
        tables = 4 * model.vocab_size * model.d_model
        assert round((in_the_files - tables) / 1e9) == 355


def test_what_a_figure_leaves_out_or_has_twice():
    assert count_as_published(shape("pythia-410m")) == count_parameters(shape("pythia-410m")) - 2 * 50304 * 1024
    assert count_as_published(shape("falcon-7b")) == count_parameters(shape("falcon-7b")) + 65024 * 4544
    active = count_active_parameters(shape("gpt-oss-20b"))
    assert count_as_published(shape("gpt-oss-20b"), active=True) == active - 201088 * 2880
    with pytest.raises(ValueError, match="no figure for the active parameters of gpt2 is known"):
        count_as_published(shape("gpt2"), active=True)


def test_the_zoo_is_wide_and_says_where_it_has_its_numbers():
    assert len(ZOO) >= 40
    assert {model.year for model in ZOO.values()} == {2019, 2020, 2022, 2023, 2024, 2025}
    for name, model in ZOO.items():
        assert name == model.name == name.lower()
        assert ("config.json" in model.source) or ("arxiv.org" in model.source)
        assert model.published.source
        dense = model.experts is None
        assert dense == (model.published.active is None) or name == "deepseek-coder-v2-lite"


def test_names_that_are_not_in_the_zoo():
    with pytest.raises(ValueError, match="name must be a model of the zoo, got 'gpt-5': near it are 'gpt-4'"):
        shape("gpt-5")
    with pytest.raises(ValueError, match="got 'zzz': the zoo has 'gpt2', 'gpt2-medium', "):
        shape("zzz")
    with pytest.raises(ValueError, match="the shape of 'gpt-4' is not published: the GPT-4 Technical Report"):
        shape("gpt-4")
    assert shape("gpt2") is ZOO["gpt2"]
    assert not set(UNPUBLISHED) & set(ZOO)


# ---- against transformers' own models ------------------------------------------------------------


MODEL_TYPES = {  # by the beginning of a name; the longest that fits
    "gpt2": "gpt2",
    "gpt-neox": "gpt_neox",
    "gpt-oss": "gpt_oss",
    "pythia": "gpt_neox",
    "bloom": "bloom",
    "opt": "opt",
    "falcon": "falcon",
    "starcoder2": "starcoder2",
    "llama": "llama",
    "llama-4": "llama4_text",
    "smollm2": "llama",
    "smollm3": "smollm3",
    "mistral": "mistral",
    "mixtral": "mixtral",
    "olmo-2": "olmo2",
    "phi-2": "phi",
    "phi": "phi3",
    "gemma": "gemma",
    "gemma-2-": "gemma2",
    "gemma-3": "gemma3_text",
    "qwen2.5": "qwen2",
    "qwen3": "qwen3",
    "deepseek": "deepseek_v3",
    "deepseek-v2": "deepseek_v2",
    "deepseek-coder-v2": "deepseek_v2",
    "kimi": "deepseek_v3",
    "glm-4.5": "glm4_moe",
    "minimax": "minimax_m2",
}


def hugging_face(model: ModelShape) -> dict:
    """The same model as `transformers` describes it. A name that a configuration does not know, it passes over."""
    a, experts = model.attention, model.experts
    model_type = MODEL_TYPES[max((start for start in MODEL_TYPES if model.name.startswith(start)), key=len)]
    said = dict(
        model_type="qwen3_moe" if model_type == "qwen3" and experts else model_type,
        vocab_size=model.vocab_size,
        hidden_size=model.d_model,
        num_hidden_layers=model.n_layers,
        num_attention_heads=a.n_heads,
        num_key_value_heads=a.n_kv_heads,
        intermediate_size=model.feed_forward.d_ff,
        max_position_embeddings=model.context,
        tie_word_embeddings=model.tied,
        attention_bias=a.bias != "none",
        use_qk_norm=a.qk_norm != "none",
        pad_token_id=0,
    )
    if model_type == "bloom":
        said |= dict(n_layer=model.n_layers, n_head=a.n_heads)
    elif model_type == "opt":
        said |= dict(ffn_dim=model.feed_forward.d_ff, word_embed_proj_dim=model.d_model)
    elif model_type == "falcon":  # its second design has two norms, and more than one KV head
        said |= dict(num_kv_heads=a.n_kv_heads, new_decoder_architecture=model.norms.per_block == 2)
    elif a.latent:
        said |= dict(q_lora_rank=a.latent.query_rank, kv_lora_rank=a.latent.key_value_rank)
        said |= dict(qk_nope_head_dim=a.d_head - a.latent.d_rope, qk_rope_head_dim=a.latent.d_rope)
        said |= dict(v_head_dim=a.latent.d_value, head_dim=a.latent.d_rope)
    else:
        said |= dict(head_dim=a.d_head)
    if experts:
        for name in ("num_experts", "num_local_experts", "n_routed_experts"):
            said[name] = experts.n_experts
        said |= dict(num_experts_per_tok=experts.n_active, moe_intermediate_size=experts.d_expert)
        said |= dict(n_shared_experts=experts.d_shared // experts.d_expert, n_group=1, topk_group=1)
        said |= dict(first_k_dense_replace=experts.n_dense_layers)
    if model_type in ("llama4_text", "mixtral", "gpt_oss", "minimax_m2"):  # there it is the experts' width
        said |= dict(intermediate_size=experts.d_expert, intermediate_size_mlp=model.feed_forward.d_ff)
        said |= dict(moe_layers=list(range(experts.n_dense_layers, model.n_layers)))
    return said


def with_few_layers(model: ModelShape) -> ModelShape:
    """Three layers instead of all, so that it is quickly built: the other sizes stay."""
    experts = model.experts and replace(model.experts, n_dense_layers=min(1, model.experts.n_dense_layers))
    return replace(model, n_layers=3, experts=experts)


IN_TRANSFORMERS = [name for name in ZOO if name not in ("gpt-3-175b", "palm-540b")]


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_transformers_own_model_has_as_many_parameters(name):
    model = with_few_layers(ZOO[name])
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**hugging_face(model)))
    # the router's bias is not trained by gradient descent: there it is a buffer
    biases = [buffer for key, buffer in theirs.named_buffers() if "e_score_correction_bias" in key]
    assert count_parameters(model) == theirs.num_parameters() + sum(bias.numel() for bias in biases)


@pytest.mark.parametrize(
    "name", [name for name in ZOO if name.startswith(("gemma-2-", "gemma-3", "gpt-oss", "llama-4"))]
)
def test_transformers_own_model_has_as_many_layers_with_a_window(name):
    model = ZOO[name]
    theirs = AutoConfig.for_model(**hugging_face(model))
    assert sum(kind != "full_attention" for kind in theirs.layer_types) == model.attention.n_window_layers
    if name.startswith("llama-4"):
        assert theirs.no_rope_layers.count(0) == model.attention.n_unrotated_layers


# ---- our Transformer -----------------------------------------------------------------------------


def convertible(model: ModelShape) -> bool:
    try:
        return bool(transformer_config(model))
    except ValueError:
        return False


OURS = [name for name in ZOO if convertible(ZOO[name])]


def test_which_models_our_transformer_can_be():
    families = {"gpt2", "llama-2-7b", "llama-3.1-405b", "smollm2-135m", "mistral-7b-v0.3", "mixtral-8x7b", "phi-4"}
    assert families <= set(OURS)
    others = {
        "gpt-3-175b",
        "gemma-2b",
        "smollm3-3b",
        "mistral-7b",
        "qwen2.5-7b",
        "olmo-2-7b",
        "gpt-oss-20b",
        "opt-6.7b",
    }
    assert not others & set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_our_transformer_has_as_many_parameters(name):
    with torch.device("meta"):
        model = Transformer(transformer_config(ZOO[name]))
    assert model.n_parameters() == count_parameters(ZOO[name])


def test_the_loaded_smollm2_is_the_zoos(smollm2):
    assert smollm2.transformer.n_parameters() == count_parameters(shape("smollm2-135m"))
    config = smollm2.transformer.config
    settings = dict(rope_theta=config.rope_theta, norm_eps=config.norm_eps, rope_pairs=config.rope_pairs)
    assert transformer_config(shape("smollm2-135m"), **settings) == config


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("deepseek-v3", "latent attention, no shared expert, no mixture in some layers alone, no bias on the router"),
        ("gpt-oss-20b", "windows in attention, no attention sinks, no bias on the router"),
        ("gemma-2-2b", "windows in attention, no norm on the result of a part, no scaling of the embedding"),
        ("phi-2", "attention and feed-forward in parallel, no bias on the logits"),
        ("bloom-176b", "norm after the embedding"),
        ("qwen2.5-7b", "bias in some projections but not in others"),
        ("opt-6.7b", "row of positions beyond the context"),
        ("palm-540b", "attention and feed-forward in parallel, no layer_norm without bias"),
    ],
)
def test_what_our_transformer_lacks_is_named(name, missing):
    with pytest.raises(ValueError, match=f"our Transformer cannot be {name}: it has no {missing}"):
        transformer_config(shape(name))


# ---- parts, cache, operations --------------------------------------------------------------------


def test_the_parts_of_gpt2():
    assert parameter_table(shape("gpt2")) == {
        "token embedding": 50257 * 768,
        "position embedding": 1024 * 768,
        "attention": 12 * 4 * 768**2,
        "feed-forward": 12 * 8 * 768**2,
        "router": 0,
        "norms and biases": 12 * (4 * 768 + 4 * 768 + 5 * 768) + 2 * 768,
        "output head": 0,
    }


def test_of_a_mixture_only_experts_are_left_out():
    model = shape("mixtral-8x7b")
    whole, active = parameter_table(model), parameter_table(model, active=True)
    assert active.pop("feed-forward") * 4 == whole.pop("feed-forward")  # 2 of 8
    assert active == whole
    assert all(count_active_parameters(m) == count_parameters(m) for m in ZOO.values() if m.experts is None)


@pytest.mark.parametrize(
    ("name", "per_token", "context", "together"),
    [
        ("smollm2-135m", 30 * 2 * 3 * 64 * 2, 1000, 30 * 2 * 3 * 64 * 2 * 1000),
        ("llama-3.1-70b", 80 * 2 * 8 * 128 * 2, 10, 80 * 2 * 8 * 128 * 2 * 10),
        ("deepseek-v3", 61 * (512 + 64) * 2, 10, 61 * (512 + 64) * 2 * 10),
        ("mistral-7b", 32 * 2 * 8 * 128 * 2, 10_000, 32 * 2 * 8 * 128 * 2 * 4096),
        ("gemma-3-27b", 62 * 2 * 16 * 128 * 2, 5000, (52 * 1024 + 10 * 5000) * 2 * 16 * 128 * 2),
        ("gemma-3-27b", 62 * 2 * 16 * 128 * 2, 1000, 62 * 1000 * 2 * 16 * 128 * 2),
        ("gpt-3-175b", 96 * 2 * 96 * 128 * 2, 2048, 96 * 2 * 96 * 128 * 2 * 2048),  # the band's width: unpublished
    ],
)
def test_bytes_of_the_kv_cache(name, per_token, context, together):
    assert kv_cache_bytes(shape(name)) == per_token
    assert kv_cache_bytes(shape(name), 0.5) == per_token / 4
    assert kv_cache_bytes(shape(name), context=context) == together


@pytest.mark.parametrize("function", [flops_per_token, lambda model, context: kv_cache_bytes(model, context=context)])
def test_a_context_of_nothing_is_refused(function):
    with pytest.raises(ValueError, match="context must be at least 1 token, got 0"):
        function(shape("gpt2"), 0)


def small(**changes) -> ModelShape:
    sizes = dict(
        name="small",
        maker="us",
        year=2026,
        source="this file",
        vocab_size=50,
        context=32,
        d_model=24,
        n_layers=3,
        attention=Attention(n_heads=6, n_kv_heads=2, d_head=8),
        feed_forward=FeedForward(d_ff=40),
        tied=True,
        published=Published(parameters="0", source="this file"),
    )
    return ModelShape(**(sizes | changes))


LIKE_GPT2 = dict(
    attention=Attention(n_heads=3, n_kv_heads=3, d_head=8, bias="all"),
    feed_forward=FeedForward(d_ff=96, gated=False, activation="gelu_tanh", bias=True),
    norms=Norms(kind="layer_norm", bias=True),
    positions="learned",
    position_rows=32,
)


@pytest.mark.parametrize(
    "model",
    [
        small(),
        small(tied=False, vocab_size=70),
        small(**LIKE_GPT2),
        small(experts=Experts(n_experts=5, n_active=2, d_expert=40)),
    ],
    ids=["llama", "untied", "gpt2", "mixture"],
)
@given(n_tokens=st.integers(1, 32))
@settings(max_examples=5, deadline=None)
def test_the_operations_that_pytorch_counts(model, n_tokens):
    """PyTorch's counter sees matrix products alone, and attention over the whole square, as the formula does."""
    transformer = Transformer(transformer_config(model))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        transformer(torch.zeros(1, n_tokens, dtype=torch.long))
    assert counter.get_total_flops() == n_tokens * flops_per_token(model, n_tokens)


def test_kaplans_rule_of_thumb():
    """2 operations for each parameter and token, while the context is short (Kaplan et al. 2020, section 2.1)."""
    model = shape("gpt-3-175b")
    assert flops_per_token(model, 1) == pytest.approx(2 * count_parameters(model), rel=0.01)
    more = flops_per_token(model, 2001) - flops_per_token(model, 1)
    assert more == 2000 * 4 * 96 * 12288  # a score and a share of a value for each number of a head


def test_windows_bound_the_operations():
    model = shape("mistral-7b")
    assert flops_per_token(model, 4096) == flops_per_token(model, 30_000)
    assert flops_per_token(model, 4095) < flops_per_token(model, 4096)


def test_latent_attention_scores_wider_than_it_mixes():
    model = shape("deepseek-v3")
    assert flops_per_token(model, 11) - flops_per_token(model, 1) == 10 * 61 * 128 * 2 * (192 + 128)
