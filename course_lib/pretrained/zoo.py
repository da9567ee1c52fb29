"""Published models by their shapes, from GPT-2 to today's mixtures of experts, and those whose shape is a secret.

    shape("llama-3.1-8b").n_layers → 32
    count_parameters(shape("llama-3.1-8b")) → 8030261248

Every number is the maker's own, from the place that `source` names; "config.json" is the file of that name in the
model's repository on huggingface.co, "files" the number of values in its safetensors files, as the hub states it.
No weight is here and nothing is loaded.
"""

from dataclasses import replace
from difflib import get_close_matches

from course_lib.pretrained.model_shape import (
    LAYER_NORM,
    Attention,
    Experts,
    FeedForward,
    Latent,
    ModelShape,
    Norms,
    Published,
    count_active_parameters,
    count_as_published,
    count_parameters,
    flops_per_token,
    kv_cache_bytes,
    parameter_table,
    published_figure,
    transformer_config,
)

__all__ = [
    "UNPUBLISHED",
    "ZOO",
    "ModelShape",
    "count_active_parameters",
    "count_as_published",
    "count_parameters",
    "flops_per_token",
    "kv_cache_bytes",
    "parameter_table",
    "published_figure",
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


def _config(repository: str) -> str:
    return f"huggingface.co/{repository}: config.json"


def _files(repository: str, parameters: str, **rest) -> Published:
    return Published(parameters=parameters, source=f"huggingface.co/{repository}: files", **rest)


TABLES = ("token embedding", "output head")
INPUT = ("token embedding",)
STORED_TWICE = "The files hold the tied matrix twice, as embedding and as output head."

# ---- OpenAI --------------------------------------------------------------------------------------


def _gpt2(name: str, n_layers: int, d_model: int, n_heads: int, parameters: str) -> ModelShape:
    return ModelShape(
        name=name,
        maker="OpenAI",
        year=2019,
        source=_config(f"openai-community/{name}"),
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
        published=Published(parameters=parameters, source="keras-hub 0.32, gpt2_presets.py: the loaded model"),
    )


def _gpt_oss(name: str, n_layers: int, n_experts: int, parameters: str, active: str) -> ModelShape:
    return ModelShape(
        name=name,
        maker="OpenAI",
        year=2025,
        source=_config(f"openai/{name}"),
        vocab_size=201088,
        context=131072,
        d_model=2880,
        n_layers=n_layers,
        attention=Attention(
            n_heads=64, n_kv_heads=8, d_head=64, bias="all", sinks=True, n_window_layers=n_layers // 2, window=128
        ),
        feed_forward=FeedForward(d_ff=2880, bias=True),
        experts=Experts(n_experts=n_experts, n_active=4, d_expert=2880, router_bias=True),
        published=Published(
            parameters=parameters,
            source="keras-hub 0.32, gpt_oss_presets.py; active: gpt-oss model card, OpenAI 2025, table 1",
            active=active,
            active_without=INPUT,
        ),
    )


_OPENAI = (
    _gpt2("gpt2", 12, 768, 12, "124,439,808"),
    _gpt2("gpt2-medium", 24, 1024, 16, "354,823,168"),
    _gpt2("gpt2-large", 36, 1280, 20, "774,030,080"),
    _gpt2("gpt2-xl", 48, 1600, 25, "1,557,611,200"),
    ModelShape(
        name="gpt-3-175b",
        maker="OpenAI",
        year=2020,
        source="Brown et al. 2020, arxiv.org/abs/2005.14165, section 2.1 and table 2.1",
        vocab_size=50257,
        context=2048,
        d_model=12288,
        n_layers=96,
        # every second layer is "locally banded sparse"; how wide the band is, the paper does not say
        attention=Attention(n_heads=96, n_kv_heads=96, d_head=128, bias="all", n_window_layers=48),
        feed_forward=FeedForward(d_ff=49152, gated=False, activation="gelu_tanh", bias=True),
        norms=LAYER_NORM,
        positions="learned",
        position_rows=2048,
        tied=True,
        published=Published(parameters="175B", source="Brown et al. 2020, arxiv.org/abs/2005.14165, table 2.1"),
    ),
    _gpt_oss("gpt-oss-20b", 24, 32, "20,914,757,184", "3.6B"),
    _gpt_oss("gpt-oss-120b", 36, 128, "116,829,156,672", "5.1B"),
)

# ---- EleutherAI, BigScience, BigCode, Falcon, PaLM: one design each ------------------------------


def _neox(
    name: str, year: int, vocab_size: int, d_model: int, n_layers: int, n_heads: int, published: Published
) -> ModelShape:
    """GPT-NeoX: attention and feed-forward in parallel, each with its own norm, RoPE on a quarter of each head."""
    return ModelShape(
        name=name,
        maker="EleutherAI",
        year=year,
        source=_config(f"EleutherAI/{name}"),
        vocab_size=vocab_size,
        context=2048,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=n_heads, n_kv_heads=n_heads, d_head=d_model // n_heads, bias="all"),
        feed_forward=FeedForward(d_ff=4 * d_model, gated=False, activation="gelu", bias=True),
        norms=LAYER_NORM,
        parallel=True,
        published=published,
    )


def _pythia(size: str, vocab_size: int, d_model: int, n_layers: int, n_heads: int, parameters: str) -> ModelShape:
    source = f"huggingface.co/EleutherAI/pythia-{size}: model card, non-embedding parameters"
    published = Published(parameters=parameters, source=source, without=TABLES)
    return _neox(f"pythia-{size}", 2023, vocab_size, d_model, n_layers, n_heads, published)


def _falcon(
    size: str, n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, norms: int, parameters: str
) -> ModelShape:
    return ModelShape(
        name=f"falcon-{size.lower()}",
        maker="TII",
        year=2023,
        source=_config(f"tiiuae/falcon-{size}"),
        vocab_size=65024,
        context=2048,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=64),
        feed_forward=FeedForward(d_ff=4 * d_model, gated=False, activation="gelu"),
        norms=replace(LAYER_NORM, per_block=norms),
        parallel=True,
        tied=True,
        published=_files(f"tiiuae/falcon-{size}", parameters, twice=INPUT, counts=STORED_TWICE),
    )


_OTHERS = (
    _neox(
        "gpt-neox-20b",
        2022,
        vocab_size=50432,
        d_model=6144,
        n_layers=44,
        n_heads=64,
        published=Published(parameters="20,554,567,680", source="huggingface.co/EleutherAI/gpt-neox-20b: model card"),
    ),
    _pythia("410m", 50304, 1024, 24, 16, "302,311,424"),
    _pythia("1.4b", 50304, 2048, 24, 16, "1,208,602,624"),
    _pythia("6.9b", 50432, 4096, 32, 32, "6,444,163,072"),
    _pythia("12b", 50688, 5120, 36, 40, "11,327,027,200"),
    ModelShape(
        name="bloom-176b",
        maker="BigScience",
        year=2022,
        source=_config("bigscience/bloom"),
        vocab_size=250880,
        context=2048,
        d_model=14336,
        n_layers=70,
        attention=Attention(n_heads=112, n_kv_heads=112, d_head=128, bias="all"),
        feed_forward=FeedForward(d_ff=57344, gated=False, activation="gelu_tanh", bias=True),
        norms=replace(LAYER_NORM, after_embedding=True),
        positions="alibi",
        tied=True,
        published=_files("bigscience/bloom", "176,247,271,424"),
    ),
    ModelShape(
        name="opt-6.7b",
        maker="Meta",
        year=2022,
        source=_config("facebook/opt-6.7b"),
        vocab_size=50272,
        context=2048,
        d_model=4096,
        n_layers=32,
        attention=Attention(n_heads=32, n_kv_heads=32, d_head=128, bias="all"),
        feed_forward=FeedForward(d_ff=16384, gated=False, activation="relu", bias=True),
        norms=LAYER_NORM,
        positions="learned",
        position_rows=2050,  # the first two are not for the tokens of a text
        tied=True,
        published=Published(parameters="6.7B", source="Zhang et al. 2022, OPT, arxiv.org/abs/2205.01068, table 1"),
    ),
    ModelShape(
        name="palm-540b",
        maker="Google",
        year=2022,
        source="Chowdhery et al. 2022, arxiv.org/abs/2204.02311, section 2 and table 1",
        vocab_size=256000,
        context=2048,
        d_model=18432,
        n_layers=118,
        attention=Attention(n_heads=48, n_kv_heads=1, d_head=256),
        feed_forward=FeedForward(d_ff=73728),
        norms=Norms(kind="layer_norm", per_block=1),
        parallel=True,
        tied=True,
        published=Published(parameters="540B", source="Chowdhery et al. 2022, arxiv.org/abs/2204.02311, abstract"),
    ),
    _falcon("7b", 32, 4544, 71, 1, 1, "7,217,189,760"),
    _falcon("40b", 60, 8192, 128, 8, 2, "41,835,970,560"),
    _falcon("180B", 80, 14848, 232, 8, 2, "179,522,565,120"),
    ModelShape(
        name="starcoder2-3b",
        maker="BigCode",
        year=2024,
        source=_config("bigcode/starcoder2-3b"),
        vocab_size=49152,
        context=16384,
        d_model=3072,
        n_layers=30,
        attention=Attention(n_heads=24, n_kv_heads=2, d_head=128, bias="all", n_window_layers=30, window=4096),
        feed_forward=FeedForward(d_ff=12288, gated=False, activation="gelu_tanh", bias=True),
        norms=LAYER_NORM,
        tied=True,
        published=Published(parameters="3B", source="huggingface.co/bigcode/starcoder2-3b: model card"),
    ),
)

# ---- Llama, and those who took its block over ----------------------------------------------------


def _llama(
    name: str,
    maker: str,
    year: int,
    repository: str,
    published: Published | str,
    *,
    vocab_size: int,
    context: int,
    d_model: int,
    n_layers: int,
    heads: tuple[int, int],  # query heads, KV heads
    d_head: int,
    d_ff: int,
    tied: bool = False,
    **attention,
) -> ModelShape:
    """Llama's block: RMSNorm before each part, RoPE, a gated network with SiLU, no bias."""
    return ModelShape(
        name=name,
        maker=maker,
        year=year,
        source=_config(repository),
        vocab_size=vocab_size,
        context=context,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=heads[0], n_kv_heads=heads[1], d_head=d_head, **attention),
        feed_forward=FeedForward(d_ff=d_ff),
        tied=tied,
        published=_files(repository, published) if isinstance(published, str) else published,
    )


def _llama_2(size: str, n_layers: int, d_model: int, heads: tuple[int, int], d_ff: int, parameters: str) -> ModelShape:
    repository = f"meta-llama/Llama-2-{size}-hf"
    stored = "The files also keep 64 frequencies of RoPE for each layer, which are not learned."
    return _llama(
        f"llama-2-{size}",
        "Meta",
        2023,
        repository,
        _files(repository, parameters, counts=stored),
        vocab_size=32000,
        context=4096,
        d_model=d_model,
        n_layers=n_layers,
        heads=heads,
        d_head=128,
        d_ff=d_ff,
    )


def _llama_3(
    name: str, repository: str, n_layers: int, d_model: int, n_heads: int, d_ff: int, parameters: str, **rest
) -> ModelShape:
    sizes = dict(vocab_size=128256, context=131072, d_head=d_model // n_heads) | rest
    return _llama(
        name,
        "Meta",
        2024,
        f"meta-llama/{repository}",
        parameters,
        d_model=d_model,
        n_layers=n_layers,
        heads=(n_heads, 8),
        d_ff=d_ff,
        **sizes,
    )


def _llama_4(name: str, repository: str, context: int, experts: Experts, parameters: str) -> ModelShape:
    vision = "The files also hold the part that reads pictures, 871,932,416 numbers, the same in both models."
    return ModelShape(
        name=name,
        maker="Meta",
        year=2025,
        source=_config(f"meta-llama/{repository}"),
        vocab_size=202048,
        context=context,
        d_model=5120,
        n_layers=48,
        attention=Attention(
            n_heads=40, n_kv_heads=8, d_head=128, n_window_layers=36, window=8192, n_unrotated_layers=12
        ),
        feed_forward=FeedForward(d_ff=16384),
        experts=experts,
        published=replace(_files(f"meta-llama/{repository}", parameters, counts=vision), active="17B"),
    )


def _smollm2(size: str, n_layers: int, d_model: int, heads: tuple[int, int], d_ff: int, parameters: str) -> ModelShape:
    return _llama(
        f"smollm2-{size.lower()}",
        "Hugging Face",
        2024,
        f"HuggingFaceTB/SmolLM2-{size}",
        parameters,
        vocab_size=49152,
        context=8192,
        d_model=d_model,
        n_layers=n_layers,
        heads=heads,
        d_head=64,
        d_ff=d_ff,
        tied=True,
    )


def _mistral(name: str, year: int, repository: str, published: Published | str, **sizes) -> ModelShape:
    return _llama(name, "Mistral AI", year, f"mistralai/{repository}", published, heads=(32, 8), d_head=128, **sizes)


def _olmo_2(size: str, n_layers: int, d_model: int, heads: tuple[int, int], d_ff: int, parameters: str) -> ModelShape:
    month = "0325" if size == "32B" else "1124"
    plain = _llama(
        f"olmo-2-{size.lower()}",
        "Allen AI",
        2025 if size == "32B" else 2024,
        f"allenai/OLMo-2-{month}-{size}",
        parameters,
        vocab_size=100352,
        context=4096,
        d_model=d_model,
        n_layers=n_layers,
        heads=heads,
        d_head=128,
        d_ff=d_ff,
        qk_norm="all_heads",
    )
    return replace(plain, norms=Norms(placement="post"))


_LLAMAS = (
    _llama_2("7b", 32, 4096, (32, 32), 11008, "6,738,417,664"),
    _llama_2("13b", 40, 5120, (40, 40), 13824, "13,015,866,880"),
    _llama_2("70b", 80, 8192, (64, 8), 28672, "68,976,653,312"),
    _llama_3("llama-3-8b", "Meta-Llama-3-8B", 32, 4096, 32, 14336, "8,030,261,248", context=8192),
    _llama_3("llama-3-70b", "Meta-Llama-3-70B", 80, 8192, 64, 28672, "70,553,706,496", context=8192),
    _llama_3("llama-3.1-8b", "Llama-3.1-8B", 32, 4096, 32, 14336, "8,030,261,248"),
    _llama_3("llama-3.1-70b", "Llama-3.1-70B", 80, 8192, 64, 28672, "70,553,706,496"),
    _llama_3("llama-3.1-405b", "Llama-3.1-405B", 126, 16384, 128, 53248, "405,853,388,800"),
    _llama_3("llama-3.2-1b", "Llama-3.2-1B", 16, 2048, 32, 8192, "1,235,814,400", tied=True),
    _llama_3("llama-3.2-3b", "Llama-3.2-3B", 28, 3072, 24, 8192, "3,212,749,824", tied=True),
    _llama_4(
        "llama-4-scout",
        "Llama-4-Scout-17B-16E-Instruct",
        10485760,
        Experts(n_experts=16, n_active=1, d_expert=8192, d_shared=8192),
        "108,641,793,536",
    ),
    _llama_4(
        "llama-4-maverick",
        "Llama-4-Maverick-17B-128E-Instruct",
        1048576,
        Experts(n_experts=128, n_active=1, d_expert=8192, d_shared=8192, n_dense_layers=24),
        "401,583,781,376",
    ),
    _smollm2("135M", 30, 576, (9, 3), 1536, "134,515,008"),
    _smollm2("360M", 32, 960, (15, 5), 2560, "361,821,120"),
    _smollm2("1.7B", 24, 2048, (32, 32), 8192, "1,711,376,384"),
    _llama(
        "smollm3-3b",
        "Hugging Face",
        2025,
        "HuggingFaceTB/SmolLM3-3B",
        "3,075,098,624",
        vocab_size=128256,
        context=65536,
        d_model=2048,
        n_layers=36,
        heads=(16, 4),
        d_head=128,
        d_ff=11008,
        tied=True,
        n_unrotated_layers=9,
    ),
    _mistral(
        "mistral-7b",
        2023,
        "Mistral-7B-v0.1",
        "7,241,732,096",
        vocab_size=32000,
        context=32768,
        d_model=4096,
        n_layers=32,
        d_ff=14336,
        n_window_layers=32,
        window=4096,
    ),
    _mistral(
        "mistral-7b-v0.3",
        2024,
        "Mistral-7B-v0.3",
        "7,248,023,552",
        vocab_size=32768,
        context=32768,
        d_model=4096,
        n_layers=32,
        d_ff=14336,
    ),
    replace(
        _mistral(
            "mixtral-8x7b",
            2023,
            "Mixtral-8x7B-v0.1",
            Published(
                parameters="46,702,792,704",
                source="keras-hub 0.32, mixtral_presets.py; active: mistral.ai, Mixtral of experts, 2023",
                active="12.9B",
            ),
            vocab_size=32000,
            context=32768,
            d_model=4096,
            n_layers=32,
            d_ff=14336,
        ),
        experts=Experts(n_experts=8, n_active=2, d_expert=14336),
    ),
    _olmo_2("7B", 32, 4096, (32, 32), 11008, "7,298,617,344"),
    _olmo_2("13B", 40, 5120, (40, 40), 13824, "13,716,198,400"),
    _olmo_2("32B", 64, 5120, (40, 8), 27648, "32,234,279,936"),
    _llama(
        "phi-3-mini",
        "Microsoft",
        2024,
        "microsoft/Phi-3-mini-4k-instruct",
        "3,821,079,552",
        vocab_size=32064,
        context=4096,
        d_model=3072,
        n_layers=32,
        heads=(32, 32),
        d_head=96,
        d_ff=8192,
        n_window_layers=32,
        window=2047,
    ),
    _llama(
        "phi-4",
        "Microsoft",
        2024,
        "microsoft/phi-4",
        "14,659,507,200",
        vocab_size=100352,
        context=16384,
        d_model=5120,
        n_layers=40,
        heads=(40, 10),
        d_head=128,
        d_ff=17920,
    ),
    ModelShape(
        name="phi-2",
        maker="Microsoft",
        year=2023,
        source=_config("microsoft/phi-2"),
        vocab_size=51200,
        context=2048,
        d_model=2560,
        n_layers=32,
        attention=Attention(n_heads=32, n_kv_heads=32, d_head=80, bias="all"),
        feed_forward=FeedForward(d_ff=10240, gated=False, activation="gelu_tanh", bias=True),
        norms=replace(LAYER_NORM, per_block=1),
        parallel=True,
        output_bias=True,
        published=_files("microsoft/phi-2", "2,779,683,840"),
    ),
)

# ---- Gemma ---------------------------------------------------------------------------------------


def _gemma(
    repository: str,
    year: int,
    vocab_size: int,
    context: int,
    d_model: int,
    n_layers: int,
    heads: tuple[int, int],
    d_head: int,
    d_ff: int,
    published: Published | str,
    norms: Norms,
    **attention,
) -> ModelShape:
    return ModelShape(
        name=repository.removesuffix("-it"),
        maker="Google",
        year=year,
        source=_config(f"google/{repository}"),
        vocab_size=vocab_size,
        context=context,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=heads[0], n_kv_heads=heads[1], d_head=d_head, **attention),
        feed_forward=FeedForward(d_ff=d_ff, activation="gelu_tanh"),
        norms=norms,
        tied=True,
        scaled_embedding=True,
        published=_files(f"google/{repository}", published) if isinstance(published, str) else published,
    )


_AROUND = Norms(per_block=4, placement="both")


def _gemma_2(
    size: str, d_model: int, n_layers: int, heads: tuple[int, int], d_head: int, d_ff: int, parameters: str
) -> ModelShape:
    windows = dict(n_window_layers=n_layers // 2, window=4096)
    return _gemma(
        f"gemma-2-{size}",
        2024,
        256000,
        8192,
        d_model,
        n_layers,
        heads,
        d_head,
        d_ff,
        parameters,
        _AROUND,
        **windows,
    )


def _gemma_3(
    size: str, d_model: int, n_layers: int, heads: tuple[int, int], d_head: int, d_ff: int, parameters: str
) -> ModelShape:
    """Five layers with a window, then one without."""
    published = Published(
        parameters=parameters,
        source="keras-hub 0.32, gemma3_presets.py: the part for text",
        counts="For 262,144 tokens; the maker's files have 64 rows more, and the part that reads pictures.",
    )
    return _gemma(
        f"gemma-3-{size}-it",
        2025,
        262208,
        131072,
        d_model,
        n_layers,
        heads,
        d_head,
        d_ff,
        published,
        _AROUND,
        qk_norm="head",
        n_window_layers=n_layers - n_layers // 6,
        window=1024,
    )


_GEMMAS = (
    _gemma("gemma-2b", 2024, 256000, 8192, 2048, 18, (8, 1), 256, 16384, "2,506,172,416", Norms()),
    _gemma("gemma-7b", 2024, 256000, 8192, 3072, 28, (16, 16), 256, 24576, "8,537,680,896", Norms()),
    _gemma_2("2b", 2304, 26, (8, 4), 256, 9216, "2,614,341,888"),
    _gemma_2("9b", 3584, 42, (16, 8), 256, 14336, "9,241,705,984"),
    _gemma_2("27b", 4608, 46, (32, 16), 128, 36864, "27,227,128,320"),
    _gemma(
        "gemma-3-1b-it",
        2025,
        262144,
        32768,
        1152,
        26,
        (4, 1),
        256,
        6912,
        "999,885,952",
        _AROUND,
        qk_norm="head",
        n_window_layers=22,
        window=512,
    ),
    _gemma_3("4b", 2560, 34, (8, 4), 256, 10240, "3,880,099,328"),
    _gemma_3("12b", 3840, 48, (16, 8), 256, 15360, "11,765,788,416"),
    _gemma_3("27b", 5376, 62, (32, 16), 128, 21504, "27,009,002,240"),
)

# ---- Qwen ----------------------------------------------------------------------------------------


def _qwen(
    repository: str, year: int, published: Published | str, experts: Experts | None = None, **sizes
) -> ModelShape:
    name = repository.removesuffix("-Instruct").lower()
    return replace(_llama(name, "Alibaba", year, f"Qwen/{repository}", published, **sizes), experts=experts)


def _qwen_2_5(
    size: str,
    vocab_size: int,
    context: int,
    d_model: int,
    n_layers: int,
    heads: tuple[int, int],
    d_head: int,
    d_ff: int,
    parameters: str,
    tied: bool = False,
) -> ModelShape:
    return _qwen(
        f"Qwen2.5-{size}",
        2024,
        parameters,
        vocab_size=vocab_size,
        context=context,
        d_model=d_model,
        n_layers=n_layers,
        heads=heads,
        d_head=d_head,
        d_ff=d_ff,
        tied=tied,
        bias="qkv",
    )


def _qwen_3(
    repository: str,
    d_model: int,
    n_layers: int,
    heads: tuple[int, int],
    d_ff: int,
    published: Published | str,
    *,
    context: int = 40960,
    tied: bool = False,
    experts: Experts | None = None,
) -> ModelShape:
    return _qwen(
        repository,
        2025,
        published,
        experts,
        vocab_size=151936,
        context=context,
        d_model=d_model,
        n_layers=n_layers,
        heads=heads,
        d_head=128,
        d_ff=d_ff,
        tied=tied,
        qk_norm="head",
    )


_QWENS = (
    _qwen_2_5("0.5B", 151936, 32768, 896, 24, (14, 2), 64, 4864, "494,032,768", tied=True),
    _qwen_2_5("7B", 152064, 131072, 3584, 28, (28, 4), 128, 18944, "7,615,616,512"),
    _qwen_2_5("72B", 152064, 131072, 8192, 80, (64, 8), 128, 29568, "72,706,203,648"),
    _qwen_3(
        "Qwen3-0.6B",
        1024,
        28,
        (16, 8),
        3072,
        _files("Qwen/Qwen3-0.6B", "751,632,384", twice=INPUT, counts=STORED_TWICE),
        tied=True,
    ),
    _qwen_3("Qwen3-8B", 4096, 36, (32, 8), 12288, "8,190,735,360"),
    _qwen_3("Qwen3-32B", 5120, 64, (64, 8), 25600, "32,762,123,264"),
    _qwen_3(
        "Qwen3-30B-A3B",
        2048,
        48,
        (32, 4),
        6144,
        _files("Qwen/Qwen3-30B-A3B", "30,532,122,624", active="3B"),
        experts=Experts(n_experts=128, n_active=8, d_expert=768),
    ),
    _qwen_3(
        "Qwen3-235B-A22B",
        4096,
        94,
        (64, 4),
        12288,
        _files("Qwen/Qwen3-235B-A22B", "235,093,634,560", active="22B"),
        experts=Experts(n_experts=128, n_active=8, d_expert=1536),
    ),
    _qwen_3(
        "Qwen3-Coder-480B-A35B-Instruct",
        6144,
        62,
        (96, 8),
        8192,
        _files("Qwen/Qwen3-Coder-480B-A35B-Instruct", "480,154,875,392", active="35B"),
        context=262144,
        experts=Experts(n_experts=160, n_active=8, d_expert=2560),
    ),
)

# ---- the large mixtures of experts ---------------------------------------------------------------


def _latent_attention(n_heads: int, query_rank: int | None) -> Attention:
    """DeepSeek's sizes, which Kimi took over: 128 numbers of a query without position, 64 with it."""
    latent = Latent(query_rank=query_rank, key_value_rank=512, d_rope=64, d_value=128)
    return Attention(n_heads=n_heads, n_kv_heads=n_heads, d_head=192, latent=latent)


_DEEPSEEK_V3 = ModelShape(
    name="deepseek-v3",
    maker="DeepSeek",
    year=2024,
    source=_config("deepseek-ai/DeepSeek-V3"),
    vocab_size=129280,
    context=163840,
    d_model=7168,
    n_layers=61,
    attention=_latent_attention(128, 1536),
    feed_forward=FeedForward(d_ff=18432),
    experts=Experts(n_experts=256, n_active=8, d_expert=2048, d_shared=2048, n_dense_layers=3, router_bias=True),
    published=Published(
        parameters="671B",
        source="DeepSeek-AI 2024, DeepSeek-V3 Technical Report, arxiv.org/abs/2412.19437, abstract",
        active="37B",
        active_without=INPUT,
        counts=(
            "The files also hold the layer that learns to predict the token after the next one; with it they have "
            "684,489,845,504 numbers (DeepSeek-R1's files)."
        ),
    ),
)

_LARGE_MIXTURES = (
    ModelShape(
        name="deepseek-coder-v2-lite",
        maker="DeepSeek",
        year=2024,
        source=_config("deepseek-ai/DeepSeek-Coder-V2-Lite-Base"),
        vocab_size=102400,
        context=163840,
        d_model=2048,
        n_layers=27,
        attention=_latent_attention(16, None),
        feed_forward=FeedForward(d_ff=10944),
        experts=Experts(n_experts=64, n_active=6, d_expert=1408, d_shared=2816, n_dense_layers=1),
        published=_files("deepseek-ai/DeepSeek-Coder-V2-Lite-Base", "15,706,484,224"),
    ),
    ModelShape(
        name="deepseek-v2",
        maker="DeepSeek",
        year=2024,
        source=_config("deepseek-ai/DeepSeek-V2"),
        vocab_size=102400,
        context=163840,
        d_model=5120,
        n_layers=60,
        attention=_latent_attention(128, 1536),
        feed_forward=FeedForward(d_ff=12288),
        experts=Experts(n_experts=160, n_active=6, d_expert=1536, d_shared=3072, n_dense_layers=1),
        published=replace(_files("deepseek-ai/DeepSeek-V2", "235,741,434,880"), active="21B"),
    ),
    _DEEPSEEK_V3,
    replace(_DEEPSEEK_V3, name="deepseek-r1", year=2025, source=_config("deepseek-ai/DeepSeek-R1")),
    ModelShape(
        name="kimi-k2",
        maker="Moonshot AI",
        year=2025,
        source=_config("moonshotai/Kimi-K2-Instruct"),
        vocab_size=163840,
        context=131072,
        d_model=7168,
        n_layers=61,
        attention=_latent_attention(64, 1536),
        feed_forward=FeedForward(d_ff=18432),
        experts=Experts(n_experts=384, n_active=8, d_expert=2048, d_shared=2048, n_dense_layers=1, router_bias=True),
        published=_files(
            "moonshotai/Kimi-K2-Instruct",
            "1,026,408,235,864",
            active="32B",
            active_without=INPUT,
            counts="The files have 3,416 numbers more than the shape, 56 for each layer.",
        ),
    ),
    ModelShape(
        name="glm-4.5",
        maker="Z.ai",
        year=2025,
        source=_config("zai-org/GLM-4.5"),
        vocab_size=151552,
        context=131072,
        d_model=5120,
        n_layers=92,
        attention=Attention(n_heads=96, n_kv_heads=8, d_head=128, bias="qkv", qk_norm="head"),
        feed_forward=FeedForward(d_ff=12288),
        experts=Experts(n_experts=160, n_active=8, d_expert=1536, d_shared=1536, n_dense_layers=3, router_bias=True),
        published=Published(
            parameters="355B",
            source="Zeng et al. 2025, GLM-4.5, table 1",
            active="32B",
            active_without=TABLES,
            counts=(
                "The maker's figure is for the layers, without the embedding tables and with one more layer that "
                "learns to predict the token after the next one."
            ),
        ),
    ),
    ModelShape(
        name="glm-4.5-air",
        maker="Z.ai",
        year=2025,
        source=_config("zai-org/GLM-4.5-Air"),
        vocab_size=151552,
        context=131072,
        d_model=4096,
        n_layers=46,
        attention=Attention(n_heads=96, n_kv_heads=8, d_head=128, bias="qkv"),
        feed_forward=FeedForward(d_ff=10944),
        experts=Experts(n_experts=128, n_active=8, d_expert=1408, d_shared=1408, n_dense_layers=1, router_bias=True),
        published=Published(
            parameters="106B",
            source="Zeng et al. 2025, GLM-4.5, table 1",
            without=TABLES,
            active="12B",
            active_without=TABLES,
            counts=(
                "The maker's figure fits the layers without the embedding tables. The files also hold a layer that "
                "learns to predict the token after the next one."
            ),
        ),
    ),
    ModelShape(
        name="minimax-m2",
        maker="MiniMax",
        year=2025,
        source=_config("MiniMaxAI/MiniMax-M2"),
        vocab_size=200064,
        context=196608,
        d_model=3072,
        n_layers=62,
        attention=Attention(n_heads=48, n_kv_heads=8, d_head=128, qk_norm="all_heads"),
        feed_forward=FeedForward(d_ff=1536),
        experts=Experts(n_experts=256, n_active=8, d_expert=1536, router_bias=True),
        published=_files("MiniMaxAI/MiniMax-M2", "228,689,764,864", active="10B", active_without=INPUT),
    ),
    replace(
        _mistral(
            "mixtral-8x22b",
            2024,
            "Mixtral-8x22B-Instruct-v0.1",
            _files("mistralai/Mixtral-8x22B-Instruct-v0.1", "140,630,071,296", active="39B"),
            vocab_size=32768,
            context=65536,
            d_model=6144,
            n_layers=56,
            d_ff=16384,
        ),
        attention=Attention(n_heads=48, n_kv_heads=8, d_head=128),
        experts=Experts(n_experts=8, n_active=2, d_expert=16384),
    ),
)

ZOO: dict[str, ModelShape] = {
    each.name: each for each in (*_OPENAI, *_OTHERS, *_LLAMAS, *_GEMMAS, *_QWENS, *_LARGE_MIXTURES)
}

# What their makers said instead of a shape.
UNPUBLISHED: dict[str, str] = {
    "gpt-4": (
        "the GPT-4 Technical Report (OpenAI 2023, arxiv.org/abs/2303.08774, section 2) calls it a Transformer trained "
        "to predict the next token and states that it gives no further details of the architecture, size included"
    ),
    "gpt-4o": (
        "the GPT-4o System Card (OpenAI 2024, arxiv.org/abs/2410.21276, section 1) calls it an autoregressive model "
        "in which one network handles text, sound and pictures, and names no size"
    ),
    "claude-3-opus": (
        "the Claude 3 model card (Anthropic 2024, section 1) names ways of training, hardware and frameworks, "
        "and no size"
    ),
    "gemini-1.5-pro": (
        "the Gemini 1.5 report (Google 2024, arxiv.org/abs/2403.05530, section 3.1) calls it a sparse "
        "mixture-of-experts Transformer and names no number of layers, experts or parameters"
    ),
}
