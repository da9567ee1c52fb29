"""Published models by their shapes, from GPT-2 to today's mixtures of experts, and those whose shape is a secret.

    shape("llama-3.1-8b").n_layers → 32
    count_parameters(shape("llama-3.1-8b")) → 8030261248

Every number is the maker's own, from the place that `source` names. No weight is here and nothing is loaded.
"""

from difflib import get_close_matches

from course_lib.pretrained.model_shape import (
    LAYER_NORM,
    Attention,
    Experts,
    FeedForward,
    Latent,
    ModelShape,
    Published,
    count_active_parameters,
    count_parameters,
    flops_per_token,
    kv_cache_bytes,
    parameter_table,
    transformer_config,
)

__all__ = [
    "UNPUBLISHED",
    "ZOO",
    "ModelShape",
    "count_active_parameters",
    "count_parameters",
    "flops_per_token",
    "kv_cache_bytes",
    "parameter_table",
    "shape",
    "transformer_config",
]


def shape(name: str) -> ModelShape:
    """The shape of a published model by its name.

    Raises:
        ValueError: the model is not in the zoo (the nearest names are given) or its maker has not published its shape.
    """
    if name in ZOO:
        return ZOO[name]
    if name in UNPUBLISHED:
        raise ValueError(f"the shape of {name!r} is not published: {UNPUBLISHED[name]}")
    near = get_close_matches(name, [*ZOO, *UNPUBLISHED], n=4, cutoff=0.4)
    known = f"near it are {', '.join(map(repr, near))}" if near else f"the zoo has {', '.join(map(repr, ZOO))}"
    raise ValueError(f"name must be a model of the zoo, got {name!r}: {known}")


def _gpt2(name: str, repository: str, n_layers: int, d_model: int, n_heads: int, parameters: str) -> ModelShape:
    return ModelShape(
        name=name,
        maker="OpenAI",
        year=2019,
        source=f"huggingface.co/openai-community/{repository}, config.json",
        vocab_size=50257,
        context=1024,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=n_heads, n_kv_heads=n_heads, d_head=64, bias="all"),
        feed_forward=FeedForward(d_ff=4 * d_model, gated=False, activation="gelu_tanh", bias=True),
        norms=LAYER_NORM,
        positions="learned",
        position_rows=1024,
        tied=True,
        published=Published(parameters=parameters, source="keras-hub 0.32, gpt2_presets.py (the loaded checkpoint)"),
    )


def _llama(
    name: str,
    source: str,
    published: Published,
    *,
    year: int,
    vocab_size: int,
    context: int,
    d_model: int,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    d_ff: int,
    maker: str = "Meta",
    tied: bool = False,
) -> ModelShape:
    """Llama's block, which many makers took over: RMSNorm, RoPE, a gated network, no bias anywhere."""
    return ModelShape(
        name=name,
        maker=maker,
        year=year,
        source=source,
        vocab_size=vocab_size,
        context=context,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_model // n_heads),
        feed_forward=FeedForward(d_ff=d_ff),
        tied=tied,
        published=published,
    )


def _llama_2(name, repository, n_layers, d_model, n_heads, n_kv_heads, d_ff, parameters) -> ModelShape:
    return _llama(
        name,
        f"huggingface.co/meta-llama/{repository}, config.json",
        Published(
            parameters=parameters,
            source=f"huggingface.co/meta-llama/{repository}, safetensors total",
            counts="The files also keep 64 frequencies of RoPE for each layer, which are not learned.",
        ),
        year=2023,
        vocab_size=32000,
        context=4096,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_ff=d_ff,
    )


def _llama_3(name, repository, n_layers, d_model, n_heads, d_ff, parameters, tied=False) -> ModelShape:
    return _llama(
        name,
        f"huggingface.co/meta-llama/{repository}, config.json",
        Published(parameters=parameters, source=f"huggingface.co/meta-llama/{repository}, safetensors total"),
        year=2024,
        vocab_size=128256,
        context=131072,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=8,
        d_ff=d_ff,
        tied=tied,
    )


def _smollm2(name, repository, n_layers, d_model, n_heads, n_kv_heads, d_ff, parameters) -> ModelShape:
    return _llama(
        name,
        f"huggingface.co/HuggingFaceTB/{repository}, config.json",
        Published(parameters=parameters, source=f"huggingface.co/HuggingFaceTB/{repository}, safetensors total"),
        maker="Hugging Face",
        year=2024,
        vocab_size=49152,
        context=8192,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_ff=d_ff,
        tied=True,
    )


_SHAPES = (
    _gpt2("gpt2", "gpt2", 12, 768, 12, "124,439,808"),
    _gpt2("gpt2-medium", "gpt2-medium", 24, 1024, 16, "354,823,168"),
    _gpt2("gpt2-large", "gpt2-large", 36, 1280, 20, "774,030,080"),
    _gpt2("gpt2-xl", "gpt2-xl", 48, 1600, 25, "1,557,611,200"),
    _llama_2("llama-2-7b", "Llama-2-7b-hf", 32, 4096, 32, 32, 11008, "6,738,417,664"),
    _llama_2("llama-2-13b", "Llama-2-13b-hf", 40, 5120, 40, 40, 13824, "13,015,866,880"),
    _llama_2("llama-2-70b", "Llama-2-70b-hf", 80, 8192, 64, 8, 28672, "68,976,653,312"),
    _llama_3("llama-3.1-8b", "Llama-3.1-8B", 32, 4096, 32, 14336, "8,030,261,248"),
    _llama_3("llama-3.1-70b", "Llama-3.1-70B", 80, 8192, 64, 28672, "70,553,706,496"),
    _llama_3("llama-3.1-405b", "Llama-3.1-405B", 126, 16384, 128, 53248, "405,853,388,800"),
    _smollm2("smollm2-135m", "SmolLM2-135M", 30, 576, 9, 3, 1536, "134,515,008"),
    _smollm2("smollm2-360m", "SmolLM2-360M", 32, 960, 15, 5, 2560, "361,821,120"),
    _smollm2("smollm2-1.7b", "SmolLM2-1.7B", 24, 2048, 32, 32, 8192, "1,711,376,384"),
    ModelShape(
        name="mistral-7b",
        maker="Mistral AI",
        year=2023,
        source="huggingface.co/mistralai/Mistral-7B-v0.1, config.json",
        vocab_size=32000,
        context=32768,
        d_model=4096,
        n_layers=32,
        attention=Attention(n_heads=32, n_kv_heads=8, d_head=128, n_window_layers=32, window=4096),
        feed_forward=FeedForward(d_ff=14336),
        published=Published(parameters="7,241,732,096", source="keras-hub 0.32, mistral_presets.py"),
    ),
    ModelShape(
        name="mixtral-8x7b",
        maker="Mistral AI",
        year=2023,
        source="huggingface.co/mistralai/Mixtral-8x7B-v0.1, config.json",
        vocab_size=32000,
        context=32768,
        d_model=4096,
        n_layers=32,
        attention=Attention(n_heads=32, n_kv_heads=8, d_head=128),
        feed_forward=FeedForward(d_ff=14336),
        experts=Experts(n_experts=8, n_active=2, d_expert=14336),
        published=Published(
            parameters="46,702,792,704", active="12.9B", source="keras-hub 0.32, mixtral_presets.py; mistral.ai, 2023"
        ),
    ),
    ModelShape(
        name="deepseek-v3",
        maker="DeepSeek",
        year=2024,
        source="huggingface.co/deepseek-ai/DeepSeek-V3, config.json",
        vocab_size=129280,
        context=163840,
        d_model=7168,
        n_layers=61,
        attention=Attention(
            n_heads=128,
            n_kv_heads=128,
            d_head=192,
            latent=Latent(query_rank=1536, key_value_rank=512, d_rope=64, d_value=128),
        ),
        feed_forward=FeedForward(d_ff=18432),
        experts=Experts(n_experts=256, n_active=8, d_expert=2048, d_shared=2048, n_dense_layers=3, router_bias=True),
        published=Published(
            parameters="671B",
            active="37B",
            source="DeepSeek-V3 Technical Report, arxiv.org/abs/2412.19437, section 4.2",
            active_without=("token embedding",),
            counts="The module that predicts a second token (14B more in the files) is not counted.",
        ),
    ),
)

ZOO: dict[str, ModelShape] = {each.name: each for each in _SHAPES}

# What the makers said instead of a shape.
UNPUBLISHED: dict[str, str] = {
    "gpt-4": (
        "the GPT-4 Technical Report (OpenAI 2023, arxiv.org/abs/2303.08774, section 2) says that it is a Transformer "
        "trained to predict the next token, and that it tells nothing further of architecture, model size included"
    ),
}
