"""The tokenizer against `tokenizers` and `tiktoken` with the same vocabularies; streaming; files; bad input."""

import base64
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from input_processing.hard_text import any_text, tricky_text
from tokenizers import pre_tokenizers

from course_lib import assets
from course_lib.input_processing.patterns import split_words
from course_lib.input_processing.tokenizer import (
    WHITE_SPACE,
    SpecialToken,
    Tokenizer,
    bytes_to_unicode,
    split_at_special_tokens,
)
from course_lib.input_processing.tokenizer_files import read_tiktoken

NAMES = ["gpt2", "cl100k", "o200k", "qwen", "smollm2"]
ROUND_TRIP = NAMES[:4]
CHARACTERS = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF]

LANGUAGES = """\
Der Fluß fließt übers Wehr; die Mühle klappert, und 1.234,50 € sind fällig.
L'été, où j'allais à l'école, n'était-ce pas hier ? Ça va aujourd'hui.
Мельница у реки не работает уже 37 лет, но дверь открыта.
朝の川は静かで、魚が三匹はねた。カタカナも、ひらがなも、漢字もある。
清晨的河水很静，三条鱼跳了起来。这句话里没有空格，只有标点。
강가의 물레방아는 오늘도 돌아간다. 값은 3,000원이다.
النهر هادئ في الصباح، وقفزت ثلاث سمكات. السعر ١٢٣ درهمًا.
הנהר שקט בבוקר, ושלושה דגים קפצו ב־7:45.
सुबह नदी शांत थी और तीन मछलियाँ उछलीं। कीमत ४५ रुपये।
แม่น้ำเงียบสงบในตอนเช้า ปลาสามตัวกระโดดขึ้นมา
Το ποτάμι ήταν ήσυχο· τρία ψάρια πήδηξαν.
👩‍🚀 and 👨‍👩‍👧‍👦 wave: 👋🏽 🇨🇭 🏳️‍🌈 1️⃣ ☎️ ❤️‍🔥
Combining: e\u0301 n\u0303 Z\u0351\u036b\u0343\u036a; zero width: a\u200bb\u200cc\u200dd\ufeffe
No break: 10\u00a0km, 10\u202fkm
Line ends:\r\n\r\n\tTabs\t\tand   spaces   \n\n\n   trailing   \n
I'LL, i'll, we've, WE'VE, they’re, it'ſ, 'tis, 'Tis, rock'n'roll; x1y2z3 007 3.14159 ²³½Ⅷ
"""


@pytest.fixture(scope="session")
def corpus():
    """name → text: every fourth work of Shakespeare's, a Python file, many scripts."""
    return {
        "Shakespeare": "".join(path.read_text(encoding="utf-8") for path in assets.paths("shakespeare")[::4]),
        "Python": Path(regex.__file__).parent.joinpath("_regex_core.py").read_text(encoding="utf-8"),
        "languages": LANGUAGES,
    }


@cache
def numbers_of_edition_17():
    """13 numbers that SmolLM2's test leaves out.

    `Digits` in tokenizers asks Rust what a number is, and Rust knows Unicode 17: it cuts out 13 that its own pattern
    (edition 16) does not call numbers.
    """
    apart = "a".join(CHARACTERS)
    theirs = {piece for piece, _ in pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(apart)} - {"a"}
    return sorted(theirs.intersection(CHARACTERS) - set(split_words(r"\p{N}")(apart)))


# ---- the same ids as the outside libraries -------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_gives_the_same_ids(ours, oracle, corpus, name):
    for title, text in corpus.items():
        ids = ours(name).encode(text)
        assert ids == oracle(name).encode(text), title
        assert ours(name).decode(ids) == oracle(name).decode(ids), title
        assert name not in ROUND_TRIP or ours(name).decode(ids) == text, title


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=1000, derandomize=True, deadline=None)
@given(text=any_text)
@example(text="\x04\x06\x13 \U00040000")  # SmolLM2 has no token for these bytes
@example(text="")
def test_any_text_gives_the_same_ids_and_comes_back(ours, oracle, name, text):
    if name == "smollm2":
        text = text.translate(dict.fromkeys(map(ord, numbers_of_edition_17())))
    ids = ours(name).encode(text)
    assert ids == oracle(name).encode(text)
    decoded = ours(name).decode(ids)
    assert decoded == (text if name in ROUND_TRIP else oracle(name).decode(ids))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=1000, derandomize=True, deadline=None)
@given(text=tricky_text)
def test_text_that_tries_the_pattern_gives_the_same_ids(ours, oracle, name, text):
    assert ours(name).encode(text) == oracle(name).encode(text)


def test_the_numbers_left_out_are_as_many_as_said():
    assert len(numbers_of_edition_17()) == 13


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, derandomize=True, deadline=None)
@given(data=st.data())
def test_special_tokens_inside_text(ours, oracle, name, data):
    special = list(oracle(name).special)
    pieces = st.sampled_from([*special[:4], special[-1], "<|", "<", "<|endof", "|>", "text|>", " ", "\n", "a"])
    text = "".join(data.draw(st.lists(pieces | tricky_text, max_size=8)))
    for special_tokens in (True, False):
        ids = ours(name).encode(text, special_tokens=special_tokens)
        assert ids == oracle(name).encode(text, special_tokens)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, derandomize=True, deadline=None)
@given(data=st.data())
def test_any_ids_decode_alike_whole_and_streamed(ours, oracle, name, data):
    tokenizer = ours(name)
    special = list(tokenizer.special_tokens.values())
    some_id = st.integers(0, 300) | st.integers(0, tokenizer.vocab_size - 300) | st.sampled_from(special)
    ids = [id for id in data.draw(st.lists(some_id, max_size=12)) if tokenizer._bytes[id] is not None]
    assert tokenizer.decode(ids) == oracle(name).decode(ids)
    stream = tokenizer.stream()
    assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_special_tokens(ours, oracle, name):
    tokenizer = ours(name)
    sizes = {"gpt2": 50257, "cl100k": 100277, "o200k": 200019, "qwen": 151851, "smollm2": 49152}
    assert tokenizer.vocab_size == oracle(name).n_vocab == sizes[name]
    assert tokenizer.special_tokens == oracle(name).special
    for text, id in tokenizer.special_tokens.items():
        assert tokenizer.encode(text) == [id]
        assert tokenizer.decode([id]) == text
        assert tokenizer.decode(tokenizer.encode(text, special_tokens=False)) == text


def test_smollm2_lacks_byte_tokens_and_drops_what_they_would_have_held(ours, oracle):
    tokenizer = ours("smollm2")
    lacking = {value for value in range(256) if bytes([value]) not in set(tokenizer._bytes)}
    assert len(lacking) == 21
    assert {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2} < lacking
    for text in ("a\x04b", "\x06", "th\x13e", "\U00040000", "x\U00080000y"):
        ids = tokenizer.encode(text)
        assert ids == oracle("smollm2").encode(text)
        assert tokenizer.decode(ids) == oracle("smollm2").decode(ids) != text


# ---- streaming -----------------------------------------------------------------------------------


def bytes_tokenizer(**special_tokens: int) -> Tokenizer:
    """256 tokens, one for each byte and with its value as id, and no merges."""
    return Tokenizer.from_merges(list(bytes_to_unicode().values()), [], special_tokens, "gpt2")


@settings(max_examples=1000, derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=6) | st.text(max_size=3).map(str.encode) | st.just(b"\xf0\x9f")))
@example([b"\xf0\x9f\x91", b"\xed\xa0\x80", b"\xc3"])
def test_streamed_bytes_are_the_decoded_bytes_also_where_they_are_no_text(chunks):
    tokenizer = bytes_tokenizer(END=256)
    ids = [id for chunk in chunks for id in (*chunk, 256)] + list(b"".join(chunks))
    stream = tokenizer.stream()
    shown = ""
    for position, id in enumerate(ids):
        shown += stream.push(id)
        so_far = tokenizer.decode(ids[: position + 1])
        assert so_far.startswith(shown)  # nothing shown is ever taken back
        assert set(so_far[len(shown) :]) <= {"\ufffd"}  # only half a character is held back
    assert shown + stream.finish() == tokenizer.decode(ids)


def test_a_stream_never_shows_half_a_character():
    tokenizer = bytes_tokenizer()
    stream = tokenizer.stream()
    assert [stream.push(id) for id in "a€😀".encode()] == ["a", "", "", "€", "", "", "", "😀"]
    assert stream.finish() == ""
    stream = tokenizer.stream()
    assert [stream.push(id) for id in "😀".encode()[:3]] == ["", "", ""]
    assert stream.finish() == "\ufffd"


# ---- one token -----------------------------------------------------------------------------------


def test_token_bytes_and_text():
    tokenizer = bytes_tokenizer(**{"<end>": 256})
    assert tokenizer.token_bytes(0xF0) == b"\xf0"
    assert [tokenizer.token_text(id) for id in (0xF0, 0x41, 0x20, 0x0A, 0x00, 256)] == [
        "<0xF0>", "A", " ", r"\n", "<0x00>", "<end>",
    ]  # fmt: skip


def test_every_token_of_a_real_vocabulary_has_one_printable_line(ours):
    for name in ("gpt2", "smollm2"):
        tokenizer = ours(name)
        texts = [tokenizer.token_text(id) for id in range(tokenizer.vocab_size)]
        assert all(text.isprintable() and text for text in texts)
    assert ours("gpt2").token_text(12788) == " hill"


def test_ids_may_be_numpy_or_torch_integers():
    import torch

    tokenizer = bytes_tokenizer()
    assert tokenizer.decode(np.array([72, 105])) == tokenizer.decode(torch.tensor([72, 105])) == "Hi"


# ---- special tokens ------------------------------------------------------------------------------


def test_the_leftmost_and_longest_special_token_wins():
    tokens = [SpecialToken("<a>", 1), SpecialToken("<a><b>", 2), SpecialToken("><b", 3), SpecialToken("<b>", 4)]
    assert list(split_at_special_tokens("x<a><b><b>y", tokens)) == ["x", 2, 4, "y"]
    assert list(split_at_special_tokens("<a><c>", tokens)) == [1, "<c>"]
    assert list(split_at_special_tokens("x><b<a>", tokens)) == ["x", 3, 1]
    assert list(split_at_special_tokens("", tokens)) == []
    assert list(split_at_special_tokens("plain", [])) == ["plain"]


def test_a_special_token_may_hold_any_character():
    tokenizer = bytes_tokenizer(**{"<|é €.*|>": 256, "Ġ": 257})
    text = "a<|é €.*|>b Ġ"
    assert tokenizer.encode(text) == [97, 256, 98, 32, 257]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_white_space_is_what_unicode_calls_so():
    assert sorted(WHITE_SPACE) == regex.findall(r"\s", "".join(CHARACTERS))


# ---- bad input -----------------------------------------------------------------------------------


def sentence(*parts: str) -> str:
    return "(?s).*" + ".*".join(map(regex.escape, parts))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("abc\ud800", ("text holds a lone surrogate, U+D800, at position 3", "utf-16")),
        ("\udfffx", ("U+DFFF", "position 0")),
        ("ok<end>é \ud83dx", ("U+D83D", "position 9")),
    ],
)
def test_a_lone_surrogate_is_refused_and_found(text, parts):
    tokenizer = bytes_tokenizer(**{"<end>": 256})
    for special_tokens in (True, False, True):  # again: nothing of it may stay in the cache
        with pytest.raises(ValueError, match=sentence(*parts)):
            tokenizer.encode(text, special_tokens=special_tokens)
    assert tokenizer.encode("abc") == [97, 98, 99]


@pytest.mark.parametrize("text", [b"bytes", None, 5, ["a"]])
def test_text_must_be_a_str(text):
    with pytest.raises(TypeError, match=f"text must be a str, got {type(text).__name__}"):
        bytes_tokenizer().encode(text)


def test_ids_must_be_in_the_vocabulary(ours):
    tokenizer = bytes_tokenizer()
    stream = tokenizer.stream()
    for call in (lambda id: tokenizer.decode([65, id]), tokenizer.token_bytes, tokenizer.token_text, stream.push):
        for id in (-1, 256, 10**9):
            with pytest.raises(ValueError, match=f"token id {id} is outside the vocabulary: ids go from 0 to 255"):
                call(id)
        for id in ("a", 1.5, None, True, np.True_, np.float64(1)):
            with pytest.raises(TypeError, match=f"a token id must be a whole number, got {type(id).__name__}"):
                call(id)
    with pytest.raises(ValueError, match="token id 100256 is a gap in the vocabulary"):
        ours("cl100k").decode([100256])


@pytest.mark.parametrize(
    "ids", [5, "65", b"65", None, bytearray(b"65"), memoryview(b"65"), {65: 1}, {65}, np.array(65)]
)
def test_ids_must_be_a_list(ids):
    with pytest.raises(TypeError, match=f"ids must be a list of token ids, got {type(ids).__name__}"):
        bytes_tokenizer().decode(ids)


BASE = list(bytes_to_unicode().values())


@pytest.mark.parametrize(
    ("tokens", "merges", "special", "parts"),
    [
        ([*BASE, "A"], [], {}, ("tokens must differ", "'A' twice")),
        ([*BASE, "a b"], [], {}, ("token 'a b' (id 256)", "' ' stands for no byte")),
        (BASE, ["a b"], {}, ("merge 0, 'a b', names 'ab'", "no token")),
        ([*BASE, "ab"], ["a b", "ab"], {}, ("merge 1 must be two tokens", "'ab'")),
        (BASE, [], {"<end>": 65}, ("special_tokens gives '<end>' the id 65", "not free")),
        (BASE, [], {"Ġ": 32}, ("special_tokens gives 'Ġ' the id 32", "not free")),  # it is the space's already
        (BASE, [], {"<end>": -1}, ("special_tokens gives '<end>' the id -1",)),
        (BASE, [], {"<end>": 256, "<stop>": 256}, ("special_tokens gives '<stop>' the id 256",)),
        (BASE, [], {"": 256}, ("special_tokens must not hold the empty text",)),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tokens, merges, special, parts):
    with pytest.raises(ValueError, match=sentence(*parts)):
        Tokenizer.from_merges(tokens, merges, special, "gpt2")


# ---- tiktoken files ------------------------------------------------------------------------------


def test_a_broken_tiktoken_file_names_the_line(tmp_path):
    path = tmp_path / "broken.tiktoken"
    for second in ("YQ==", "Y*Q== 1", "YQ== one", "YQ== 1 2"):
        path.write_text(f"YQ== 0\n{second}\n")
        with pytest.raises(ValueError, match=sentence("no tiktoken vocabulary: line 2", second)):
            read_tiktoken(path)
    path.write_text("YQ== 0\nYg== 0\n")
    with pytest.raises(ValueError, match="an id of its own"):
        Tokenizer.from_tiktoken_file(path, "gpt2", {})


def test_a_word_that_is_a_token_of_a_tiktoken_file_is_taken_at_once(tmp_path):
    tokens = [*map(bytes, ([value] for value in range(256))), b"bc", b"abcd"]  # no merges lead to the last
    path = tmp_path / "small.tiktoken"
    path.write_text("".join(f"{base64.b64encode(token).decode()} {id}\n" for id, token in enumerate(tokens)))
    assert Tokenizer.from_tiktoken_file(path, "gpt2", {}).encode("abcd abcd") == [257, 32, 97, 256, 100]
    assert Tokenizer.from_tiktoken_file(path, "gpt2", {}, max_rank=256).encode("abcd") == [97, 256, 100]


def test_importing_the_tokenizer_does_not_import_torch():
    code = "import sys, course_lib.input_processing.tokenizer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
