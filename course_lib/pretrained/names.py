"""How others name what our Transformer calls `blocks.3.attention.query`, and how they describe its shape."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from course_lib.config import TransformerConfig
from course_lib.description import Description, Positive, Size

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


ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


def _built(activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise ValueError(f"it asks for the activation {activation!r}; {', '.join(ACTIVATIONS)} are built")
    return ACTIVATIONS[activation]


def _unstretched(kind: str) -> str:
    if kind not in ("default", "none"):
        raise ValueError(f"this model stretches its rotary positions (rope type {kind!r}), which is not built here")
    return kind


Activation = Annotated[str, AfterValidator(_built)]
Layers = Annotated[int, Field(ge=1, le=1_000)]  # each takes a moment to build, whatever its size
Heads = Annotated[int, Field(ge=1, le=2**12)]
Width = Annotated[int, Field(ge=1, le=2**16)]  # of one head
Epsilon = Annotated[float, Field(gt=0, lt=1)]
RopeType = Annotated[str, AfterValidator(_unstretched)]
Unset = Literal[False]  # a part that is not built here
Absent = Literal[None]


class _Rope(Description, extra="forbid"):
    """How positions turn: as in the paper, with a base of its own. A factor would stretch them."""

    rope_type: RopeType = "default"
    type: RopeType = "default"  # its older name
    rope_theta: Positive | None = None
    partial_rotary_factor: Annotated[float, Field(ge=1, le=1)] = 1.0


class _Llama(Description):
    """config.json of a Llama."""

    hidden_act: Activation = "silu"
    rope_parameters: _Rope | None = None
    rope_scaling: _Rope | None = None  # their older name
    attention_bias: bool = False
    mlp_bias: bool = False
    quantization_config: Absent = None
    vocab_size: Size
    max_position_embeddings: Size
    hidden_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Heads
    num_key_value_heads: Heads | None = None
    head_dim: Width | None = None
    intermediate_size: Size
    rms_norm_eps: Epsilon = 1e-6
    rope_theta: Positive = 10_000.0
    tie_word_embeddings: bool = False

    @field_validator("mlp_bias")
    @classmethod
    def _both_or_neither(cls, mlp_bias: bool, info: ValidationInfo) -> bool:
        if mlp_bias != info.data.get("attention_bias", mlp_bias):
            raise ValueError("attention_bias and mlp_bias differ: only both or neither is built")
        return mlp_bias

    def config(self) -> TransformerConfig:
        rope = self.rope_parameters or self.rope_scaling or _Rope()
        return TransformerConfig(
            vocab_size=self.vocab_size,
            context_length=self.max_position_embeddings,
            d_model=self.hidden_size,
            n_layers=self.num_hidden_layers,
            n_heads=self.num_attention_heads,
            n_kv_heads=self.num_key_value_heads or self.num_attention_heads,
            d_head=self.head_dim or _split(self.hidden_size, self.num_attention_heads),
            d_ff=self.intermediate_size,
            norm_eps=self.rms_norm_eps,
            rope_theta=rope.rope_theta or self.rope_theta,
            rope_pairs="halves",
            activation=self.hidden_act,
            bias=self.attention_bias,
            tie_embeddings=self.tie_word_embeddings,
        )


class _GPT2(Description):
    """config.json of a GPT-2."""

    activation_function: Activation = "gelu_new"
    scale_attn_by_inverse_layer_idx: Unset = False
    reorder_and_upcast_attn: Unset = False
    scale_attn_weights: Literal[True] = True
    quantization_config: Absent = None
    vocab_size: Size
    n_positions: Size
    n_embd: Size
    n_layer: Layers
    n_head: Heads
    n_inner: Size | None = None
    layer_norm_epsilon: Epsilon = 1e-5
    tie_word_embeddings: bool = True

    def config(self) -> TransformerConfig:
        return TransformerConfig(
            vocab_size=self.vocab_size,
            context_length=self.n_positions,
            d_model=self.n_embd,
            n_layers=self.n_layer,
            n_heads=self.n_head,
            n_kv_heads=self.n_head,
            d_head=_split(self.n_embd, self.n_head),
            d_ff=self.n_inner or 4 * self.n_embd,
            norm="layer_norm",
            norm_eps=self.layer_norm_epsilon,
            positions="learned",
            feed_forward="mlp",
            activation=self.activation_function,
            bias=True,
            tie_embeddings=self.tie_word_embeddings,
        )


def config_from_hugging_face(settings: Mapping[str, object]) -> TransformerConfig:
    """The shape that a Hugging Face config.json describes.

    Raises:
        ValueError: a model of another family, or one that needs a part we do not have; an entry that is missing, of
            another type or out of its range.
    """
    families = {"llama": _Llama, "gpt2": _GPT2}
    family = settings.get("model_type")
    if not isinstance(family, str) or family not in families:
        raise ValueError(f"config.json describes a {family!r} model; 'llama' and 'gpt2' are read")
    return families[family].of("config.json", settings).config()


class _GGUF(Description):
    """A GGUF file's metadata, of a Llama."""

    model_config = ConfigDict(alias_generator=lambda name: f"llama.{name.replace('__', '.')}")

    rope__scaling__type: RopeType = "none"
    rope__scale_linear: Annotated[float, Field(ge=1, le=1)] = 1.0
    expert_count: int = 0
    context_length: Size
    embedding_length: Size
    block_count: Layers
    attention__head_count: Heads
    attention__head_count_kv: Heads | None = None
    attention__key_length: Width | None = None
    feed_forward_length: Size
    attention__layer_norm_rms_epsilon: Epsilon
    rope__freq_base: Positive = 10_000.0
    rope__dimension_count: Width | None = None
    tokens: list[str] = Field(alias="tokenizer.ggml.tokens", min_length=1)

    @field_validator("expert_count")
    @classmethod
    def _one(cls, experts: int) -> int:
        if experts:
            raise ValueError("this model is a mixture of experts, which is not built here")
        return experts


def config_from_gguf(metadata: Mapping[str, object], tensor_names: set[str]) -> TransformerConfig:
    """The shape that a GGUF file's metadata describes.

    Raises:
        ValueError: the file holds a model of another family, or one that needs a part we do not have; an entry is
            missing, of another type or out of its range.
    """
    family = metadata.get("general.architecture")
    if family != "llama":
        raise ValueError(f"this GGUF file holds a {family!r} model; only 'llama' models are read from GGUF")
    if "rope_freqs.weight" in tensor_names:
        raise ValueError("this model stretches its rotary positions (rope_freqs.weight), which is not built here")
    said = _GGUF.of("the GGUF metadata", {key: value for key, value in metadata.items() if value is not None})
    n_heads = said.attention__head_count
    d_head = said.attention__key_length or _split(said.embedding_length, n_heads)
    if (said.rope__dimension_count or d_head) != d_head:
        raise ValueError("this model rotates a part of each head only, which is not built here")
    return TransformerConfig(
        vocab_size=len(said.tokens),
        context_length=said.context_length,
        d_model=said.embedding_length,
        n_layers=said.block_count,
        n_heads=n_heads,
        n_kv_heads=said.attention__head_count_kv or n_heads,
        d_head=d_head,
        d_ff=said.feed_forward_length,
        norm_eps=said.attention__layer_norm_rms_epsilon,
        rope_theta=said.rope__freq_base,
        rope_pairs="neighbours",
        tie_embeddings="output.weight" not in tensor_names,
    )


def _split(d_model: int, n_heads: int) -> int:
    if d_model % n_heads:
        raise ValueError(f"a width of {d_model} cannot be shared by {n_heads} heads: it must be a multiple")
    return d_model // n_heads
