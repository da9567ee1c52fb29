"""A conversation as one text: the model's own template, in Jinja2, says how."""

from collections.abc import Sequence

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = dict[str, str]  # {"role": "user", "content": "Hello"}


def render_chat(template: str, messages: Sequence[Message], special_tokens: dict[str, str] | None = None) -> str:
    """The conversation as text, ending where the assistant is to speak.

    The template comes with the model, from strangers: it runs in Jinja2's sandbox. `special_tokens` are names that it
    may use, such as bos_token.

    Raises:
        ValueError: messages are not a list of role and content, or the template refuses them.
    """
    for message in messages:
        if not (
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
        ):
            raise ValueError(f'a message must be like {{"role": "user", "content": "Hello"}}, got {message!r}')
    if not messages:
        raise ValueError('messages is empty: give at least {"role": "user", "content": "Hello"}')
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    try:
        return environment.from_string(template).render(
            messages=list(messages), add_generation_prompt=True, **(special_tokens or {})
        )
    except jinja2.TemplateError as error:
        raise ValueError(f"the model's chat template does not take these messages: {error}") from error


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)
