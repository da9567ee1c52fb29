"""A model's shape, and what follows from it alone: parameters, KV cache, arithmetic per token.

A shape holds every number that decides how large a decoder-only transformer is, and no weight. The formulas know no
model by name: `course_lib.pretrained.zoo` holds the shapes that were published.
"""

from dataclasses import dataclass
from typing import Literal

from course_lib.config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values are made from one short vector per token (DeepSeek-V2, section 2.1).

    A head's query and key are d_head wide; the last d_rope numbers carry the position, and the key's are shared by all
    heads. The cache keeps the short vector and those d_rope numbers.
    """

    query_rank: int | None  # width of the short vector that queries are made from; None: made from the stream
    key_value_rank: int  # width of the short vector that keys and values are made from
    d_rope: int
    d_value: int  # width of one head's value


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Who looks, at how much, and what is learned besides the four matrices."""

    n_heads: int
    n_kv_heads: int
    d_head: int  # width of one head's query and key
    bias: Literal["none", "qkv", "all"] = "none"  # on query, key and value; on the output projection too
    # RMSNorm on queries and keys: one weight of d_head numbers for all heads, or one for each number of all heads
    qk_norm: Literal["none", "head", "all_heads"] = "none"
    sinks: bool = False  # one learned score per head that takes weight and gives nothing
    latent: Latent | None = None
    n_window_layers: int = (
        0  # layers whose tokens see the last `window` tokens alone, or (Llama 4) their chunk of as many
    )
    window: int | None = None  # None with n_window_layers > 0: its width is not published, and it is counted as none
    n_unrotated_layers: int = 0  # layers that RoPE leaves alone ("NoPE")


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """The network after attention. In a mixture of experts: that of the layers that are not a mixture."""

    d_ff: int
    gated: bool = True  # three matrices (gate, up, down) instead of two
    activation: str = "silu"
    bias: bool = False  # the experts' too


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Many feed-forward networks in a layer, of which each token uses a few."""

    n_experts: int
    n_active: int  # chosen for each token by the router
    d_expert: int  # width inside one of them
    d_shared: int = 0  # width of what every token passes besides (all shared experts together)
    n_dense_layers: int = 0  # layers with one plain feed-forward network instead
    router_bias: bool = False  # one number per expert beside the router's matrix


@dataclass(frozen=True, kw_only=True)
class Norms:
    """Where the stream is normalized, and with how many learned numbers."""

    kind: Literal["rms_norm", "layer_norm"] = "rms_norm"
    bias: bool = False
    per_block: int = 2
    after_embedding: bool = False
    final: bool = True
    placement: Literal["pre", "post", "both"] = "pre"  # before a part reads the stream, on its result, or both


LAYER_NORM = Norms(kind="layer_norm", bias=True)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What its makers say of the size, as they write it: "124,439,808" is exact, "671B" is rounded to whole billions.

    `without` names the parts of `parameter_table` that the figure leaves out, `twice` those that it counts a second
    time, `active_without` those that the figure for active parameters leaves out. `counts` says in a sentence what the
    figure has that the shape has not, or why it differs. `count_as_published` counts likewise.
    """

    parameters: str
    source: str
    without: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    active: str | None = None  # a mixture's figure for one token
    active_without: tuple[str, ...] = ()
    counts: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer, described by its sizes."""

    name: str
    maker: str
    year: int
    source: str  # where the shape is published
    vocab_size: int  # rows of the embedding table, padding included
    context: int  # the most tokens it was made for
    d_model: int
    n_layers: int
    attention: Attention
    feed_forward: FeedForward
    experts: Experts | None = None
    norms: Norms = Norms()
    parallel: bool = False  # attention and feed-forward read the same stream, and both results are added at once
    positions: Literal["rope", "learned", "alibi"] = "rope"
    position_rows: int = 0  # rows of the table of learned positions
    tied: bool = False  # one matrix for the input embedding and the output head
    scaled_embedding: bool = False  # token vectors are multiplied by √d_model before the first block
    output_bias: bool = False  # one number per token of the vocabulary, added to the logits
    published: Published


# ---- parameters ----------------------------------------------------------------------------------


def parameter_table(shape: ModelShape, active: bool = False) -> dict[str, int]:
    """How many learned numbers each part has, all layers together; with `active`, only what one token passes.

    The parts: "token embedding", "position embedding", "attention" (its matrices), "feed-forward" (its matrices, those
    of experts included), "router", "norms and biases" (every learned number that is not in a matrix), "output head"
    (0 where it is the token embedding). An embedding table counts whole, though a token reads one row of it.
    """
    attention_matrices, attention_vectors = _attention(shape)
    feed_forward_matrices, feed_forward_vectors, router = _feed_forward(shape, active)
    norm = shape.d_model * (2 if shape.norms.bias else 1)
    norms = shape.n_layers * shape.norms.per_block + shape.norms.after_embedding + shape.norms.final
    output_bias = shape.vocab_size if shape.output_bias else 0
    return {
        "token embedding": shape.vocab_size * shape.d_model,
        "position embedding": shape.position_rows * shape.d_model,
        "attention": shape.n_layers * attention_matrices,
        "feed-forward": feed_forward_matrices,
        "router": router,
        "norms and biases": norms * norm + shape.n_layers * attention_vectors + feed_forward_vectors + output_bias,
        "output head": 0 if shape.tied else shape.vocab_size * shape.d_model,
    }


def count_parameters(shape: ModelShape) -> int:
    """All learned numbers of the model; a matrix that is used twice (tied embeddings) counts once."""
    return sum(parameter_table(shape).values())


def count_active_parameters(shape: ModelShape) -> int:
    """The learned numbers that one token passes: all of a dense model, the chosen experts' share of a mixture.

    The embedding table counts whole. Makers differ here: the figure that they publish may leave it out
    (`shape.published.active_without`).
    """
    return sum(parameter_table(shape, active=True).values())


def count_as_published(shape: ModelShape, active: bool = False) -> int:
    """Our count of what the maker's figure counts: without the parts that it leaves out, twice what it has twice.

    Raises:
        ValueError: active is asked for, and the maker gives no such figure.
    """
    if active and shape.published.active is None:
        raise ValueError(f"no figure for the active parameters of {shape.name} is known")
    table, said = parameter_table(shape, active), shape.published
    if active:
        return sum(table.values()) - sum(table[part] for part in said.active_without)
    return sum(table.values()) - sum(table[part] for part in said.without) + sum(table[part] for part in said.twice)


def published_figure(text: str) -> tuple[float, float]:
    """A published figure as a number, and how far its rounding may have moved it: "671B" → (671e9, 0.5e9).

    A figure without a unit is exact: "124,439,808" → (124439808, 0).
    """
    digits = text.replace(",", "")
    if digits.isdigit():
        return int(digits), 0
    number, unit = float(digits[:-1]), {"M": 1e6, "B": 1e9, "T": 1e12}[digits[-1]]
    decimals = len(digits[:-1].partition(".")[2])
    return number * unit, unit / 10**decimals / 2


def _attention(shape: ModelShape) -> tuple[int, int]:
    """One layer's learned numbers in matrices, and outside of them."""
    a, d_model = shape.attention, shape.d_model
    queries, keys = a.n_heads * a.d_head, a.n_kv_heads * a.d_head
    vectors = a.n_heads if a.sinks else 0
    if a.latent is not None:
        m = a.latent
        unrotated_keys_and_values = a.n_heads * (a.d_head - m.d_rope + m.d_value)
        matrices = d_model * (m.key_value_rank + m.d_rope) + m.key_value_rank * unrotated_keys_and_values
        vectors += m.key_value_rank  # the short vector is normalized
        if m.query_rank is None:
            matrices += d_model * queries
        else:
            matrices += (d_model + queries) * m.query_rank
            vectors += m.query_rank
        return matrices + a.n_heads * m.d_value * d_model, vectors

    matrices = d_model * (queries + keys + keys) + queries * d_model
    vectors += {"none": 0, "qkv": queries + 2 * keys, "all": queries + 2 * keys + d_model}[a.bias]
    vectors += {"none": 0, "head": 2 * a.d_head, "all_heads": queries + keys}[a.qk_norm]
    return matrices, vectors


def _feed_forward(shape: ModelShape, active: bool) -> tuple[int, int, int]:
    """All layers' learned numbers in matrices, outside of them, and in routers."""
    d_model, n_up = shape.d_model, 2 if shape.feed_forward.gated else 1

    def matrices(width: int) -> int:
        return (n_up + 1) * d_model * width

    def biases(width: int) -> int:
        return n_up * width + d_model if shape.feed_forward.bias else 0

    d_ff, experts = shape.feed_forward.d_ff, shape.experts
    if experts is None:
        return shape.n_layers * matrices(d_ff), shape.n_layers * biases(d_ff), 0

    dense, mixed = experts.n_dense_layers, shape.n_layers - experts.n_dense_layers
    used = experts.n_active if active else experts.n_experts
    in_matrices = dense * matrices(d_ff) + mixed * (used * matrices(experts.d_expert) + matrices(experts.d_shared))
    outside = dense * biases(d_ff) + mixed * used * biases(experts.d_expert)
    outside += mixed * experts.n_experts if experts.router_bias else 0
    return in_matrices, outside, mixed * d_model * experts.n_experts


# ---- memory and arithmetic -----------------------------------------------------------------------


def kv_cache_bytes(shape: ModelShape, bytes_per_number: float = 2, context: int | None = None) -> float:
    """Bytes that one token adds to the KV cache, or, with `context`, bytes that so many tokens take together.

    A layer keeps a key and a value for each KV head; latent attention keeps its short vector and one rotated key. A
    layer with a window drops what is older, so that a long context takes less than the tokens' sum. bytes_per_number is
    2 for 16-bit numbers, 1 for 8-bit ones, 0.5 for 4-bit ones.

    Raises:
        ValueError: context is less than 1.
    """
    a = shape.attention
    numbers = a.latent.key_value_rank + a.latent.d_rope if a.latent else 2 * a.n_kv_heads * a.d_head
    tokens_kept = shape.n_layers if context is None else sum(_keys_seen(shape, context))
    return tokens_kept * numbers * bytes_per_number


def flops_per_token(shape: ModelShape, context: int) -> int:
    """Floating-point operations of the forward pass for one token that sees `context` tokens, itself included.

    Each number of a matrix that the token passes costs a multiplication and an addition: 2 × the active matrices, the
    output head among them, tied or not; looking a row of the embedding up costs none. In each layer, each head takes a
    dot product with every key that it sees and mixes as many values: 2·d_head operations a key, twice. Norms, biases,
    non-linearities and softmax are left out, being small (Kaplan et al. 2020, section 2.1 and table 1; they count
    half of the attention term, what a token sees on average over a text of that length). Latent attention is counted
    as in training, with its keys and values unpacked.

    Raises:
        ValueError: context is less than 1.
    """
    a, table = shape.attention, parameter_table(shape, active=True)
    matrices = table["attention"] + table["feed-forward"] + table["router"] + shape.vocab_size * shape.d_model
    d_value = a.latent.d_value if a.latent else a.d_head
    return 2 * matrices + 2 * a.n_heads * (a.d_head + d_value) * sum(_keys_seen(shape, context))


def _keys_seen(shape: ModelShape, context: int) -> list[int]:
    """How many tokens each layer sees: the context, or its window where that is less. Windowed layers come first."""
    if context < 1:
        raise ValueError(f"context must be at least 1 token, got {context!r}")
    a = shape.attention
    in_window = context if a.window is None else min(context, a.window)
    return [in_window] * a.n_window_layers + [context] * (shape.n_layers - a.n_window_layers)


# ---- our Transformer -----------------------------------------------------------------------------


def transformer_config(shape: ModelShape, **settings) -> TransformerConfig:
    """The configuration that makes our Transformer this model.

    `settings` are the values that are no sizes, where they differ from TransformerConfig's defaults: rope_theta,
    norm_eps, rope_pairs.

    Raises:
        ValueError: the model has a part that our Transformer lacks; all of them are named.
    """
    a, ff, norms = shape.attention, shape.feed_forward, shape.norms
    if missing := _missing_parts(shape):
        raise ValueError(f"our Transformer cannot be {shape.name}: it has no {', no '.join(missing)}")
    values = dict(
        vocab_size=shape.vocab_size,
        context_length=shape.context,
        d_model=shape.d_model,
        n_layers=shape.n_layers,
        n_heads=a.n_heads,
        n_kv_heads=a.n_kv_heads,
        d_head=a.d_head,
        d_ff=ff.d_ff,
        norm=norms.kind,
        positions=shape.positions,
        feed_forward="gated" if ff.gated else "mlp",
        activation=ff.activation,
        n_experts=shape.experts.n_experts if shape.experts else 1,
        n_active_experts=shape.experts.n_active if shape.experts else 1,
        bias=ff.bias,
        tie_embeddings=shape.tied,
    )
    return TransformerConfig(**(values | settings))


def _missing_parts(shape: ModelShape) -> list[str]:
    a, ff, norms, experts = shape.attention, shape.feed_forward, shape.norms, shape.experts
    parts = {
        "latent attention": a.latent is not None,
        "windows in attention": a.n_window_layers > 0,
        "layers without positions": a.n_unrotated_layers > 0,
        "norm on queries and keys": a.qk_norm != "none",
        "attention sinks": a.sinks,
        "bias in some projections but not in others": a.bias != ("all" if ff.bias else "none"),
        "shared expert": experts is not None and experts.d_shared > 0,
        "mixture in some layers alone": experts is not None and experts.n_dense_layers > 0,
        "bias on the router": experts is not None and experts.router_bias,
        "experts of a width of their own": experts is not None and experts.d_expert != ff.d_ff,
        "attention and feed-forward in parallel": shape.parallel,
        "norm on the result of a part": norms.placement != "pre",
        "norm after the embedding": norms.after_embedding,
        f"{norms.kind} {'with' if norms.bias else 'without'} bias": norms.bias != (norms.kind == "layer_norm"),
        "row of positions beyond the context": shape.position_rows > shape.context,
        "scaling of the embedding": shape.scaled_embedding,
        "bias on the logits": shape.output_bias,
    }
    return [part for part, needed in parts.items() if needed]
