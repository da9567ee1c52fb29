"""How others name what our Transformer calls `blocks.3.attention.query`, and how they describe its shape."""

from course_lib.config import TransformerConfig

GGUF = {
    "token_embedding": "token_embd",
    "blocks.{i}.attention_norm": "blk.{i}.attn_norm",
    "blocks.{i}.attention.query": "blk.{i}.attn_q",
    "blocks.{i}.attention.key": "blk.{i}.attn_k",
    "blocks.{i}.attention.value": "blk.{i}.attn_v",
    "blocks.{i}.attention.output": "blk.{i}.attn_output",
    "blocks.{i}.feed_forward_norm": "blk.{i}.ffn_norm",
    "blocks.{i}.feed_forward.gate": "blk.{i}.ffn_gate",
    "blocks.{i}.feed_forward.up": "blk.{i}.ffn_up",
    "blocks.{i}.feed_forward.down": "blk.{i}.ffn_down",
    "final_norm": "output_norm",
    "output_head": "output",
}

HUGGING_FACE_LLAMA = {
    "token_embedding": "model.embed_tokens",
    "blocks.{i}.attention_norm": "model.layers.{i}.input_layernorm",
    "blocks.{i}.attention.query": "model.layers.{i}.self_attn.q_proj",
    "blocks.{i}.attention.key": "model.layers.{i}.self_attn.k_proj",
    "blocks.{i}.attention.value": "model.layers.{i}.self_attn.v_proj",
    "blocks.{i}.attention.output": "model.layers.{i}.self_attn.o_proj",
    "blocks.{i}.feed_forward_norm": "model.layers.{i}.post_attention_layernorm",
    "blocks.{i}.feed_forward.gate": "model.layers.{i}.mlp.gate_proj",
    "blocks.{i}.feed_forward.up": "model.layers.{i}.mlp.up_proj",
    "blocks.{i}.feed_forward.down": "model.layers.{i}.mlp.down_proj",
    "final_norm": "model.norm",
    "output_head": "lm_head",
}

# GPT-2 keeps query, key and value in one matrix, c_attn, side by side in that order.
HUGGING_FACE_GPT2 = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "blocks.{i}.attention_norm": "transformer.h.{i}.ln_1",
    "blocks.{i}.attention.query": "transformer.h.{i}.attn.c_attn",
    "blocks.{i}.attention.key": "transformer.h.{i}.attn.c_attn",
    "blocks.{i}.attention.value": "transformer.h.{i}.attn.c_attn",
    "blocks.{i}.attention.output": "transformer.h.{i}.attn.c_proj",
    "blocks.{i}.feed_forward_norm": "transformer.h.{i}.ln_2",
    "blocks.{i}.feed_forward.up": "transformer.h.{i}.mlp.c_fc",
    "blocks.{i}.feed_forward.down": "transformer.h.{i}.mlp.c_proj",
    "final_norm": "transformer.ln_f",
    "output_head": "lm_head",
}


def translate(name: str, names: dict[str, str]) -> str:
    """Our parameter's name in another layout: "blocks.3.attention.query.weight" → "blk.3.attn_q.weight"."""
    module, kind = name.rsplit(".", 1)
    parts = module.split(".")
    layer = parts[1] if parts[0] == "blocks" else ""
    template = ".".join(["blocks", "{i}", *parts[2:]]) if layer else module
    return f"{names[template].format(i=layer)}.{kind}"


def config_from_gguf(metadata: dict, tensor_names: set[str]) -> TransformerConfig:
    """The shape that a GGUF file's metadata describes.

    Raises:
        ValueError: the file holds a model of another family, or one that needs a part we do not have.
    """
    family = metadata.get("general.architecture")
    if family != "llama":
        raise ValueError(f"this GGUF file holds a {family!r} model; only 'llama' models are read from GGUF")
    scaling = metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in tensor_names:
        raise ValueError(
            f"this model stretches its rotary positions (rope scaling {scaling!r}), which is not built here"
        )
    if metadata.get("llama.expert_count", 0):
        raise ValueError("this model is a mixture of experts, which is not built here")

    def value(name, default=None):
        found = metadata.get(f"llama.{name}", default)
        if found is None:
            raise ValueError(f"the GGUF metadata lacks llama.{name}, which the model's shape needs")
        return found

    n_heads, d_model = value("attention.head_count"), value("embedding_length")
    d_head = value("attention.key_length", d_model // n_heads)
    if value("rope.dimension_count", d_head) != d_head:
        raise ValueError("this model rotates a part of each head only, which is not built here")
    return TransformerConfig(
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        context_length=value("context_length"),
        d_model=d_model,
        n_layers=value("block_count"),
        n_heads=n_heads,
        n_kv_heads=value("attention.head_count_kv", n_heads),
        d_head=d_head,
        d_ff=value("feed_forward_length"),
        norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_theta=value("rope.freq_base", 10_000.0),
        rope_pairs="neighbours",
        tie_embeddings="output.weight" not in tensor_names,
    )


ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


def config_from_hugging_face(settings: dict) -> TransformerConfig:
    """The shape that a Hugging Face config.json describes.

    Raises:
        ValueError: a model of another family, or one that needs a part we do not have.
    """
    family = settings.get("model_type")
    if family not in ("llama", "gpt2"):
        raise ValueError(f"config.json describes a {family!r} model; 'llama' and 'gpt2' are read")
    activation = settings.get(
        "hidden_act" if family == "llama" else "activation_function", "silu" if family == "llama" else "gelu_new"
    )
    if activation not in ACTIVATIONS:
        raise ValueError(f"config.json asks for the activation {activation!r}; {', '.join(ACTIVATIONS)} are built")
    return (_llama if family == "llama" else _gpt2)(settings, ACTIVATIONS[activation])


def _llama(settings: dict, activation: str) -> TransformerConfig:
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise ValueError(f"this model stretches its rotary positions (rope type {kind!r}), which is not built here")
    bias = settings.get("attention_bias", False)
    if bias != settings.get("mlp_bias", False):
        raise ValueError("attention_bias and mlp_bias differ in config.json: only both or neither is built")
    n_heads, d_model = settings["num_attention_heads"], settings["hidden_size"]
    return TransformerConfig(
        vocab_size=settings["vocab_size"],
        context_length=settings["max_position_embeddings"],
        d_model=d_model,
        n_layers=settings["num_hidden_layers"],
        n_heads=n_heads,
        n_kv_heads=settings.get("num_key_value_heads") or n_heads,
        d_head=settings.get("head_dim") or d_model // n_heads,
        d_ff=settings["intermediate_size"],
        norm_eps=settings.get("rms_norm_eps", 1e-6),
        rope_theta=float(rope.get("rope_theta", settings.get("rope_theta", 10_000.0))),
        rope_pairs="halves",
        activation=activation,
        bias=bias,
        tie_embeddings=settings.get("tie_word_embeddings", False),
    )


def _gpt2(settings: dict, activation: str) -> TransformerConfig:
    for option in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
        if settings.get(option):
            raise ValueError(f"config.json sets {option}, which is not built here")
    if not settings.get("scale_attn_weights", True):
        raise ValueError("config.json turns scale_attn_weights off, which is not built here")
    n_heads, d_model = settings["n_head"], settings["n_embd"]
    return TransformerConfig(
        vocab_size=settings["vocab_size"],
        context_length=settings["n_positions"],
        d_model=d_model,
        n_layers=settings["n_layer"],
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_ff=settings.get("n_inner") or 4 * d_model,
        norm="layer_norm",
        norm_eps=settings.get("layer_norm_epsilon", 1e-5),
        positions="learned",
        feed_forward="mlp",
        activation=activation,
        bias=True,
        tie_embeddings=settings.get("tie_word_embeddings", True),
    )
