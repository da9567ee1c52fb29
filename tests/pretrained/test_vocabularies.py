"""load_tokenizer and the tokenizer inside a GGUF file. That the ids are right: tests/input_processing."""

import pytest

from course_lib.input_processing.bpe import bytes_to_unicode
from course_lib.pretrained.vocabularies import NAMES, load_tokenizer, tokenizer_from_gguf_metadata

BASE = list(bytes_to_unicode().values())


def metadata(**changes) -> dict[str, object]:
    content = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": ["<|end|>", "<user>", *BASE, "do", "dog"],
        "token_type": [3, 4, *[1] * 258],
        "merges": ["d o", "do g"],
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in content.items() if value is not None}


def test_a_tokenizer_from_metadata():
    tokenizer = tokenizer_from_gguf_metadata(metadata())
    assert tokenizer.special_tokens == {"<|end|>": 0, "<user>": 1}
    assert tokenizer.encode("<user>dog<|end|>") == [1, 259, 0]
    assert tokenizer.split("in 2026") == ["in", " ", "2", "0", "2", "6"]
    assert tokenizer_from_gguf_metadata(metadata(pre="gpt-2")).split("in 2026") == ["in", " 2026"]


def test_what_goes_around_a_text():
    for settings, before, behind in (
        ({}, (), ()),
        ({"bos_token_id": 0, "eos_token_id": 1}, (), ()),
        ({"bos_token_id": 0, "eos_token_id": 1, "add_bos_token": True, "add_eos_token": False}, (0,), ()),
        ({"bos_token_id": 0, "eos_token_id": 1, "add_bos_token": True, "add_eos_token": True}, (0,), (1,)),
        ({"add_bos_token": True}, (), ()),
    ):
        tokenizer = tokenizer_from_gguf_metadata(metadata(**settings))
        assert (tokenizer.before, tokenizer.behind) == (before, behind)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "llama"}, "tokenizer.ggml.model is 'llama': only 'gpt2'"),
        (
            {"pre": "deepseek-llm"},
            "tokenizer.ggml.pre is 'deepseek-llm': the patterns known here are 'smollm', 'gpt-2'",
        ),
        ({"pre": None}, "holds no tokenizer.ggml.pre"),
        ({"merges": None}, "holds no tokenizer.ggml.merges"),
        ({"pre": 3}, "the GGUF metadata: tokenizer.ggml.pre is 3, it must be a valid string"),
        ({"tokens": ["a", 3]}, "tokenizer.ggml.tokens.1 is 3"),
        ({"tokens": "a"}, "tokenizer.ggml.tokens is 'a'"),
        ({"token_type": [None]}, "tokenizer.ggml.token_type.0 is None"),
        ({"merges": [3]}, "tokenizer.ggml.merges.0 is 3"),
        ({"bos_token_id": -1}, "tokenizer.ggml.bos_token_id is -1"),
        ({"bos_token_id": 260, "add_bos_token": True}, "token id 260 is outside the vocabulary"),
        ({"add_bos_token": "x"}, "tokenizer.ggml.add_bos_token is 'x', it must be a valid boolean"),
        ({"token_type": [3]}, "tokenizer.ggml.token_type has 1 entries for 260 tokens"),
    ],
)
def test_metadata_that_cannot_be_used_is_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        tokenizer_from_gguf_metadata(metadata(**changes))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="name must be one of gpt2, cl100k, o200k, qwen, smollm2, got 'gpt5'"):
        load_tokenizer("gpt5")


@pytest.mark.parametrize("name", NAMES)
def test_every_vocabulary_loads_and_ends_texts(name):
    tokenizer = load_tokenizer(name)
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert end == {"gpt2": 50256, "cl100k": 100257, "o200k": 199999, "qwen": 151643, "smollm2": 0}[name]
    assert (
        tokenizer.decode([*tokenizer.encode("The dog ran up the hill"), end]) == "The dog ran up the hill<|endoftext|>"
    )
