"""Where words are cut: the classes of characters, and the cuts themselves, as the outside libraries make them."""

import sys
import unicodedata

import pytest
import regex
import tiktoken
from hypothesis import given, settings
from input_processing.hard_text import any_text, tricky_text
from tokenizers import Regex, pre_tokenizers

from course_lib.input_processing.bpe import SINGLE_BYTES
from course_lib.input_processing.patterns import PATTERNS, split_words

EVERY_CHARACTER = "".join(chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF)
CLASSES = [r"\s", r"\p{L}", r"\p{N}", r"\p{M}", r"\p{Lu}", r"\p{Ll}", r"\p{Lt}", r"\p{Lm}", r"\p{Lo}"]


@pytest.mark.parametrize("name", CLASSES)
def test_every_character_is_of_the_class_that_tiktoken_has_it_in(name):
    """All 1,112,064 of them. If this fails after an upgrade, the libraries know different editions of Unicode."""
    encoding = tiktoken.Encoding(
        "x", pat_str=name, mergeable_ranks={byte: i for i, byte in enumerate(SINGLE_BYTES)}, special_tokens={}
    )
    theirs = encoding.decode(encoding.encode_ordinary(EVERY_CHARACTER))  # it leaves out what does not match
    assert "".join(split_words(name)(EVERY_CHARACTER)) == theirs


@pytest.mark.parametrize("name", CLASSES)
def test_every_character_is_of_the_class_that_tokenizers_has_it_in(name):
    split = pre_tokenizers.Split(Regex(f"{name}+"), "removed", invert=True)
    theirs = "".join(piece for piece, _ in split.pre_tokenize_str(EVERY_CHARACTER))
    assert "".join(split_words(name)(EVERY_CHARACTER)) == theirs


@pytest.mark.skipif(unicodedata.unidata_version > "16", reason="Python's table knows the new characters by now")
def test_what_the_editions_disagree_on_is_new_or_the_pharyngeal_letter():
    classes = r"[\p{L}\p{N}\p{M}]"
    disputed = {*regex.findall(classes, EVERY_CHARACTER)} ^ {*split_words(classes)(EVERY_CHARACTER)}
    assert disputed
    assert {unicodedata.category(character) for character in disputed} == {"Cn"}


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=300, derandomize=True, deadline=None)
@given(text=any_text | tricky_text)
def test_nothing_is_lost(name, text):
    assert "".join(split_words(name)(text)) == text


def test_cuts_worth_knowing():
    def cut(name, text):
        return split_words(name)(text)

    assert cut("gpt2", "I'll pay  12 ducats!") == ["I", "'ll", " pay", " ", " 12", " ducats", "!"]
    assert cut("smollm", "pay  12 ducats") == ["pay", "  ", "1", "2", " ducats"]
    assert cut("cl100k", "1234567 HE'S") == ["123", "456", "7", " HE", "'S"]
    assert cut("o200k", "camelCase doesn't") == ["camel", "Case", " doesn't"]
    assert cut("qwen", "a 12\n\nb") == ["a", " ", "1", "2", "\n\n", "b"]


def test_gaps_are_left_out_or_kept():
    assert split_words(r"\d+")("ab12c\n3") == ["12", "3"]
    assert split_words(r"\d+", keep_gaps=True)("ab12c\n3") == ["ab", "12", "c\n", "3"]


def test_a_pattern_with_groups_gives_whole_words():
    assert split_words(r"(a)(b)?|c")("abcab") == ["ab", "c", "ab"]


@pytest.mark.parametrize("name", ["gpt3", "GPT2", "gpt-2", "cl100k_base", "", " ", "o200k/base"])
def test_a_name_that_is_no_pattern_is_no_regular_expression(name):
    """It would be one that stands for itself alone, and train_bpe would learn nothing from it."""
    with pytest.raises(ValueError, match=r"pattern is not one of gpt2, .*, nor a regular expression that cuts"):
        split_words(name)


def test_a_broken_pattern_is_named():
    with pytest.raises(ValueError, match=r"pattern is not one of gpt2, .*: '\(a'"):
        split_words("(a")
