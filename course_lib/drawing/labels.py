"""Tokens and sentences as figures write them: every character visible, nothing wider than its room."""

import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from matplotlib import get_data_path
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import TextPath

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥"}
MARKS_IN_PROSE = {character: mark for character, mark in MARKS.items() if character != " "}


@cache
def _glyphs() -> frozenset[int]:
    font = FT2Font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")))
    return frozenset(font.get_charmap())


def _piece(character: str) -> str:
    seen = ord(character) in _glyphs() and unicodedata.category(character)[0] not in "CZ"
    return character if seen or character == " " else f"<U+{ord(character):04X}>"


def visible(token: str, limit: int = 24, marks: Mapping[str, str] = MARKS) -> str:
    """A token as a reader can see it: ␣ for a space, ↵ for a newline, <U+XXXX> without a glyph.

    At most `limit` characters, the last of them "…" where there is more; '""' for no text at all.
    """
    pieces = [marks.get(c) or _piece(c) for c in token] or ['""']
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    while sum(map(len, pieces)) > limit - 1:
        pieces.pop()
    return "".join(pieces) + "…"


def without_formulas(text: str) -> str:
    # a pair of dollars would start a formula
    return text.replace("$", r"\$")


def axis_label(token: str, inches: float = 1.0) -> str:
    """A token beside an axis."""
    return without_formulas(shortened(token, 9.5, inches))


def prose(text: str, limit: int = 200) -> str:
    """Titles and names: spaces stay spaces."""
    return without_formulas(visible(text, limit, MARKS_IN_PROSE)) if text else ""


def shortened(token: str, size: float, inches: float) -> str:
    """As much of the visible token as fits into this many inches."""
    limit = len(visible(token))
    while limit > 1 and text_inches(visible(token, limit), size) > inches:
        limit -= 1
    return visible(token, limit)


def text_inches(text: str, size: float) -> float:
    return size * _text_width(text, FontProperties()) / 72


@lru_cache(maxsize=4096)  # a figure measures each token several times
def _text_width(text: str, font: FontProperties) -> float:
    return TextPath((0, 0), without_formulas(text), size=1, prop=font).get_extents().width
