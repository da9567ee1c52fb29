"""A program that renders chat templates, which come from strangers: `chat_template.py` starts it, and stops it.

It runs in a process of its own, so that a template that never ends, or that wants all the memory, ends alone. Standard
input holds a template and the variables of each rendering (`marshal`); standard output gets, in JSON, a pair for each:
the text and None, or None and why there is none. The environment is that of `apply_chat_template` in `transformers`.
"""

import contextlib
import json
import marshal
import sys
from datetime import datetime

import jinja2
import jinja2.ext
from jinja2.nodes import CallBlock
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 2**30  # bytes
CHARACTERS = 2**24  # more than any context holds


class Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %} mark what the assistant wrote; the text stays as it is."""

    tags = frozenset({"generation"})

    def parse(self, parser: jinja2.parser.Parser) -> CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller: jinja2.runtime.Macro) -> str:
        return caller()


class Dict:
    """`dict` for templates: it makes dictionaries, and hands out nothing of the type itself."""

    def __call__(self, *args, **kwargs) -> dict:
        return dict(*args, **kwargs)

    def fromkeys(self, *args) -> dict:
        return dict.fromkeys(*args)


class Namespace(jinja2.utils.Namespace):
    """`namespace` for templates, without names that begin with an underscore."""

    def __init__(*args, **kwargs):  # as in Jinja2, so that a template may set `self`
        self, args = args[0], args[1:]
        jinja2.utils.Namespace.__init__(self)
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: object) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)


def refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


def to_json(value: object, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """As Python writes it: Jinja2's own `tojson` escapes HTML and sorts the keys."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda format: datetime.now().strftime(format),
        "dict": Dict(),
        "namespace": Namespace,
    }
    return made


def render(text: str, renderings: list[dict]) -> list[tuple[str | None, str | None]]:
    """The template's text with each of the variables, and None; or None and why there is none."""
    results: list[tuple[str | None, str | None]] = []
    for variables in renderings:
        try:
            pieces, characters = [], 0
            for piece in environment().from_string(text).generate(variables):
                pieces.append(piece)
                if (characters := characters + len(piece)) > CHARACTERS:
                    raise OverflowError(f"it writes more than {CHARACTERS:,} characters")
            results.append(("".join(pieces), None))
        except Exception as error:
            results.append((None, f"{type(error).__name__}: {error}"[:500]))
    return results


def main() -> None:
    text, renderings = marshal.load(sys.stdin.buffer)
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit; macOS may refuse it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    json.dump(render(text, renderings), sys.stdout)


if __name__ == "__main__":
    main()
