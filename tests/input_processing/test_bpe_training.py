"""BPE training, held against Hugging Face's BpeTrainer and against recounting everything for each merge."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from input_processing.hard_text import any_text, tricky_text
from tokenizers import AddedToken, models, pre_tokenizers, trainers

from course_lib import assets
from course_lib.input_processing.bpe import bytes_to_unicode
from course_lib.input_processing.bpe_training import BYTES_BY_ID, count_words, train_bpe
from course_lib.input_processing.tokenizer import Tokenizer

ALPHABET = bytes_to_unicode()
BYTE_OF = {character: value for value, character in ALPHABET.items()}
END = "<|endoftext|>"


def peer_tokenizer(text, vocab_size, special_tokens=()) -> tokenizers.Tokenizer:
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = [AddedToken(token, special=True) for token in special_tokens]
    settings = dict(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **settings)
    peer.train_from_iterator([text] if isinstance(text, str) else text, trainer)
    return peer


def peer_merges(text, vocab_size) -> list[tuple[bytes, bytes]]:
    merges = json.loads(peer_tokenizer(text, vocab_size).to_str())["model"]["merges"]
    return [tuple(bytes(map(BYTE_OF.get, part)) for part in merge) for merge in merges]


def recounted(text, vocab_size) -> list[tuple[bytes, bytes]]:
    """The definition: count all pairs anew for each merge."""
    words = [[BYTES_BY_ID.index(bytes([b])) for b in word.encode()] for word in Counter(count_words(text)).elements()]
    tokens, merges = list(BYTES_BY_ID), []
    while len(tokens) < vocab_size:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        for w, word in enumerate(words):
            merged, i = [], 0
            while i < len(word):
                hit = tuple(word[i : i + 2]) == best
                merged.append(len(tokens) if hit else word[i])
                i += 1 + hit
            words[w] = merged
        merges.append((tokens[best[0]], tokens[best[1]]))
        tokens.append(b"".join(merges[-1]))
    return merges


@pytest.fixture(scope="module")
def shakespeare():
    return "".join(path.read_text("utf-8") for path in assets.paths("shakespeare"))


def test_by_hand():
    assert train_bpe("low low low lower newest", 259) == [(b"l", b"o"), (b"lo", b"w"), (b" ", b"low")]
    # four pairs occur once each: ties go to the oldest left token, and in GPT-2's order the space is a late one
    assert train_bpe("ab cd", 257) == [(b"a", b"b")]
    assert train_bpe("b a", 258) == [(b" ", b"a")]


def test_bytes_are_numbered_as_in_gpt2(ours):
    gpt2 = ours("gpt2")
    assert [gpt2.token_bytes(id) for id in range(256)] == BYTES_BY_ID
    assert (BYTES_BY_ID[0], BYTES_BY_ID[220]) == (b"!", b" ")


def test_the_same_merges_as_tokenizers_on_shakespeare(shakespeare):
    merges = train_bpe(shakespeare, 4096)
    assert len(merges) == 4096 - 256
    assert merges == peer_merges(shakespeare, 4096)


@pytest.mark.parametrize(
    "text", ["", "a", "aaaaa", "a" * 100, "😀" * 50, "abab" * 9 + " aaa aa a", "\n" * 7, "犬" * 30]
)
def test_odd_corpora(text):
    merges = train_bpe(text, 300)
    assert merges == peer_merges(text, 300) == recounted(text, 300)


def test_overlapping_repeats():
    # four neighbours (a, a) against three (b, c): all neighbours count
    assert train_bpe("aaaaa bc bc bc", 257) == [(b"a", b"a")]
    # then aa·aa·a: the pairs (aa, aa) and (aa, a) occur once each, and the older right token wins
    assert train_bpe("aaaaa", 300) == [(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aaa")]


@given(st.text("ab ", max_size=60) | st.text("aab 1é", max_size=40), st.integers(256, 290))
@settings(max_examples=300, deadline=None)
def test_the_same_as_recounting_and_as_tokenizers(text, vocab_size):
    merges = train_bpe(text, vocab_size)
    assert merges == recounted(text, vocab_size)
    assert merges == peer_merges(text, vocab_size)
    tokens = [left + right for left, right in merges]
    assert len(set(tokens)) == len(tokens), "no token is made twice"


@given(st.lists(tricky_text | any_text, max_size=4), st.integers(256, 400))
@settings(deadline=None)
def test_any_text(documents, vocab_size):
    merges = train_bpe(documents, vocab_size)
    assert merges == recounted(documents, vocab_size)
    tokenizer = Tokenizer.from_pairs(merges)
    for text in documents:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_documents_are_not_joined():
    assert train_bpe(["ab", "cd"], 300) == [(b"a", b"b"), (b"c", b"d")]
    assert train_bpe(iter(["aa b", "aa"]), 257) == train_bpe("aa b aa", 257) == [(b"a", b"a")]


def test_special_tokens_are_in_no_word_and_take_ids_at_the_end():
    text = f"{END}to be or not to be{END}{END}"
    merges = train_bpe(text, 262, special_tokens=[END])
    assert len(merges) == 5 and merges == train_bpe("to be or not to be", 261)
    tokenizer = Tokenizer.train(text, 262, special_tokens=[END, "<|end|>"])
    assert tokenizer.vocab_size == 262 and tokenizer.special_tokens == {END: 260, "<|end|>": 261}
    assert tokenizer.encode(END) == [260] and 260 not in tokenizer.encode(END, special_tokens=False)
    # of two that start alike, the longest is cut out
    assert count_words("a<x>y", special_tokens=["<x", "<x>"]) == {"a": 1, "y": 1}


def test_the_ids_of_tokenizers(shakespeare):
    """Trained alike, encoding alike (special tokens come first there, and last here)."""
    text = shakespeare[:300_000]
    peer, ours = peer_tokenizer(text, 1000), Tokenizer.train(text, 1000)
    assert ours.encode(shakespeare[300_000:400_000]) == peer.encode(shakespeare[300_000:400_000]).ids


def test_the_pattern_decides_what_may_merge():
    assert b"dog." in [a + b for a, b in train_bpe("dog. " * 5, 300, pattern=r"\S+")]
    assert b"dog." not in [a + b for a, b in train_bpe("dog. " * 5, 300)]
    assert train_bpe("12 12 12", 257, pattern="smollm") == []


def test_more_tokens_than_fit_below_the_surrogates():
    """chr(id) is half a surrogate pair from 0xD800 on; Python's str takes it as any other character."""
    text = "".join(random.Random(0).choices("abcdefgh", k=200_000))
    merges = train_bpe(text, 58_000, pattern=r"(?s:.{1,40})")
    tokens = {*BYTES_BY_ID, *(a + b for a, b in merges)}
    assert len(tokens) == 256 + len(merges) > 0xD800 + 1000


def test_the_bar_changes_nothing(capsys):
    assert train_bpe("to be or not to be", 260, progress=True) == train_bpe("to be or not to be", 260)
    assert "merges" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, error, sentence",
    [
        (dict(vocab_size=255), ValueError, "vocab_size must be from 256 to 1,114,112, got 255"),
        (dict(vocab_size=256, special_tokens=[END]), ValueError, "vocab_size must be from 257"),
        (dict(vocab_size=2_000_000), ValueError, "got 2000000"),
        (dict(vocab_size=300.0), TypeError, "vocab_size must be a whole number, got 300.0"),
        (dict(special_tokens=END), TypeError, "put it in brackets"),
        (dict(special_tokens=[""]), ValueError, "none may be empty"),
        (dict(special_tokens=["<x>", "<x>"]), ValueError, "special_tokens must differ"),
        (dict(text=b"abc"), TypeError, "got bytes: read the file as text"),
        (dict(text=["a", 3]), TypeError, "text must be a str or several of them, got int: 3"),
        (dict(text="ab\ud800"), ValueError, "text holds a lone surrogate, U+D800"),
        (dict(pattern="("), ValueError, "pattern is not one of"),
    ],
)
def test_an_error_is_a_sentence(arguments, error, sentence):
    with pytest.raises(error) as raised:
        train_bpe(**dict(text="to be", vocab_size=300) | arguments)
    assert sentence in str(raised.value)


def test_pairs_that_make_a_token_twice_are_refused():
    with pytest.raises(ValueError, match="b'abc' is made twice"):
        Tokenizer.from_pairs([(b"a", b"b"), (b"b", b"c"), (b"a", b"bc"), (b"ab", b"c")])
