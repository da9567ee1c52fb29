"""The outside libraries that the tokenizer is held against, built from the same files and offline."""

import pytest
import tiktoken
import tiktoken_ext.openai_public as openai_public
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from course_lib import assets
from course_lib.input_processing.tokenizer_files import read_tiktoken
from course_lib.pretrained.gguf import read_gguf
from course_lib.pretrained.vocabularies import load_tokenizer

# as dashscope 1.22.0 has it in dashscope/tokenizers/qwen_tokenizer.py
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]


class TiktokenOracle:
    def __init__(self, encoding: tiktoken.Encoding):
        self.special = encoding._special_tokens
        self.n_vocab = encoding.n_vocab
        self.encoding = encoding

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        return self.encoding.encode(text, allowed_special="all" if special_tokens else set(), disallowed_special=())

    def decode(self, ids: list[int]) -> str:
        return self.encoding.decode(ids)


class TokenizersOracle:
    def __init__(self, tokenizer: tokenizers.Tokenizer):
        self.special = {token.content: id for id, token in tokenizer.get_added_tokens_decoder().items()}
        self.n_vocab = tokenizer.get_vocab_size()
        self.tokenizer = tokenizer

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        self.tokenizer.encode_special_tokens = not special_tokens
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def _tiktoken(name: str) -> TiktokenOracle:
    """OpenAI's own pattern and special tokens out of tiktoken, with our file in place of its download."""
    ranks = read_tiktoken(assets.path(f"{name}-vocabulary"))
    if name == "qwen":
        special = {text: 151643 + i for i, text in enumerate(QWEN_SPECIAL)}
        return TiktokenOracle(
            tiktoken.Encoding(name, pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens=special)
        )
    if name == "gpt2":
        ranks = {token: rank for token, rank in ranks.items() if rank < 50256}
    make = {"gpt2": "r50k_base", "cl100k": "cl100k_base", "o200k": "o200k_base"}[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks)
        return TiktokenOracle(tiktoken.Encoding(**getattr(openai_public, make)()))


def _smollm2() -> TokenizersOracle:
    metadata = read_gguf(assets.path("smollm2-135m")).metadata
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == 3])
    return TokenizersOracle(tokenizer)


@pytest.fixture(scope="session")
def ours():
    """name → our tokenizer, each loaded once."""
    return _once(load_tokenizer)


@pytest.fixture(scope="session")
def oracle():
    """name → an object with encode, decode, special, n_vocab that is not ours."""
    return _once(lambda name: _smollm2() if name == "smollm2" else _tiktoken(name))


def _once(make):
    made = {}

    def get(name):
        if name not in made:
            made[name] = make(name)
        return made[name]

    return get
