"""What a model's files say about chats: which ids end a text, the chat template, and its names for special tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from course_lib.description import Description, Id, Ids, read_json

GGUF_TOKENS = {  # a name in a GGUF file → the name in a chat template
    "bos": "bos_token",
    "eos": "eos_token",
    "unknown": "unk_token",
    "separator": "sep_token",
    "padding": "pad_token",
    "cls": "cls_token",
    "mask": "mask_token",
}


@dataclass(frozen=True)
class Chats:
    """`template` is one, or several by name; `special_tokens` are the names that it may use → their texts."""

    end_ids: set[int]
    template: str | dict[str, str] | None = None
    special_tokens: dict[str, str] = field(default_factory=dict)


class _Ends(Description):
    eos_token_id: Ids = None


class _Named(Description):
    name: str
    template: str


class _Templates(Description):
    """The chat_template of tokenizer_config.json: a text, or a list of named ones."""

    one: str | None = None
    named: list[_Named] | None = None


def _content(token: object) -> object:
    return token.get("content", token) if isinstance(token, dict) else token


TokenText = Annotated[str | None, BeforeValidator(_content)]


class _SpecialTokens(Description):
    """Of tokenizer_config.json; each is a text, or an object that holds it."""

    bos_token: TokenText = None
    eos_token: TokenText = None
    unk_token: TokenText = None
    sep_token: TokenText = None
    pad_token: TokenText = None
    cls_token: TokenText = None
    mask_token: TokenText = None


def chats_from_folder(folder: Path) -> Chats:
    """From config.json, generation_config.json, tokenizer_config.json and the folder's *.jinja files.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: a file is damaged.
    """
    settings = read_json(folder / "config.json")
    source = "config.json"
    if (folder / "generation_config.json").is_file():
        newer = read_json(folder / "generation_config.json")
        source = "generation_config.json" if "eos_token_id" in newer else source
        settings |= newer
    ends = set(_Ends.of(source, settings).eos_token_id)
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    return Chats(ends, _templates(folder, config.get("chat_template")), _special_tokens(folder, config))


def _templates(folder: Path, in_config: object) -> str | dict[str, str] | None:
    """Files of their own come before tokenizer_config.json."""
    files = {path.stem: path for path in (folder / "additional_chat_templates").glob("*.jinja") if path.is_file()}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        named = {name: _text(path) for name, path in files.items()}
    elif isinstance(in_config, list):
        said = _Templates.of("tokenizer_config.json: chat_template", {"named": in_config})
        named = {one.name: one.template for one in said.named}
    else:
        return _Templates.of("tokenizer_config.json: chat_template", {"one": in_config}).one
    return named["default"] if list(named) == ["default"] else named


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except ValueError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}): fetch it again") from error


def _special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    if "added_tokens_decoder" not in config and (folder / "special_tokens_map.json").is_file():  # the older layout
        config = config | read_json(folder / "special_tokens_map.json")
    known = _SpecialTokens.of("tokenizer_config.json", config).model_dump(exclude_none=True)
    extra = config.get("extra_special_tokens")
    others = {name: text for name, text in config.items() if name.endswith("_token")}
    others |= extra if isinstance(extra, dict) else {}
    return {name: text for name, text in others.items() if isinstance(text, str)} | known


class _GGUF(Description):
    tokens: list[str]
    ids: dict[str, Id]
    template: str | None = None
    named: dict[str, str]


def chats_from_gguf(metadata: Mapping[str, object]) -> Chats:
    """From a GGUF file's metadata.

    Raises:
        ValueError: an entry is of another type, or names no token.
    """
    ids = {key: metadata[key] for kind in ("eos", "eot", "eom", *GGUF_TOKENS) if (key := _key(kind)) in metadata}
    prefix = "tokenizer.chat_template."
    said = _GGUF.of(
        "the GGUF metadata",
        {
            "tokens": metadata.get("tokenizer.ggml.tokens"),
            "ids": ids,
            "template": metadata.get("tokenizer.chat_template"),
            "named": {key.removeprefix(prefix): text for key, text in metadata.items() if key.startswith(prefix)},
        },
    )
    if strange := {id for id in said.ids.values() if id >= len(said.tokens)}:
        raise ValueError(
            f"the GGUF metadata names the token {min(strange)}, and has {len(said.tokens)}: fetch it again"
        )
    named = said.named | ({} if said.template is None else {"default": said.template})
    return Chats(
        {said.ids[key] for kind in ("eos", "eot", "eom") if (key := _key(kind)) in said.ids},
        said.template if not said.named else named,
        {name: said.tokens[said.ids[key]] for kind, name in GGUF_TOKENS.items() if (key := _key(kind)) in said.ids},
    )


def _key(kind: str) -> str:
    return f"tokenizer.ggml.{kind}_token_id"
