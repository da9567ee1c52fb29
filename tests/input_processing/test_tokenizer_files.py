"""Vocabularies that `tokenizers` trained and wrote, read by ours: the same ids for the same text, or a refusal."""

import json
import unicodedata

import pytest
import regex
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from input_processing.hard_text import any_text, tricky_text
from tokenizers import AddedToken, Regex, decoders, models, normalizers, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Sequence, Split, Whitespace

from course_lib.input_processing.patterns import PATTERNS
from course_lib.input_processing.tokenizer import Tokenizer

TEXT = ["the dog ran up the hill, and the cat didn't; 2026 dogs ran\n\tup  the  hills été naïve 犬が丘を走る 😀"] * 3
BARE = ByteLevel(add_prefix_space=False)
BYTES_ONLY = ByteLevel(add_prefix_space=False, use_regex=False)


def train(pre_tokenizer=BARE, normalizer=None, added=("<|end|>",), **model) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    for token in added:
        tokenizer.add_tokens([token]) if isinstance(token, AddedToken) else tokenizer.add_special_tokens([token])
    return tokenizer


def take_in(token: str, **settings) -> AddedToken:
    return AddedToken(token, **({"normalized": False, "special": True} | settings))


SUPPORTED = {
    "GPT-2": lambda: train(),
    "prefix space": lambda: train(ByteLevel(add_prefix_space=True)),
    "SmolLM": lambda: train(Sequence([Digits(individual_digits=True), BARE])),
    "Llama 3": lambda: _words_no_merge_makes(
        train(Sequence([Split(Regex(PATTERNS["cl100k"]), "isolated"), BYTES_ONLY]), ignore_merges=True)
    ),
    "removed and inverted": lambda: train(
        Sequence([Split(Regex(PATTERNS["o200k"]), "removed", invert=True), BYTES_ONLY])
    ),
    "a pattern with gaps": lambda: train(Sequence([Split(Regex(r"\p{N}+|[ae]"), "isolated"), BYTES_ONLY])),
    "gaps left out": lambda: train(Sequence([Split(Regex(r"\p{L}+"), "removed", invert=True), BYTES_ONLY])),
    "no pattern": lambda: train(BYTES_ONLY),
    "Qwen 2": lambda: train(
        Sequence([Split(Regex(PATTERNS["qwen"]), "isolated"), BYTES_ONLY]),
        normalizers.NFC(),
        [take_in("<|end|>"), take_in("<tool>", special=False), take_in("é|")],
    ),
    "special tokens that take white space": lambda: train(
        added=[
            take_in("<|end|>", lstrip=True),
            take_in("<mask>", rstrip=True),
            take_in("<s>", lstrip=True, rstrip=True),
        ]
    ),
    "overlapping special tokens": lambda: train(added=["<|end|>", "<|end|><s>", "<s>", "><s"]),
    "late and early tokens": lambda: train(added=[AddedToken("<s><", normalized=True), take_in("<|end|>"), "<s>"]),
    "an ordinary token made special": lambda: train(added=["the", "<s>"]),
    "a start token in front": lambda: _with_start_token(train()),
}  # fmt: skip


def _words_no_merge_makes(tokenizer):
    """With half of its merges: the longer words are tokens still, but only `ignore_merges` finds them."""
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"] = file["model"]["merges"][: len(file["model"]["merges"]) // 2]
    return tokenizers.Tokenizer.from_str(json.dumps(file))


def _with_start_token(tokenizer):
    end = tokenizer.token_to_id("<|end|>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", end)])
    return tokenizer


@pytest.fixture(scope="module", params=SUPPORTED)
def pair(request, tmp_path_factory):
    """(ours, theirs), the same file read twice."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    SUPPORTED[request.param]().save(str(path))
    return Tokenizer.from_folder(path.parent), tokenizers.Tokenizer.from_file(str(path))


SPECIAL = st.sampled_from(
    ["<|end|>", "<s>", "<mask>", "<tool>", "é|", "<|end", " ", "\n", "the", " hill", "e\u0301|", "\x1c<s>\x1c"]
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(pieces=st.lists(tricky_text | any_text | SPECIAL, max_size=6))
def test_the_same_ids_and_text_as_tokenizers(pair, pieces):
    ours, theirs = pair
    text = "".join(pieces)
    if theirs.normalizer:  # Python's table of compositions may be older than theirs
        text = "".join(character for character in text if unicodedata.category(character) != "Cn")
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    if "é|" not in ours.special_tokens:  # theirs reads é as the byte E9 and cannot give its own token back
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_sizes_and_special_tokens(pair):
    ours, theirs = pair
    assert ours.vocab_size == theirs.get_vocab_size()
    added = theirs.get_added_tokens_decoder().items()
    assert ours.special_tokens == {token.content: id for id, token in added}
    for text, id in ours.special_tokens.items():
        assert ours.decode([id]) == text
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def saved(tmp_path, tokenizer, **changes) -> str:
    """The path of a tokenizer.json in which `changes` ("model__dropout" → 0.1) are made."""
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    file = json.loads(path.read_text(encoding="utf-8"))
    for entry, value in changes.items():
        *parents, last = entry.split("__")
        place = file
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(json.dumps(file), encoding="utf-8")
    return str(path)


def test_merges_may_be_lists_or_strings(tmp_path):
    tokenizer = train()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    for written in ([list(m) for m in merges], [" ".join(m) for m in merges]):
        ours = Tokenizer.from_tokenizer_json(saved(tmp_path, tokenizer, model__merges=written))
        assert ours.encode(TEXT[0]) == tokenizer.encode(TEXT[0]).ids
        assert len(ours.encode(TEXT[0])) < len(TEXT[0].encode()) // 2


TEXT_A = {"Sequence": {"id": "A", "type_id": 0}}
TWICE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, TEXT_A],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}},
}
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
REFUSED = {
    "normalizer": (lambda: train(normalizer=normalizers.Lowercase()), {}, "normalizer is 'Lowercase'"),
    "pre-tokenizer": (lambda: train(Whitespace()), {}, "pre_tokenizer is"),
    "two splits": (
        lambda: train(Sequence([Punctuation(), Digits(individual_digits=True), BARE])), {}, "pre_tokenizer is"
    ),
    "digits in groups": (lambda: train(Sequence([Digits(individual_digits=False), BARE])), {}, "pre_tokenizer is"),
    "split at a string": (lambda: train(Sequence([Split(" ", "isolated"), BYTES_ONLY])), {}, "pre_tokenizer is"),
    "merged with previous": (
        lambda: train(Sequence([Split(Regex(" "), "merged_with_previous"), BYTES_ONLY])), {}, "pre_tokenizer is"
    ),
    "split, then GPT-2's pattern": (lambda: train(Sequence([Split(Regex(" "), "isolated"), BARE])), {}, "pre_tok"),
    "dropout": (train, {"model__dropout": 0.1}, "model.dropout is 0.1"),
    "suffix": (train, {"model__end_of_word_suffix": "</w>"}, "model.end_of_word_suffix is '</w>'"),
    "decoder": (train, {"decoder": {"type": "WordPiece"}}, "decoder is"),
    "model": (train, {"model": {"type": "Unigram"}}, "model.type is 'Unigram'"),
    "whole words only": (lambda: train(added=[take_in("<s>", single_word=True)]), {}, "added token '<s>' is 'single_"),
    "normalized": (
        lambda: train(normalizer=normalizers.NFC(), added=[take_in("é", normalized=True)]), {}, "added token 'é' is"
    ),
    "two start tokens": (
        train, {"post_processor": {"type": "Sequence", "processors": [TWICE, TWICE]}}, "post_processor is"
    ),
    "two texts": (train, {"post_processor": TWICE | {"single": [TEXT_A, TEXT_A]}}, "post_processor is"),
    "a start token without an id": (train, {"post_processor": TWICE | {"special_tokens": {}}}, "_tokens.<s> is None"),
    "a start token that is no token": (
        train, {"post_processor": TWICE | {"special_tokens": {"<s>": {"ids": [999]}}}}, "token id 999 is outside"
    ),
    "a pattern that takes for ever": (
        lambda: train(Sequence([Split(Regex("a"), "isolated"), BYTES_ONLY])),
        {"pre_tokenizer__pretokenizers": [SPLIT | {"pattern": {"Regex": "a{1000000000}"}}, BYTES]},
        "pre_tokenizer is",
    ),
    "a pattern that is too deep": (
        lambda: train(Sequence([Split(Regex("a"), "isolated"), BYTES_ONLY])),
        {"pre_tokenizer__pretokenizers": [SPLIT | {"pattern": {"Regex": "(" * 400 + "a" + ")" * 400}}, BYTES]},
        "pre_tokenizer is",
    ),
    "a merge of nothing": (train, {"model__merges": [["q", "q"]]}, "names 'qq', which is no token"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_encoded_otherwise_is_refused(tmp_path, case):
    make, changes, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=regex.escape(sentence)):
        Tokenizer.from_tokenizer_json(saved(tmp_path, make(), **changes))


def test_an_unknown_token_is_refused_only_where_it_could_be_used(tmp_path):
    tokenizer = train(unk_token="<|end|>")
    path = saved(tmp_path, tokenizer)
    assert Tokenizer.from_tokenizer_json(path).encode("dog ran") == tokenizer.encode("dog ran").ids
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    del vocabulary["Ā"]
    with pytest.raises(ValueError, match=r"model.unk_token is '<\|end\|>'.* byte tokens are missing"):
        Tokenizer.from_tokenizer_json(saved(tmp_path, tokenizer, model__vocab=vocabulary))


def test_a_folder_in_gpt2s_first_layout(tmp_path):
    tokenizer = train(added=())
    tokenizer.model.save(str(tmp_path))
    new = tokenizer.get_vocab_size()
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|new|>": new}))
    tokenizer.add_special_tokens(["<|new|>"])
    ours = Tokenizer.from_folder(tmp_path)
    for text in (*TEXT, "the<|new|> 😀 \x00"):
        assert ours.encode(text) == tokenizer.encode(text).ids
        assert ours.decode(ours.encode(text)) == text

    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "cow"}}))
    assert Tokenizer.from_folder(tmp_path).special_tokens == {"<|new|>": new}  # "cow" is no token of this vocabulary
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    with pytest.raises(ValueError, match=r"merges\.txt of a Qwen2Tokenizer"):
        Tokenizer.from_folder(tmp_path)


def test_gpt2s_end_of_text_is_special_in_its_first_layout(tmp_path):
    tokenizer = train(added=())
    vocabulary = tokenizer.get_vocab() | {"<|endoftext|>": 340}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.encode("a<|endoftext|>") == [vocabulary["a"], 340]
    assert 340 not in ours.encode("a<|endoftext|>", special_tokens=False)


def test_a_folder_without_a_tokenizer_and_a_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer: neither tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        Tokenizer.from_folder(tmp_path)


# ---- what stands around a text -------------------------------------------------------------------

END, START = ("<|end|>", 317), ("<s>", 318)  # as `train` numbers them
AROUND = {
    "none": None,
    "ByteLevel": processors.ByteLevel(trim_offsets=True),
    "start": processors.TemplateProcessing(single="<|end|> $A", special_tokens=[END]),
    "start and end": processors.TemplateProcessing(single="<s> <|end|> $A:0 <|end|>", special_tokens=[END, START]),
    "Llama 3": processors.Sequence(
        [processors.ByteLevel(), processors.TemplateProcessing(single="<s> $A", special_tokens=[START])]
    ),
    "RoBERTa": processors.RobertaProcessing(END, START),
    "BERT": processors.BertProcessing(END, START),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_the_post_processor_puts_around_a_text(name, tmp_path):
    theirs = train(added=("<|end|>", "<s>"))
    assert END[1] == theirs.token_to_id("<|end|>") and START[1] == theirs.token_to_id("<s>")
    if AROUND[name]:
        theirs.post_processor = AROUND[name]
    ours = Tokenizer.from_tokenizer_json(saved(tmp_path, theirs))
    for text in ("the dog ran", "", "<s>"):
        assert [*ours.before, *ours.encode(text), *ours.behind] == theirs.encode(text).ids


# ---- damage --------------------------------------------------------------------------------------


def entries(value, *path):
    """The path of every entry of a file, but of the thousands alike only the first three."""
    yield path
    inside = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, part in inside[: 3 if len(inside) > 20 else None]:
        yield from entries(part, *path, key)


def damaged(file, path, value):
    """A copy of the file with another value at the path; ... takes the entry out."""
    copy = json.loads(json.dumps(file))
    *parents, last = path
    place = copy
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


@pytest.mark.parametrize("name", ["SmolLM", "Llama 3", "a start token in front"])
def test_a_damaged_file_is_a_sentence_or_read_as_tokenizers_reads_it(name, tmp_path):
    whole = json.loads(SUPPORTED[name]().to_str())
    path, outcomes = tmp_path / "tokenizer.json", {"refused": 0, "as theirs": 0, "by ours alone": 0}
    usual = Tokenizer.from_tokenizer_json(saved(tmp_path, SUPPORTED[name]()))
    for place in list(entries(whole))[1:]:
        for value in (..., None, "x", 3, -1, 1.5, 10**12, True, [], {}, [[]], {"type": "x"}):
            path.write_text(json.dumps(damaged(whole, place, value)))
            try:
                ours = Tokenizer.from_tokenizer_json(path)
            except ValueError:
                outcomes["refused"] += 1
                continue
            try:
                theirs = tokenizers.Tokenizer.from_file(str(path)).encode(TEXT[0] + "<|end|>").ids
                outcomes["as theirs"] += 1
            except Exception:
                theirs = [*usual.before, *usual.encode(TEXT[0] + "<|end|>"), *usual.behind]
                outcomes["by ours alone"] += 1
            assert [*ours.before, *ours.encode(TEXT[0] + "<|end|>"), *ours.behind] == theirs, (place, value)
    assert outcomes["refused"] > outcomes["as theirs"] > 0, outcomes


def test_what_is_missing_is_named(tmp_path):
    for entry in ("merges", "vocab"):
        whole = json.loads(train().to_str())
        del whole["model"][entry]
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
        with pytest.raises(ValueError, match=rf"tokenizer.json lacks model.{entry}$"):
            Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"[1]", b"null", b"[" * 100_000, b"\xff", b'{"model": null}', b'{"a": 1}'])
@pytest.mark.parametrize("file", ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"])
def test_a_damaged_folder_in_gpt2s_first_layout(tmp_path, file, content):
    tokenizer = train(added=())
    tokenizer.model.save(str(tmp_path))
    (tmp_path / file).write_bytes(content)
    try:
        ours = Tokenizer.from_folder(tmp_path)
    except ValueError as error:
        assert any(word in str(error) for word in (file.split(".")[0], "merge", "special_tokens gives"))
    else:
        assert content in (b'{"a": 1}', b'{"model": null}') and ours.encode(TEXT[0])
