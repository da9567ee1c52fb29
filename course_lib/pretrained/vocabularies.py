"""Tokenizers of models in production, from the files that the course fetches."""

from collections.abc import Mapping

from course_lib import assets
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


def tokenizer_from_gguf_metadata(metadata: Mapping[str, object]) -> Tokenizer:
    """The tokenizer inside a GGUF file: keys "tokenizer.ggml.model", ".pre", ".tokens", ".token_type", ".merges".

    Special are the tokens marked as control or user-defined. Raises ValueError, naming the key, for what is missing
    or of a kind that is not read here.
    """

    def value(key: str):
        if f"tokenizer.ggml.{key}" not in metadata:
            raise ValueError(f"the GGUF file holds no tokenizer.ggml.{key}: it has no tokenizer")
        return metadata[f"tokenizer.ggml.{key}"]

    if (model := value("model")) != "gpt2":
        raise ValueError(f"tokenizer.ggml.model is {model!r}: only 'gpt2', byte-level BPE, is read")
    if (pre := value("pre")) not in _PATTERN_OF_PRE:
        known = ", ".join(map(repr, _PATTERN_OF_PRE))
        raise ValueError(f"tokenizer.ggml.pre is {pre!r}: the patterns known here are {known}")
    tokens, kinds = value("tokens"), value("token_type")
    if len(kinds) != len(tokens):
        raise ValueError(f"tokenizer.ggml.token_type has {len(kinds)} entries for {len(tokens)} tokens")
    special_tokens = {
        token: id
        for id, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    }
    return Tokenizer.from_merges(tokens, value("merges"), special_tokens, _PATTERN_OF_PRE[pre])
