"""The file formats that vocabularies come in, read into bytes and merges.

tiktoken's, Hugging Face's tokenizer.json, and GPT-2's vocab.json with merges.txt. What would be encoded otherwise
than the format's own library does it is an error that names the entry, never a guess.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from course_lib.input_processing.bpe import SINGLE_BYTES, bytes_to_unicode

BYTE_OF = {character: value for value, character in bytes_to_unicode().items()}

Pair = tuple[bytes, bytes]


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
        pair = merge.split(" ") if isinstance(merge, str) else list(merge)
        if len(pair) != 2:
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


def read_vocab_and_merges(
    folder: str | Path,
) -> tuple[dict[bytes, int], list[Pair], dict[str, int]]:
    """Token ids, merges and special tokens of a folder with vocab.json and merges.txt (GPT-2 alone)."""
    folder = Path(folder)
    vocabulary = _json(folder / "vocab.json")
    config = _json(folder / "tokenizer_config.json", {})
    kind = config.get("tokenizer_class", "GPT2Tokenizer")
    if kind not in ("GPT2Tokenizer", "GPT2TokenizerFast") or config.get("add_prefix_space"):
        raise ValueError(
            f"{folder} holds vocab.json and merges.txt of a {kind} (add_prefix_space"
            f" {config.get('add_prefix_space', False)}): without tokenizer.json only GPT-2's are read"
        )
    named = _json(folder / "special_tokens_map.json", {"eos_token": "<|endoftext|>"})
    names = [name["content"] if isinstance(name, dict) else name for name in named.values()]
    special = _json(folder / "added_tokens.json", {}) | {
        name: vocabulary[name] for name in names if isinstance(name, str) and name in vocabulary
    }
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    token_ids, pairs = to_bytes(vocabulary, merges, special)
    return token_ids, pairs, special


def read_tokenizer_json(path: str | Path) -> dict[str, object]:
    """What `Tokenizer` is made of, named as its arguments; merges in place of a rank, special tokens as dicts."""
    file = _json(Path(path))

    def refuse(entry: str, value: object, expected: str):
        raise ValueError(f"{path}: {entry} is {value!r}, which is not supported; {expected}")

    model = file.get("model") or {}
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        refuse("model.type", model.get("type"), "it must be BPE")
    for entry in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(entry):
            refuse(f"model.{entry}", model[entry], "it must be null")
    if (file.get("decoder") or {}).get("type") != "ByteLevel":
        refuse("decoder", file.get("decoder"), "it must be ByteLevel")

    pattern, keep_gaps, add_prefix_space = _pre_tokenizer(file.get("pre_tokenizer") or {}, refuse)
    normalizer = (file.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC"):
        refuse("normalizer", normalizer, "it must be NFC or null")

    special = []
    for token in file.get("added_tokens") or []:
        if token.get("single_word"):
            refuse(f"added token {token['content']!r}", "single_word", "it must match anywhere")
        if token.get("normalized") and normalizer:
            refuse(f"added token {token['content']!r}", "normalized", "with NFC it must be matched raw")
        special.append(
            {
                "text": token["content"],
                "id": token["id"],
                "lstrip": token.get("lstrip", False),
                "rstrip": token.get("rstrip", False),
                "late": token.get("normalized", False),
            }
        )

    for token in special:
        if (id := model["vocab"].get(token["text"], token["id"])) != token["id"]:
            refuse(f"added token {token['text']!r}", token["id"], f"model.vocab gives it the id {id}")
    token_ids, merges = to_bytes(model["vocab"], model["merges"], {token["text"]: token["id"] for token in special})
    lacks_bytes = any(byte not in token_ids for byte in SINGLE_BYTES)
    for entry in ("unk_token", "byte_fallback"):
        if model.get(entry) and lacks_bytes:
            refuse(f"model.{entry}", model[entry], "it must be null where byte tokens are missing")

    return {
        "token_ids": token_ids,
        "merges": merges,
        "special_tokens": special,
        "pattern": pattern,
        "keep_gaps": keep_gaps,
        "add_prefix_space": add_prefix_space,
        "normalize_nfc": normalizer == "NFC",
        "whole_word_first": bool(model.get("ignore_merges")),
    }


def _pre_tokenizer(entry: dict, refuse) -> tuple[str, bool, bool]:
    """(pattern, keep_gaps, add_prefix_space) of the pre-tokenizers in use with byte-level BPE."""
    expected = (
        "it must be ByteLevel, or a Sequence of Digits (individual) and ByteLevel, or a Sequence of"
        " Split (a Regex, Isolated; or Removed and inverted) and ByteLevel without its own pattern"
    )
    steps = entry.get("pretokenizers", [entry])
    kinds = [step.get("type") for step in steps]
    byte_level = steps[-1]
    add_prefix_space = byte_level.get("add_prefix_space", True)
    own_pattern = byte_level.get("use_regex", True)

    if kinds == ["ByteLevel"]:
        return ("gpt2" if own_pattern else r"(?s:.+)"), False, add_prefix_space
    if len(kinds) == 2 and kinds[1] == "ByteLevel" and not add_prefix_space:
        first = steps[0]
        if kinds[0] == "Digits" and first["individual_digits"] and own_pattern:
            return "smollm", False, False
        if kinds[0] == "Split" and "Regex" in first["pattern"] and not own_pattern:
            cut = first["behavior"].lower(), bool(first.get("invert"))
            if cut in (("isolated", False), ("removed", True)):
                return first["pattern"]["Regex"], cut[0] == "isolated", False
    refuse("pre_tokenizer", entry, expected)


def _json(path: Path, default: dict | None = None) -> dict:
    """The object in a JSON file, or `default` where one is given and there is no such file."""
    if default is not None and not path.is_file():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content
