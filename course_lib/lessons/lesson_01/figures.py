"""Tokens to look at: one text in several vocabularies, and what vocabularies cost and save.

`comparison_html` is what the widget `token_explorer` shows; `comparison_figure` is the same for readers without a
kernel.
"""

from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from course_lib.drawing.figures import (
    CHIP_PITCH,
    WIDTH,
    as_array,
    blank_page,
    chip_rows,
    draw_chips,
    same_length,
    write_heading,
)
from course_lib.drawing.labels import MARKS, prose
from course_lib.drawing.style import INK, MUTED, PAPER, PHASES, course_style, on_ground, sequential, text_on
from course_lib.input_processing.tokenizer import Tokenizer

LONGEST_SHOWN = 300  # tokens in each vocabulary: more are a wall, and slow to show
TINTS = (PHASES[1].pale, PAPER, "#c4e6d6")  # neighbours differ; borders and ids tell tokens apart without colour


def token_label(tokenizer: Tokenizer, id: int) -> str:
    """A token as it can be read: ␣ for a space, ↵ for a line break, <0xE7> for a byte of half a character.

    What has no shape of its own (a joiner between emoji, a control character) is written <U+200D>.
    """
    text = tokenizer.token_bytes(id).decode("utf-8", errors="surrogateescape")
    return "".join(map(_mark, text)) or '""'


def _mark(character: str) -> str:
    if mark := (MARKS | {"\r": "␍"}).get(character):  # a browser has this sign, the figures' font has not
        return mark
    if "\udc80" <= character <= "\udcff":  # how surrogateescape keeps a byte that is no character
        return f"<0x{ord(character) - 0xDC00:02X}>"
    return character if character.isprintable() else f"<U+{ord(character):04X}>"


# ---- one text in several vocabularies -----------------------------------------------------------


def comparison_html(text: str, tokenizers: Mapping[str, Tokenizer]) -> str:
    """A row for each vocabulary: how many tokens the text is, and the tokens with their ids below.

    All of it is text: a screen reader reads the rows as lists. Special tokens are read as the text they are, since a
    user typed them. Of a long text the first 300 tokens are shown, and a sentence says so; all are counted.
    Raises ValueError where the text holds a lone surrogate.
    """
    if text == "":
        return "<p>There is no text, so there are no tokens: 0 in every vocabulary.</p>"
    rows = [_sizes(text)]
    for name, tokenizer in tokenizers.items():
        ids = tokenizer.encode(text, special_tokens=False)
        heading = f"<b>{escape(name)}</b> {_count(text, ids)}"
        chips = "".join(_chip(token_label(tokenizer, id), id, i) for i, id in enumerate(ids[:LONGEST_SHOWN]))
        more = f"<p>The first {LONGEST_SHOWN} of {len(ids):,} tokens are shown.</p>" if len(ids) > LONGEST_SHOWN else ""
        list_ = f'<div role="list" aria-label="tokens of {escape(name)}" style="{_ROW}">{chips}</div>'
        rows.append(f'<div style="margin: 10px 0">{heading}{list_}{more}</div>')
    return f'<div style="line-height: 1.35">{"".join(rows)}</div>'


_ROW = "display: flex; flex-wrap: wrap; gap: 4px 3px; margin-top: 3px"


def _sizes(text: str) -> str:
    n_bytes = len(text.encode("utf-8", errors="replace"))
    return f"<p>{_plural(len(text), 'character')}, {_plural(n_bytes, 'byte')}</p>"


def _count(text: str, ids: Sequence[int]) -> str:
    if not ids:
        return "0 tokens: this vocabulary has no token for any byte of it"
    return f"{_plural(len(ids), 'token')}, {len(text) / len(ids):.1f} characters each"


def _plural(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"


def _chip(label: str, id: int, place: int) -> str:
    box = (
        f"{on_ground(TINTS[place % len(TINTS)])}; border: 1px solid {PHASES[1].strong}; border-radius: 4px; "
        "padding: 1px 4px; white-space: pre; font-family: monospace"
    )
    number = f'<span style="font-size: 75%">{id}</span>'
    token = f'<span style="{box}">{escape(label)}</span><br>{number}'
    return f'<span role="listitem" style="text-align: center">{token}</span>'


def token_explorer(tokenizers: Mapping[str, Tokenizer], text: str):
    """A field to type a text in, and below it the text's tokens in every vocabulary, at each key."""
    import ipywidgets

    field = ipywidgets.Textarea(text, description="text", rows=3, layout={"width": "46em"})
    tokens = ipywidgets.HTML()

    def redraw(_=None) -> None:
        try:
            tokens.value = comparison_html(field.value, tokenizers)
        except ValueError as error:
            sentence = str(error)
            tokens.value = f'<span role="alert">⚠ {escape(sentence[:1].upper() + sentence[1:])}.</span>'

    field.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([field, tokens])


@course_style()
def comparison_figure(
    text: str, tokenizers: Mapping[str, Tokenizer], title: str = "Where does each vocabulary cut the same text?"
) -> Figure:
    """What the explorer shows, standing still: chips with ids, a row or more for each vocabulary.

    Raises ValueError for an empty text.
    """
    if not text:
        raise ValueError("text must not be empty: there would be nothing to show")
    blocks = []
    for name, tokenizer in tokenizers.items():
        ids = tokenizer.encode(text, special_tokens=False)
        labels = [token_label(tokenizer, id) for id in ids]
        blocks.append((f"{name}: {_count(text, ids)}", chip_rows(labels, ids, WIDTH - 0.2, 4)))
    height = 0.5 + sum(0.36 + CHIP_PITCH * len(rows) for _, rows in blocks)
    figure = Figure(figsize=(WIDTH, height), layout="none")
    page = blank_page(figure)
    write_heading(page, 0.1, 0.28, prose(title), 11.5)
    top = 0.5
    for heading, rows in blocks:
        page.text(0.1, top + 0.2, prose(heading), fontsize=10)
        draw_chips(page, rows, 0.1, top + 0.32)
        top += 0.36 + CHIP_PITCH * len(rows)
    return figure


# ---- what a vocabulary costs and saves ----------------------------------------------------------


@course_style()
def heat_table(
    values, rows: Sequence[str], columns: Sequence[str], title: str, number: str = "{:,.0f}", note: str = ""
) -> Figure:
    """A table of numbers from 0 up, darker where larger; `number` is the format of a cell, `note` stands below.

    `values`: (row, column). Raises ValueError where it has another shape than there are names.
    """
    values = as_array(values, "values", "row", "column")
    same_length(values=values, rows=rows)
    same_length(columns_of_values=values[0], columns=columns)
    figure = Figure(figsize=(0.72 * WIDTH, 1.2 + 0.36 * len(rows)))
    axes = figure.add_subplot()
    colours = sequential(1)
    image = axes.imshow(values, cmap=colours, vmin=0, vmax=values.max() or 1)
    for r, row in enumerate(values):
        for c, value in enumerate(row):
            cell = "#{:02x}{:02x}{:02x}".format(*map(int, image.to_rgba(value, bytes=True)[:3]))
            axes.text(c, r, number.format(value), ha="center", va="center", color=text_on(cell), fontsize=10)
    axes.set_xticks(range(len(columns)), [prose(name) for name in columns])
    axes.set_yticks(range(len(rows)), [prose(name) for name in rows])
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    # white lines between the cells
    axes.set_xticks([c - 0.5 for c in range(1, len(columns))], minor=True)
    axes.set_yticks([r - 0.5 for r in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.set_title(prose(title), pad=10, x=0)
    if note:
        axes.set_xlabel(prose(note), loc="left", fontsize=9, color=MUTED)
    return figure


@course_style()
def vocabulary_growth(
    sizes: Sequence[int],
    lines: Mapping[str, Sequence[float]],
    title: str = "How many tokens does a character need as the vocabulary grows?",
) -> Figure:
    """Tokens per character against the size of the vocabulary, a line for each text, its numbers beside the points.

    Raises ValueError where a line has another length than there are sizes.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    # the curves fall: room is below on the left, above on the right
    styles = [("o", "-", PHASES[1].strong, (-9, -15)), ("s", "--", INK, (9, 8))]
    for (name, values), (marker, line, colour, offset) in zip(lines.items(), styles, strict=False):
        same_length(sizes=sizes, **{"values": values})
        axes.plot(sizes, values, marker=marker, linestyle=line, color=colour, label=prose(name), clip_on=False)
        for size, value in zip(sizes, values, strict=True):
            where = dict(xytext=offset, textcoords="offset points", ha="center")
            axes.annotate(f"{value:.3f}", (size, value), fontsize=9, color=colour, **where)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * max(map(max, lines.values())))
    axes.set_xlabel("tokens in the vocabulary (each step doubles it)")
    axes.set_ylabel("tokens per character")
    axes.set_title(prose(title))
    axes.legend(loc="upper right")
    return figure
