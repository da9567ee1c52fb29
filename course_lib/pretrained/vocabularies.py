"""Tokenizers of models in production, from the files that the course fetches."""

from collections.abc import Mapping

from pydantic import ConfigDict

from course_lib import assets
from course_lib.description import Description, Id
from course_lib.input_processing.tokenizer import Tokenizer

# asset, pattern, special tokens, highest rank taken from the file (None: all)
_TIKTOKEN = {
    # the file is p50k's: GPT-2's tokens, then runs of spaces that came later
    "gpt2": ("gpt2-vocabulary", "gpt2", {"<|endoftext|>": 50256}, 50255),
    "cl100k": (
        "cl100k-vocabulary",
        "cl100k",
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
        None,
    ),
    "o200k": (
        "o200k-vocabulary",
        "o200k",
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
        None,
    ),
    "qwen": (
        "qwen-vocabulary",
        "qwen",
        {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
        | {f"<|extra_{number}|>": 151646 + number for number in range(205)},
        None,
    ),
}
_GGUF = {"smollm2": "smollm2-135m"}
NAMES = (*_TIKTOKEN, *_GGUF)

_PATTERN_OF_PRE = {"smollm": "smollm", "gpt-2": "gpt2"}
_CONTROL, _USER_DEFINED = 3, 4


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer "gpt2", "cl100k" (GPT-4), "o200k" (GPT-4o), "qwen" or "smollm2"; its file is fetched if missing.

    Qwen's own library composes the text first (Unicode's NFC); here it stays as it is, so that it comes back as it was.
    Raises ValueError for another name.
    """
    if name in _TIKTOKEN:
        asset, pattern, special_tokens, max_rank = _TIKTOKEN[name]
        path = assets.path(asset)
        return Tokenizer.from_tiktoken_file(path, pattern, special_tokens, max_rank)
    if name in _GGUF:
        from course_lib.pretrained.gguf import read_gguf  # imports torch

        return tokenizer_from_gguf_metadata(read_gguf(assets.path(_GGUF[name])).metadata)
    raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")


class _Tokenizer(Description):
    """A GGUF file's metadata, of its tokenizer."""

    model_config = ConfigDict(alias_generator=lambda name: f"tokenizer.ggml.{name}")

    model: str
    pre: str
    tokens: list[str]
    token_type: list[int]
    merges: list[str]
    bos_token_id: Id | None = None
    eos_token_id: Id | None = None
    add_bos_token: bool = False
    add_eos_token: bool = False


def tokenizer_from_gguf_metadata(metadata: Mapping[str, object]) -> Tokenizer:
    """The tokenizer inside a GGUF file: keys "tokenizer.ggml.model", ".pre", ".tokens", ".token_type", ".merges".

    Special are the tokens marked as control or user-defined; ".add_bos_token" and ".add_eos_token" say what goes around
    a text. Raises ValueError, naming the key, for what is missing or of a kind that is not read here.
    """
    for field in _Tokenizer.model_fields.values():
        if field.is_required() and field.alias not in metadata:
            raise ValueError(f"the GGUF file holds no {field.alias}: it has no tokenizer")
    said = _Tokenizer.of("the GGUF metadata", metadata)
    if said.model != "gpt2":
        raise ValueError(f"tokenizer.ggml.model is {said.model!r}: only 'gpt2', byte-level BPE, is read")
    if said.pre not in _PATTERN_OF_PRE:
        known = ", ".join(map(repr, _PATTERN_OF_PRE))
        raise ValueError(f"tokenizer.ggml.pre is {said.pre!r}: the patterns known here are {known}")
    if len(said.token_type) != len(said.tokens):
        raise ValueError(f"tokenizer.ggml.token_type has {len(said.token_type)} entries for {len(said.tokens)} tokens")
    special_tokens = {
        token: id
        for id, (token, kind) in enumerate(zip(said.tokens, said.token_type, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    }
    text_tokens = [token for token, id in special_tokens.items() if said.token_type[id] == _USER_DEFINED]
    around = [
        [id] if add and id is not None else []
        for add, id in ((said.add_bos_token, said.bos_token_id), (said.add_eos_token, said.eos_token_id))
    ]
    return Tokenizer.from_merges(
        said.tokens, said.merges, special_tokens, _PATTERN_OF_PRE[said.pre], text_tokens, *around
    )
