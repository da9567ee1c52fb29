"""A conversation as one text: the model's own template, in Jinja2, says how. And that text's ids.

Both are what `apply_chat_template` in `transformers` gives, with one difference in the ids: a special token that
somebody typed is text like any other, not the end of a message.
"""

import json
import marshal
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from course_lib.input_processing.tokenizer import Tokenizer

Message: TypeAlias = dict[str, Any]  # {"role": "user", "content": "Hello"}
Template: TypeAlias = str | dict[str, str]  # several have names: "default", and "tool_use" where there are tools

SANDBOX = Path(__file__).with_name("template_sandbox.py")
SECONDS = 5  # a rendering takes a fraction of one, the start of its process included
REASONING = ("reasoning_content", "thinking", "reasoning")  # what people call a model's thoughts before its answer
UNUSED = range(0x40000, 0xE0000)  # no character has one of these code points


class _Given(NamedTuple):
    """What people hand in, each in plain types."""

    messages: list[Message]
    tools: list[dict] | None
    documents: list[dict] | None
    others: list[dict]  # one: the template's other variables


def render_chat(
    template: Template,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str] | None = None,
    *,
    tools: Sequence[dict] | None = None,
    documents: Sequence[dict] | None = None,
    **variables,
) -> str:
    """The conversation as text, ending where the assistant is to speak.

    The template comes with the model, from strangers: it runs in Jinja2's sandbox, in a process of its own, and not for
    long. `special_tokens` are names that it may use, such as bos_token. `tools` are JSON schemas and `documents` texts
    to answer from, for templates that know of them; `variables` are what else a template knows of.

    Raises:
        ValueError: messages are not a list of role and content, or the template refuses them, fails or does not end.
    """
    given = _given(messages, tools, documents, variables)
    return _first(_render(_chosen(template, tools), [given], special_tokens))


def chat_ids(
    tokenizer: Tokenizer,
    template: Template,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str] | None = None,
    *,
    tools: Sequence[dict] | None = None,
    documents: Sequence[dict] | None = None,
    **variables,
) -> list[int]:
    """The ids of what `render_chat` gives. A special token that was typed is text; the template's own are special.

    To tell them apart, the conversation is rendered twice, the second time with other characters for what was typed. If
    a template treats a typed token in a way of its own, so that more than these characters differs, the token stays
    special: many look for "</think>" in an answer.

    Raises:
        ValueError: as in `render_chat`, or the template mixes what was typed with its own.
    """
    chosen, given = _chosen(template, tools), _given(messages, tools, documents, variables)
    in_template = {token for token in tokenizer.special_tokens if token in chosen and not token.isspace()}
    control = tokenizer.control_tokens | in_template
    typed = [
        (kind, number, token)
        for kind, parts in given._asdict().items()
        for number, part in enumerate(parts or ())
        for token in sorted(control)
        if any(token in text for text in _texts(part))
    ]
    used = set(chosen).union(*_texts(list(given)))
    unused = (chr(code) for code in UNUSED if chr(code) not in used)
    mask = dict(zip(sorted(set().union(*(token for *_, token in typed))), unused, strict=False))
    there, back = str.maketrans(mask), str.maketrans({other: own for own, other in mask.items()})

    def hidden(typed: list[tuple[str, int, str]]) -> _Given:
        parts = {kind: list(parts) for kind, parts in given._asdict().items() if parts is not None}
        for kind, number in {(kind, number) for kind, number, _ in typed}:
            tokens = [token for *place, token in typed if place == [kind, number]]
            pattern = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))
            parts[kind][number] = _changed(
                parts[kind][number], lambda text, pattern=pattern: pattern.sub(lambda m: m[0].translate(there), text)
            )
        return given._replace(**parts)

    results = _render(chosen, [given, hidden(typed)] if typed else [given], special_tokens)
    text, other = _first(results), results[-1][0]
    if other is None or other.translate(back) != text:
        alone = [other for other, _ in _render(chosen, [hidden([one]) for one in typed], special_tokens)]
        typed = [
            one
            for one, result in zip(typed, alone, strict=True)
            if result is not None and result.translate(back) == text
        ]
        [(other, _)] = _render(chosen, [hidden(typed)], special_tokens)
    if other is None or other.translate(back) != text:
        raise ValueError(
            "the model's chat template mixes its special tokens with those that were typed: leave them out"
        )
    return [
        id
        for piece in tokenizer.pieces(other)
        for id in ([piece] if isinstance(piece, int) else tokenizer.encode(piece.translate(back), special_tokens=False))
    ]


# ---- what people hand in -------------------------------------------------------------------------


def _given(messages: object, tools: object, documents: object, variables: dict) -> _Given:
    for message in messages if isinstance(messages, Sequence) else [messages]:
        if not (isinstance(message, dict) and isinstance(message.get("role"), str) and _says_something(message)):
            raise ValueError(f'a message must be like {{"role": "user", "content": "Hello"}}, got {message!r:.200}')
    if not messages:
        raise ValueError('messages is empty: give at least {"role": "user", "content": "Hello"}')
    for name, parts in (("tools", tools), ("documents", documents)):
        several = isinstance(parts, Sequence) and all(isinstance(part, dict) for part in parts)
        if parts is not None and not several:
            raise ValueError(f"{name} must be a list of dictionaries, got {parts!r:.200}")
    try:
        return _Given(
            [_with_thoughts(message) for message in _plain(list(messages))],
            *(None if parts is None else _plain(list(parts)) for parts in (tools, documents)),
            [_plain(variables)],
        )
    except RecursionError:
        raise ValueError(
            "a message holds lists or dictionaries in one another too deeply: does one hold itself?"
        ) from None


def _says_something(message: Message) -> bool:
    """A text, a list of parts, or None beside something else, such as tool_calls."""
    match message.get("content"):
        case str():
            return True
        case [*parts]:
            return all(isinstance(part, dict | str) for part in parts)
        case None:
            return any(value is not None for name, value in message.items() if name not in ("role", "content"))
    return False


def _with_thoughts(message: Message) -> Message:
    """Without what is None, and with the thoughts under the names that templates read."""
    message = {name: value for name, value in message.items() if value is not None}
    thoughts = next((message[name] for name in REASONING if name in message), None)
    return message if thoughts is None else {"thinking": thoughts, **message, "reasoning_content": thoughts}


def _plain(value: object) -> object:
    """The value in Python's plain types; what has none is named by its type, so that no template gets hold of it."""
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case np.generic():
            return _plain(value.item())
        case Mapping():
            return {_plain(name): _plain(part) for name, part in value.items()}
        case list() | tuple():
            return (list if isinstance(value, list) else tuple)(_plain(part) for part in value)
        case _:
            return f"<{type(value).__name__}>"


def _changed(value: object, change: Callable[[str], str]) -> object:
    """The value with every text in it changed, but for the names in dictionaries."""
    match value:
        case str():
            return change(value)
        case dict():
            return {name: _changed(part, change) for name, part in value.items()}
        case list() | tuple():
            return type(value)(_changed(part, change) for part in value)
    return value


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for part in value.values():
                yield from _texts(part)
        case list() | tuple():
            for part in value:
                yield from _texts(part)


# ---- the template --------------------------------------------------------------------------------


def _chosen(template: Template, tools: Sequence[dict] | None) -> str:
    if isinstance(template, str):
        return template
    for name in ("tool_use", "default") if tools is not None else ("default",):
        if name in template:
            return template[name]
    raise ValueError(f"this model has chat templates for {', '.join(template)}, and no default: give one of them")


def _render(
    template: str, conversations: Sequence[_Given], special_tokens: Mapping[str, str] | None
) -> list[tuple[str | None, str | None]]:
    """Each conversation's text and None, or None and why the template did not give one."""
    return _run(
        template,
        [
            {**(special_tokens or {}), "add_generation_prompt": True, **given.others[0]}
            | {"messages": given.messages, "tools": given.tools, "documents": given.documents}
            for given in conversations
        ],
    )


def _run(template: str, renderings: list[dict]) -> list[tuple[str | None, str | None]]:
    """`template_sandbox.render`, in a process of its own."""
    try:
        sent = marshal.dumps((template, renderings))
    except ValueError as error:
        raise ValueError(f"a conversation must not hold itself ({error})") from None
    try:
        done = subprocess.run([sys.executable, "-P", SANDBOX], input=sent, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"the model's chat template did not end within {SECONDS} seconds, and was stopped") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ValueError(f"the model's chat template ended its process ({why[0]})")
    return [(text, error) for text, error in json.loads(done.stdout)]


def _first(results: list[tuple[str | None, str | None]]) -> str:
    text, error = results[0]
    if text is None:
        raise ValueError(f"the model's chat template does not take these messages: {error}")
    return text
