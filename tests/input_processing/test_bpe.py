"""Byte-pair encoding of one word, held against `tokenizers` and `tiktoken` with small vocabularies."""

import random
import string

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode as transformers_bytes_to_unicode

from course_lib.input_processing import bpe
from course_lib.input_processing.bpe import (
    LONG_WORD,
    NEVER,
    SINGLE_BYTES,
    WordCache,
    any_two_that_make_a_token,
    bytes_to_unicode,
    encode_word,
    listed_merges,
    merge_by_heap,
    merge_by_scan,
)

BASE = {byte: id for id, byte in enumerate(SINGLE_BYTES)}
EVERYTHING = r"(?s:.+)"


def with_merges(*merges: str) -> tuple[dict[bytes, int], list[tuple[bytes, bytes]]]:
    """Token ids and pairs of a vocabulary with all bytes and then `merges`, "a b" each."""
    pairs = [tuple(part.encode() for part in merge.split()) for merge in merges]
    made = dict.fromkeys(left + right for left, right in pairs)
    return BASE | {token: 256 + i for i, token in enumerate(made)}, pairs


def tokenizers_ids(token_ids, pairs, word: bytes) -> list[int]:
    """The same vocabulary and merges in Hugging Face's library, the text as one word."""
    alphabet = bytes_to_unicode()
    text = {token: "".join(map(alphabet.get, token)) for token in token_ids}
    model = models.BPE({text[t]: id for t, id in token_ids.items()}, [(text[a], text[b]) for a, b in pairs])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer.encode(word.decode()).ids


def tiktoken_ids(token_ids, word: bytes) -> list[int]:
    encoding = tiktoken.Encoding("x", pat_str=EVERYTHING, mergeable_ranks=token_ids, special_tokens={})
    return encoding.encode_ordinary(word.decode())


def random_merges(seed: int, count: int, letters: str = "abc") -> list[str]:
    """Merges of tokens that exist by then, in the order training could have found them."""
    rng = random.Random(seed)
    tokens, merges = list(letters), []
    for _ in range(count):
        merge = f"{rng.choice(tokens)} {rng.choice(tokens)}"
        if merge not in merges:
            merges.append(merge)
            tokens.append(merge.replace(" ", ""))
    return merges


def test_the_earliest_merge_goes_first_then_the_leftmost():
    token_ids, pairs = with_merges("e s", "es t", "l o", "lo w")
    parts = [SINGLE_BYTES[value] for value in b"lowest"]
    assert merge_by_scan(parts, listed_merges(pairs)) == [b"low", b"est"]
    assert encode_word(b"lowest", token_ids, listed_merges(pairs)) == (259, 257)
    _, pairs = with_merges("a a")
    assert merge_by_scan([b"a"] * 3, listed_merges(pairs)) == [b"aa", b"a"]


def test_the_two_rules_differ_and_each_is_the_one_of_its_library():
    # "abc" is a token, made from a + bc. Since "a b" is listed before "b c", the list never reaches it: after ab, the
    # pair (ab, c) is not listed, but its concatenation is a token, so tiktoken's rule merges it.
    token_ids, pairs = with_merges("a b", "b c", "a bc")
    word = b"xabc"
    listed = encode_word(word, token_ids, listed_merges(pairs))
    any_two = encode_word(word, token_ids, any_two_that_make_a_token(token_ids))
    assert [len(listed), len(any_two)] == [3, 2]
    assert list(listed) == tokenizers_ids(token_ids, pairs, word)
    assert list(any_two) == tiktoken_ids(token_ids, word)


def test_a_word_that_is_a_token_may_be_taken_at_once():
    # no chain of merges reaches "abcd": b and c join first, and neither "abc" nor "bcd" is a token
    token_ids = BASE | {b"bc": 256, b"abcd": 257}
    rank = any_two_that_make_a_token(token_ids)
    assert encode_word(b"abcd", token_ids, rank) == (97, 256, 100)
    assert encode_word(b"abcd", token_ids, rank, whole_word_first=True) == (257,)
    assert tiktoken_ids(token_ids, b"abcd") == [257]


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.integers(0, 50), st.text("abcd", max_size=80))
def test_both_rules_agree_with_their_libraries_on_random_vocabularies(seed, text):
    token_ids, pairs = with_merges(*random_merges(seed, 20))
    word = text.encode()
    assert list(encode_word(word, token_ids, listed_merges(pairs))) == tokenizers_ids(token_ids, pairs, word)
    rank = any_two_that_make_a_token(token_ids)
    assert list(encode_word(word, token_ids, rank, whole_word_first=True)) == tiktoken_ids(token_ids, word)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.integers(0, 50), st.text("abcd", max_size=60))
def test_heap_and_scan_merge_alike(seed, text):
    token_ids, pairs = with_merges(*random_merges(seed, 25))
    parts = [SINGLE_BYTES[value] for value in text.encode()]
    for rank in (listed_merges(pairs), any_two_that_make_a_token(token_ids)):
        merged = merge_by_heap(parts, rank)
        assert merged == merge_by_scan(parts, rank)
        assert b"".join(merged) == text.encode()


@pytest.mark.parametrize("length", [0, 1, 2, 3, 1999, 2000])
def test_heap_and_scan_merge_alike_where_all_letters_are_one(length):
    _, pairs = with_merges("a a", "aa aa", "aaaa aaaa", "aa a")
    rank = listed_merges(pairs)
    assert merge_by_heap([b"a"] * length, rank) == merge_by_scan([b"a"] * length, rank)


def test_long_words_go_by_the_heap_and_short_ones_by_the_scan(monkeypatch):
    calls = []
    for name in ("merge_by_scan", "merge_by_heap"):
        real = getattr(bpe, name)
        monkeypatch.setattr(bpe, name, lambda p, r, name=name, real=real: calls.append(name) or real(p, r))
    token_ids, pairs = with_merges("a a")
    for length in (LONG_WORD, LONG_WORD + 1):
        assert len(encode_word(b"a" * length, token_ids, listed_merges(pairs))) == -(-length // 2)
    assert calls == ["merge_by_scan", "merge_by_heap"]


def test_the_heap_looks_up_a_number_of_pairs_that_grows_with_the_word_only():
    _, pairs = with_merges("a a", "aa aa", "aaaa aaaa")
    rank, calls = listed_merges(pairs), []
    merge_by_heap([b"a"] * 100_000, lambda left, right: calls.append(None) or rank(left, right))
    assert len(calls) < 6 * 100_000  # the scan of a scan would be 100,000 times that


@pytest.mark.parametrize("word", ["a" * 100_000, "".join(random.Random(0).choices("春夏秋冬的一是", k=50_000))])
@pytest.mark.parametrize("name", ["gpt2", "o200k"])
def test_a_long_word_without_a_break(ours, oracle, name, word):
    ids = ours(name).encode(word)
    assert ids == oracle(name).encode(word)
    assert ours(name).decode(ids) == word


def test_a_byte_without_a_token_is_left_out_and_its_neighbours_may_merge():
    token_ids, pairs = with_merges("a c")
    del token_ids[b"b"]
    rank = listed_merges(pairs)
    assert encode_word(b"abc", token_ids, rank) == (token_ids[b"ac"],)
    assert encode_word(b"bb", token_ids, rank) == ()
    for word in (b"abc", b"bb", b"ab bc", b"bacb"):
        assert list(encode_word(word, token_ids, rank)) == tokenizers_ids(token_ids, pairs, word)


def test_the_alphabet_is_gpt2s():
    alphabet = bytes_to_unicode()
    assert alphabet == transformers_bytes_to_unicode()
    assert sorted(alphabet.values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert [alphabet[value] for value in b" \n\x00A"] == ["Ġ", "Ċ", "Ā", "A"]


def test_the_word_cache_is_bounded_and_always_right():
    asked = []
    cache = WordCache(lambda word: asked.append(word) or tuple(word.encode()), max_words=10)
    words = [first + second for first in string.ascii_letters for second in "aab"]
    for word in words:
        assert cache[word] == tuple(word.encode())
        assert len(cache) <= 10
    assert len(asked) < len(words)  # some were found again
    cache["x" * (LONG_WORD + 1)]
    assert "x" * (LONG_WORD + 1) not in cache


def test_never_is_no_rank():
    assert listed_merges([])(b"a", b"b") == NEVER == any_two_that_make_a_token({})(b"a", b"b")
