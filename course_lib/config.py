"""One description for every model of the family: GPT-2 and Llama differ only in these values."""

from dataclasses import Field, dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

from course_lib.arguments import finite, one_of, refused, shown, truth, whole

MOST_LAYERS = 10_000  # ten times as many as the deepest published (DeepNet, Wang et al. 2022)
LARGEST_SIZE = 2**31 - 1
LARGEST_MATRIX = 2**48  # numbers: half a petabyte, in 16 bits each


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What may differ from layer to layer.

    Raises:
        ValueError: a value is out of its range.
    """

    rope_theta: float | None = None  # None: the model's
    window: int | None = None  # how many tokens a query sees, itself included (Beltagy et al. 2020); None: all

    def __post_init__(self):
        if self.window is not None:
            object.__setattr__(self, "window", whole("window", self.window, 1))  # frozen, but not yet made
        if self.rope_theta is not None:
            object.__setattr__(self, "rope_theta", _theta(self.rope_theta))


def _theta(value: float) -> float:
    return finite("rope_theta", value, above=0, expected="above 0 and finite, the base of RoPE's speeds")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The shape of a decoder-only transformer.

    The defaults are Llama's choices. GPT-2 (Radford et al. 2019) is norm="layer_norm", positions="learned",
    feed_forward="mlp", activation="gelu_tanh", bias=True.

    Raises:
        ValueError: a value is not one of the choices, or sizes do not fit together.
    """

    vocab_size: int
    context_length: int  # the most positions the model was trained to see
    d_model: int  # width of the residual stream
    n_layers: int  # how many blocks
    n_heads: int  # query heads
    n_kv_heads: int  # key and value heads; fewer than n_heads is grouped-query attention
    d_head: int  # width of one head
    d_ff: int  # width inside the feed-forward network

    norm: Literal["layer_norm", "rms_norm"] = "rms_norm"
    norm_eps: float = 1e-5
    # "pre": before each part reads the stream. "result": before what a part gives is added (OLMo 2); "both" (Gemma 2).
    # "post": after it is added, so the stream itself passes through every norm (Vaswani et al. 2017).
    norm_position: Literal["pre", "result", "both", "post"] = "pre"
    positions: Literal["learned", "sinusoidal", "rope", "alibi", "none"] = "rope"
    rope_theta: float = 10_000.0
    # Which two numbers of a head turn together. Hugging Face's checkpoints pair i with i + d_head/2 ("halves");
    # GGUF files of Llama models store their rows so that 2i turns with 2i + 1 ("neighbours").
    rope_pairs: Literal["halves", "neighbours"] = "halves"
    pattern: tuple[Layer, ...] = ()  # layers that differ, taken in turn from the first block on; (): all are alike
    feed_forward: Literal["mlp", "gated"] = "gated"
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "silu"
    n_experts: int = 1  # feed-forward networks in a block; more than one is a mixture of experts
    n_active_experts: int = 1  # of them, how many each token is sent to
    bias: bool = False  # in the attention and feed-forward projections
    tie_embeddings: bool = True  # one matrix turns ids into vectors and vectors into logits

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))  # frozen, but not yet made
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads must be a multiple of n_kv_heads, so that every key head serves as many query heads: "
                f"got {self.n_heads} and {self.n_kv_heads}"
            )
        if self.n_active_experts > self.n_experts:
            raise ValueError(
                f"n_active_experts must be at most n_experts: got {self.n_active_experts} of {self.n_experts}"
            )
        widest = max(self.vocab_size, self.context_length, self.d_ff, self.n_heads * self.d_head)
        if widest * self.d_model > LARGEST_MATRIX:
            raise ValueError(
                "the sizes must be those of a model that some machine can hold, "
                f"and one matrix would have {widest} × {self.d_model} numbers"
            )
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(f"d_head must be even for RoPE, which turns pairs, got {self.d_head}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model must be even for sinusoidal positions, waves in pairs, got {self.d_model}")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """One for each block."""
        pattern = [
            replace(one, rope_theta=self.rope_theta) if one.rope_theta is None else one
            for one in self.pattern or (Layer(),)
        ]
        return tuple(pattern[number % len(pattern)] for number in range(self.n_layers))


def config_of(transformer: Any, name: str = "transformer") -> TransformerConfig:
    """The configuration of a Transformer, which may be compiled.

    Raises:
        ValueError: what was handed in as `name` is something else.
    """
    config = getattr(transformer, "config", None)
    if not isinstance(config, TransformerConfig):
        raise refused(name, "a Transformer", transformer)
    return config


def _checked(field: Field, value: Any) -> Any:
    """A field's value, as its type says."""
    if get_origin(field.type) is Literal:
        return one_of(field.name, value, get_args(field.type))
    if field.name == "pattern":
        if not isinstance(value, tuple | list):
            raise _no_layers(value)
        return tuple(map(_layer, value))
    if field.name == "rope_theta":
        return _theta(value)
    if field.type is float:
        return finite(field.name, value, above=0, expected="above 0 and finite")
    if field.type is bool:
        return truth(field.name, value)
    most = MOST_LAYERS if field.name in ("n_layers", "n_experts") else LARGEST_SIZE
    if (size := whole(field.name, value, 1, expected="a positive whole number")) > most:
        raise refused(field.name, f"at most {most:,}", size)
    return size


def _layer(value: Any) -> Layer:
    """A layer, which a checkpoint keeps as a plain dict."""
    if isinstance(value, dict) and {field.name for field in fields(Layer)}.issuperset(value):
        return Layer(**value)
    if not isinstance(value, Layer):
        raise _no_layers(value)
    return value


def _no_layers(value: Any) -> ValueError:
    return ValueError(f"pattern must hold a Layer for each that differs, got {shown(value)}")
