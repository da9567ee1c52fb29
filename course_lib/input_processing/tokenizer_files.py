"""The file formats that vocabularies come in, read into bytes and merges.

tiktoken's, Hugging Face's tokenizer.json, and GPT-2's vocab.json with merges.txt. What would be encoded otherwise
than the format's own library does it is an error that names the entry, never a guess.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field

from course_lib.description import Description, Id, read_json
from course_lib.input_processing.bpe import SINGLE_BYTES, bytes_to_unicode

BYTE_OF = {character: value for value, character in bytes_to_unicode().items()}

# Published patterns are short and repeat at most three times. Compiling such as these takes for ever, or goes too deep.
TOO_MUCH = re.compile(r"\{[\d, ]*\d{3}|[({\[]{50}|^.{5000}", re.DOTALL)

Pair = tuple[bytes, bytes]
Refuse = Callable[[str, object, str], NoReturn]


def to_bytes(
    ids: dict[str, int], merges: Iterable[str | list[str]], special: Mapping[str, int]
) -> tuple[dict[bytes, int], list[Pair]]:
    """Tokens and merges from GPT-2's printable alphabet to bytes. `special`: text → id of those
    that are written as they are.

    A merge is "a b" or [a, b]. Raises ValueError where one names what is no token.
    """
    bytes_of = {}
    for token, id in ids.items():
        try:
            data = bytes([BYTE_OF[character] for character in token])
        except KeyError as error:
            if special.get(token) != id:
                raise ValueError(
                    f"token {token!r} (id {id}) is not in the byte-level alphabet: {error.args[0]!r} stands for no byte"
                ) from None
            continue
        if special.get(token) != id or data == token.encode() or len(data) == 1:
            bytes_of[token] = data
    pairs = []
    for rank, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(token, str) for token in pair)):
            raise ValueError(f"merge {rank} must be two tokens, got {merge!r}")
        for token in (*pair, "".join(pair)):
            if token not in bytes_of:
                raise ValueError(f"merge {rank}, {merge!r}, names {token!r}, which is no token")
        pairs.append((bytes_of[pair[0]], bytes_of[pair[1]]))
    return {data: ids[token] for token, data in bytes_of.items()}, pairs


def read_tiktoken(path: str | Path) -> dict[bytes, int]:
    """token bytes → rank, from lines "<base64> <rank>"."""
    token_ids = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        if line:
            try:
                token, rank = line.split()
                token_ids[base64.b64decode(token, validate=True)] = int(rank)
            except (ValueError, binascii.Error):
                raise ValueError(
                    f"{path} is no tiktoken vocabulary: line {number} must be a token in base64 and"
                    f" its rank, got {line[:40]!r}"
                ) from None
    return token_ids


class _Vocabulary(Description):
    """vocab.json and added_tokens.json, each as one entry."""

    vocab: dict[str, Id]
    added_tokens: dict[str, Id]


class _GPT2Settings(Description):
    """tokenizer_config.json of a GPT-2 without tokenizer.json."""

    tokenizer_class: str = "GPT2Tokenizer"
    add_prefix_space: bool = False


def read_vocab_and_merges(
    folder: str | Path,
) -> tuple[dict[bytes, int], list[Pair], dict[str, int]]:
    """Token ids, merges and special tokens of a folder with vocab.json and merges.txt (GPT-2 alone).

    Raises:
        ValueError: a file is damaged, or of another tokenizer.
    """
    folder = Path(folder)
    said = _Vocabulary.of(
        folder, {"vocab": read_json(folder / "vocab.json"), "added_tokens": _json(folder / "added_tokens.json", {})}
    )
    config = _GPT2Settings.of(folder / "tokenizer_config.json", _json(folder / "tokenizer_config.json", {}))
    if config.tokenizer_class not in ("GPT2Tokenizer", "GPT2TokenizerFast") or config.add_prefix_space:
        raise ValueError(
            f"{folder} holds vocab.json and merges.txt of a {config.tokenizer_class} (add_prefix_space"
            f" {config.add_prefix_space}): without tokenizer.json only GPT-2's are read"
        )
    named = _json(folder / "special_tokens_map.json", {"eos_token": "<|endoftext|>"})
    names = [name.get("content") if isinstance(name, dict) else name for name in named.values()]
    special = said.added_tokens | {
        name: said.vocab[name] for name in names if isinstance(name, str) and name in said.vocab
    }
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise ValueError(f"{folder / 'merges.txt'} is no text in UTF-8 ({error}): fetch it again") from error
    merges = [line for line in lines if line and not line.startswith("#version")]
    token_ids, pairs = to_bytes(said.vocab, merges, special)
    return token_ids, pairs, special


class _AddedToken(Description):
    content: str
    id: Id
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


class _Model(Description):
    type: Literal["BPE"] = "BPE"
    dropout: Any = None
    unk_token: str | None = None
    continuing_subword_prefix: Any = None
    end_of_word_suffix: Any = None
    byte_fallback: bool = False
    ignore_merges: bool = False
    vocab: dict[str, Id]
    merges: list[Any]


class _TokenizerJson(Description):
    """tokenizer.json. What may be of many kinds is told apart where it is used."""

    model: _Model
    added_tokens: tuple[_AddedToken, ...] = Field((), strict=False)
    normalizer: Any = None
    pre_tokenizer: Any = None
    decoder: Any = None
    post_processor: Any = None


def read_tokenizer_json(path: str | Path) -> dict[str, object]:
    """What `Tokenizer` is made of, named as its arguments; merges in place of a rank, special tokens as dicts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry is damaged, or would be encoded otherwise than by `tokenizers`.
    """
    file = _TokenizerJson.of(path, read_json(Path(path)))

    def refuse(entry: str, value: object, expected: str) -> NoReturn:
        raise ValueError(f"{path}: {entry} is {value!r:.300}, which is not supported; {expected}")

    for entry in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if value := getattr(file.model, entry):
            refuse(f"model.{entry}", value, "it must be null")
    if _type(file.decoder) != "ByteLevel":
        refuse("decoder", file.decoder, "it must be ByteLevel")
    if file.normalizer and _type(file.normalizer) != "NFC":
        refuse("normalizer", _type(file.normalizer), "it must be NFC or null")
    pattern, keep_gaps, add_prefix_space = _pre_tokenizer(file.pre_tokenizer, refuse)
    before, behind = _around(file.post_processor, refuse)

    vocabulary, added = file.model.vocab, file.added_tokens
    for token in added:
        if token.single_word:
            refuse(f"added token {token.content!r}", "single_word", "it must match anywhere")
        if token.normalized and file.normalizer:
            refuse(f"added token {token.content!r}", "normalized", "with NFC it must be matched raw")
        if (id := vocabulary.get(token.content, token.id)) != token.id:
            refuse(f"added token {token.content!r}", token.id, f"model.vocab gives it the id {id}")
    token_ids, merges = to_bytes(vocabulary, file.model.merges, {token.content: token.id for token in added})
    lacks_bytes = any(byte not in token_ids for byte in SINGLE_BYTES)
    for entry in ("unk_token", "byte_fallback"):
        if (value := getattr(file.model, entry)) and lacks_bytes:
            refuse(f"model.{entry}", value, "it must be null where byte tokens are missing")
    free = len(vocabulary)  # the id that `tokenizers` gives to the next new token, whatever the file says
    for token in added:
        if token.content not in vocabulary and token.id != free:
            refuse(f"added token {token.content!r}", token.id, f"its id must be {free}, the next one that is free")
        free = max(free, token.id + 1)

    return {
        "token_ids": token_ids,
        "merges": merges,
        "special_tokens": [
            dict(
                text=token.content,
                id=token.id,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                late=token.normalized,
                control=token.special,
            )
            for token in added
        ],
        "pattern": pattern,
        "keep_gaps": keep_gaps,
        "add_prefix_space": add_prefix_space,
        "normalize_nfc": bool(file.normalizer),
        "whole_word_first": file.model.ignore_merges,
        "before": before,
        "behind": behind,
    }


def _type(entry: object) -> object:
    return entry.get("type") if isinstance(entry, dict) else entry


def _pre_tokenizer(entry: object, refuse: Refuse) -> tuple[str, bool, bool]:
    """(pattern, keep_gaps, add_prefix_space) of the pre-tokenizers in use with byte-level BPE."""
    match entry:
        case {"type": "Sequence", "pretokenizers": [*several]}:
            steps = several
        case _:
            steps = [entry]
    usual = {"ByteLevel": {"use_regex": True}, "Split": {"invert": False}}
    match [usual.get(str(step.get("type")), {}) | step if isinstance(step, dict) else step for step in steps]:
        case [{"type": "ByteLevel", "add_prefix_space": bool(add_prefix_space), "use_regex": bool(own_pattern)}]:
            return ("gpt2" if own_pattern else r"(?s:.+)"), False, add_prefix_space
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return "smollm", False, False
        case [
            {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": str(behavior), "invert": bool(invert)},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if (behavior.lower(), invert) in (("isolated", False), ("removed", True)) and not TOO_MUCH.search(pattern):
            return pattern, not invert, False
    refuse(
        "pre_tokenizer",
        entry,
        "it must be ByteLevel, or a Sequence of Digits (individual) and ByteLevel, or a Sequence of"
        " Split (a Regex, Isolated; or Removed and inverted) and ByteLevel without its own pattern",
    )


def _around(entry: object, refuse: Refuse) -> tuple[list[int], list[int]]:
    """The ids that the post-processor puts before a text, and behind it."""
    match entry:
        case None | {"type": "ByteLevel"}:
            return [], []
        case {"type": "BertProcessing" | "RobertaProcessing", "cls": [str(), int(first)], "sep": [str(), int(last)]}:
            return [first], [last]
        case {"type": "Sequence", "processors": [*steps]}:
            adding = [around for step in steps if any(around := _around(step, refuse))]
            if len(adding) < 2:
                return adding[0] if adding else ([], [])
        case {"type": "TemplateProcessing", "single": [*pieces], "special_tokens": {**special}}:
            around: list[list[int]] = [[]]
            for piece in pieces:
                match piece:
                    case {"Sequence": {"id": "A"}}:
                        around.append([])
                    case {"SpecialToken": {"id": str(name)}}:
                        match special.get(name):
                            case {"ids": [*ids]} if all(type(id) is int for id in ids):
                                around[-1] += ids
                            case _:
                                refuse(f"post_processor.special_tokens.{name}", special.get(name), "it must have ids")
                    case _:
                        refuse("post_processor.single", piece, "it must be a special token or the text A")
            if len(around) == 2:
                return around[0], around[1]
    refuse("post_processor", entry, "it must be TemplateProcessing with one text, Bert's, RoBERTa's, ByteLevel or null")


def _json(path: Path, default: dict) -> dict:
    """The object in a JSON file, or `default` if there is no such file."""
    return read_json(path) if path.is_file() else default
