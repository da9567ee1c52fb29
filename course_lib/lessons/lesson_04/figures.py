"""Lesson 04's pictures: what a batch of unequal texts looks like as a rectangle, and what depends on its quality.

The pure functions come first, `batch_playground` puts a text field and a slider in front of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from course_lib.drawing.figures import SHADE, WIDTH
from course_lib.drawing.labels import axis_label, prose, shortened, visible
from course_lib.drawing.style import INK, LINE, MUTED, PAPER, PHASES, course_style, on_ground
from course_lib.drawing.words import percent
from course_lib.input_processing.batching import document_numbers, keep_last, pack, pad

WAYS = {
    "pad right": "padded on the right",
    "pad left": "padded on the left",
    "pack": "packed, an end token after each",
}
GREEN = PHASES[1]
DOCUMENTS = (GREEN.pale, GREEN.medium)  # documents take turns
CELLS_UP_TO = 24  # columns that still leave room for a token's text in a figure


@dataclass(frozen=True)
class Rectangle:
    """A batch as a model gets it, row by row. `documents`: the number of the text in each position, −1 for padding."""

    way: str
    tokens: tuple[tuple[str, ...], ...]
    documents: tuple[tuple[int, ...], ...]
    ends: tuple[tuple[bool, ...], ...]  # where an end token closes a document
    n_cut: int  # tokens that fell off because a prompt was longer than the context

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.tokens), len(self.tokens[0])

    @property
    def n_padding(self) -> int:
        return sum(document < 0 for row in self.documents for document in row)

    @property
    def waste(self) -> float:
        return self.n_padding / (self.shape[0] * self.shape[1])


def arrange(
    sequences: Sequence[Sequence[int]],
    way: str,
    context: int,
    pad_id: int,
    end_id: int,
    token_text: Callable[[int], str],
) -> Rectangle:
    """The prompts as one rectangle no wider than `context`: "pad right", "pad left" or "pack".

    Padded, a prompt longer than the context keeps its last tokens. Packed, it goes on in the next row.

    Raises:
        ValueError: there are no prompts, the way is none of the three, or the context is below 1.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(map(repr, WAYS))}, got {way!r}")
    if not any(map(len, sequences)):
        raise ValueError("there is no prompt: write at least one word")
    if way == "pack":
        ids, real = pack(sequences, context, end_id)
        # counted through all rows, so that a document that goes on in the next row keeps its number
        numbers = document_numbers(ids.view(1, -1), end_id).view(ids.shape)
        ends, n_cut = (ids == end_id) & real, 0
    else:
        kept = [keep_last(sequence, context) for sequence in sequences]
        n_cut = sum(map(len, sequences)) - sum(map(len, kept))
        ids, real = pad(kept, pad_id, way.removeprefix("pad "))
        numbers = torch.arange(len(ids))[:, None].expand(ids.shape)
        ends = torch.zeros_like(real)
    numbers = numbers.where(real, -1)
    tokens = tuple(tuple(map(token_text, row)) for row in ids.tolist())
    return Rectangle(way, tokens, _rows(numbers), _rows(ends), n_cut)


def _rows(tensor: torch.Tensor) -> tuple[tuple, ...]:
    return tuple(map(tuple, tensor.tolist()))


# ---- in words -----------------------------------------------------------------------------------


def summary(rectangle: Rectangle) -> str:
    """Shape, waste and what was lost, in one or two sentences."""
    rows, columns = rectangle.shape
    size = f"{rows} row{'s' * (rows != 1)} of {columns} position{'s' * (columns != 1)}"
    waste = f"{rectangle.n_padding} of {rows * columns} hold padding ({percent(rectangle.waste)})"
    ends = sum(map(sum, rectangle.ends))
    notes = [f"{ends} hold end tokens"] * (ends > 0)
    lost = rectangle.n_cut
    said = f"{size}: {', '.join([waste, *notes])}."
    return said + (f" {lost} token{'s' * (lost != 1)} did not fit and fell off." if lost else " Nothing fell off.")


def in_words(rectangle: Rectangle) -> str:
    """Every row in words: a text equivalent of the picture."""
    return " ".join(
        f"Row {number}: {', '.join(_runs(row, ends))}."
        for number, (row, ends) in enumerate(zip(rectangle.documents, rectangle.ends, strict=True), start=1)
    )


def _runs(documents: Sequence[int], ends: Sequence[bool]) -> list[str]:
    names = [
        "padding" if document < 0 else "end token" if end else f"text {document + 1}"
        for document, end in zip(documents, ends, strict=True)
    ]
    runs: list[list] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    return [f"{count} × {name}" if count > 1 or name.startswith("text") else name for name, count in runs]


# ---- as a table for the browser -----------------------------------------------------------------


def rectangle_html(rectangle: Rectangle) -> str:
    """The rectangle as a table of tokens: green for text, hatched for padding, dark for end tokens."""
    rows = []
    for texts, documents, ends in zip(rectangle.tokens, rectangle.documents, rectangle.ends, strict=True):
        cells = "".join(map(_cell_html, texts, documents, ends))
        rows.append(f"<tr>{cells}</tr>")
    label = escape(in_words(rectangle), quote=True)
    look = "border-collapse: separate; border-spacing: 2px; font: 12px DejaVu Sans, sans-serif"
    table = f'<table role="img" aria-label="{label}" style="{look}">{"".join(rows)}</table>'
    return f'<div tabindex="0" style="overflow-x: auto; max-width: 100%">{table}</div>'


def _cell_html(token: str, document: int, end: bool) -> str:
    box = "padding: 3px 5px; text-align: center; white-space: pre; "
    if document < 0:
        hatch = f"repeating-linear-gradient(45deg, {SHADE} 0 5px, {LINE} 5px 6px)"
        return f'<td style="{box}background: {hatch}; color: {INK}">pad</td>'
    if end:
        return f'<td style="{box}{on_ground(GREEN.strong)}">end</td>'
    return f'<td style="{box}{on_ground(DOCUMENTS[document % 2])}">{escape(visible(token, 12))}</td>'


# ---- as figures ---------------------------------------------------------------------------------


@course_style()
def rectangle_figure(rectangles: Sequence[Rectangle], title: str) -> Figure:
    """The same prompts arranged in several ways, one below the other, with the tokens in the cells.

    Raises:
        ValueError: there is none, or one has more than 24 columns.
    """
    if not rectangles or max(r.shape[1] for r in rectangles) > CELLS_UP_TO:
        raise ValueError(f"rectangles must be one or more of at most {CELLS_UP_TO} columns: take shorter prompts")
    heights = [r.shape[0] for r in rectangles]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.27 * sum(heights) + 0.55 * len(rectangles)))
    panels = figure.subplots(len(rectangles), 1, squeeze=False, height_ratios=[h + 0.4 for h in heights])[:, 0]
    widest = max(r.shape[1] for r in rectangles)
    for axes, rectangle in zip(panels, rectangles, strict=True):
        _draw_rectangle(axes, rectangle, widest)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    keys = [
        Patch(facecolor=DOCUMENTS[0], edgecolor=GREEN.medium, label="text (texts take turns in two greens)"),
        Patch(color=GREEN.strong, label="end token"),
        Patch(facecolor=SHADE, edgecolor=MUTED, hatch="////", linewidth=0.5, label="padding"),
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=3)
    return figure


def _draw_rectangle(axes: Axes, rectangle: Rectangle, widest: int) -> None:
    room = 0.92 * WIDTH / widest - 0.08  # inches inside a cell
    for row, (texts, documents, ends) in enumerate(
        zip(rectangle.tokens, rectangle.documents, rectangle.ends, strict=True)
    ):
        for column, (token, document, end) in enumerate(zip(texts, documents, ends, strict=True)):
            fill = SHADE if document < 0 else GREEN.strong if end else DOCUMENTS[document % 2]
            box = dict(facecolor=fill, edgecolor=PAPER, linewidth=1.5)
            if document < 0:
                axes.barh(row, 1, left=column, height=1, facecolor=SHADE, edgecolor=LINE, hatch="////", linewidth=0)
                axes.barh(row, 1, left=column, height=1, facecolor="none", edgecolor=PAPER, linewidth=1.5)
                continue
            axes.barh(row, 1, left=column, height=1, **box)
            text = "end" if end else shortened(token, 8, room)
            ink = PAPER if end else INK
            axes.text(
                column + 0.5, row, text.replace("$", r"\$"), fontsize=8, color=ink, ha="center", va="center_baseline"
            )
    rows, _ = rectangle.shape
    axes.set_xlim(0, widest)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_axis_off()
    axes.set_title(
        f"{WAYS[rectangle.way].capitalize()}. {summary(rectangle)}", fontsize=9.5, fontweight="normal", pad=4
    )


@course_style()
def waste_figure(
    groups: Mapping[str, Sequence[Sequence[int]]], ends: Mapping[str, Sequence[Sequence[int]]], title: str
) -> Figure:
    """Batches of rows as bars: the real tokens of each row, and the padding up to the longest row of its batch.

    `groups`: a name → its batches, each the lengths of its rows. `ends`: for some of the names, how many tokens of
    each length are end tokens; they are drawn together behind the row's text.
    """
    figure = Figure(figsize=(WIDTH, 4.1))
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    most = max(sum(len(lengths) + 1 for lengths in batches) for batches in groups.values())
    for axes, (name, batches) in zip(panels, groups.items(), strict=True):
        y = 0
        n_ends = ends.get(name, [[0] * len(lengths) for lengths in batches])
        for lengths, closing in zip(batches, n_ends, strict=True):
            places = range(y, y + len(lengths))
            width = max(lengths)
            words = [n - end for n, end in zip(lengths, closing, strict=True)]
            padding = dict(facecolor=SHADE, edgecolor=LINE, hatch="////", linewidth=0, height=0.86)
            axes.barh(places, [width - n for n in lengths], left=lengths, **padding)
            axes.barh(places, closing, left=words, color=GREEN.strong, height=0.86)
            axes.barh(places, words, color=GREEN.medium, height=0.86)
            y += len(lengths) + 1
        real, all_ = sum(map(sum, batches)), sum(len(b) * max(b) for b in batches)
        closing = sum(map(sum, n_ends))
        axes.set_ylim(most - 1, -1)  # one scale for all: the area is the work
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        said = f"{percent(1 - real / all_)} padding" + f", {percent(closing / all_)} end tokens" * (closing > 0)
        axes.set_title(f"{name}\n{said}", fontsize=10)
        axes.set_xlabel("tokens")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    keys = [
        Patch(color=GREEN.medium, label="text"),
        Patch(color=GREEN.strong, label="end tokens"),
        Patch(facecolor=SHADE, edgecolor=MUTED, hatch="////", linewidth=0.5, label="padding"),
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=3)
    return figure


@course_style()
def cosine_figure(cosines: Mapping[int, Sequence[float]], title: str) -> Figure:
    """Histograms of the cosine between random directions, one panel for each width."""
    figure = Figure(figsize=(WIDTH, 2.5))
    panels = figure.subplots(1, len(cosines), sharex=True, squeeze=False)[0]
    for axes, (width, values) in zip(panels, cosines.items(), strict=True):
        axes.hist(values, bins=101, range=(-1, 1), color=GREEN.strong)
        axes.set_title(f"{width} numbers", fontsize=10)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xticks([-1, 0, 1])
        axes.set_xlabel("cosine")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


@course_style()
def window_figure(tokens: Sequence[str], probabilities: Mapping[int, float], answer: str, title: str) -> Figure:
    """The probability of the answer for windows of several sizes; the answer's place in the text is marked.

    `probabilities`: window size in tokens → probability.
    """
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.add_subplot()
    windows = sorted(probabilities)
    axes.plot(windows, [probabilities[w] for w in windows], color=GREEN.strong, marker="o", markersize=5, clip_on=False)
    needed = len(tokens) - tokens.index(answer)  # the smallest window that still holds it
    axes.axvline(needed - 0.5, color=MUTED, linewidth=1, linestyle="--")
    place = dict(xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9.5, color=MUTED)
    axes.annotate(
        f"← too short to hold {axis_label(answer)}", (needed - 0.5, 0.16), xytext=(-8, 0), ha="right", **place
    )
    axes.annotate(f"from {needed} on\nit is in →", (needed - 0.5, 0.16), xytext=(24, 0), **place)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda p, _: f"{100 * p:.0f}%")
    axes.set_xlabel("window: how many of the last tokens the model gets")
    axes.set_ylabel(f"probability of {axis_label(answer)}")
    axes.set_title(prose(title))
    return figure


_SERIES = (  # colour, marker, line: the phases whose weights are meant
    (PHASES[1].strong, "o", "-"),
    (PHASES[3].strong, "s", "--"),
    (PHASES[2].strong, "^", ":"),
    (PHASES[2].strong, "v", "-."),
)


@course_style()
def precision_figure(
    by_bits: Mapping[str, Mapping[int, float]],
    by_noise: Mapping[float, float],
    rounded: Mapping[int, tuple[float, float]],
    untouched: float,
    knows_nothing: float,
    title: str,
) -> Figure:
    """Loss against bits for several sets of weights, and against the degrees by which the embeddings have turned.

    `by_bits`: a name → {bits: loss}. `by_noise`: degrees → loss. `rounded`: bits → (degrees, loss). Where a
    line leaves the picture, its losses stand at the top edge as numbers.
    """
    figure = Figure(figsize=(WIDTH, 4.1))
    left, right = figure.subplots(1, 2, sharey=True)
    top, beyond = 1.06 * knows_nothing, []
    bits = sorted({b for losses in by_bits.values() for b in losses}, reverse=True)
    left.set_xticks(range(len(bits)), bits)
    for (name, losses), (colour, marker, line) in zip(by_bits.items(), _SERIES, strict=False):
        points = [(place, losses[b]) for place, b in enumerate(bits) if b in losses]
        inside = [(place, loss) for place, loss in points if loss <= top]
        left.plot(*zip(*points, strict=True), color=colour, linestyle=line)
        left.plot(*zip(*inside, strict=True), color=colour, marker=marker, linestyle="none")
        left.plot([], [], color=colour, marker=marker, linestyle=line, label=name)
        beyond += [f"{name} ↑ {losses[b]:.1f} at {b} bits" for b in losses if losses[b] > top]
    left.annotate("\n".join(beyond), (0.99, 1.01), xycoords="axes fraction", fontsize=9, color=MUTED, ha="right")
    left.set_xlabel("bits for each number")
    left.set_ylabel("loss (lower is better)")
    left.set_title("rounded to few bits", fontsize=10)
    left.legend(loc="upper left", bbox_to_anchor=(0, 0.84))
    turns = sorted(by_noise)
    right.plot(
        turns, [by_noise[turn] for turn in turns], color=GREEN.strong, marker="o", label="random noise", clip_on=False
    )
    for bits, (turn, loss) in rounded.items():
        right.plot(turn, min(loss, top), color=INK, marker="D", markersize=5, linestyle="none", clip_on=False)
        right.annotate(f"{bits} bits", (turn, loss), xytext=(0, 9), textcoords="offset points", fontsize=9, ha="center")
    right.plot([], [], color=INK, marker="D", markersize=5, linestyle="none", label="rounding")
    right.set_xlabel("degrees by which the embeddings have turned")
    right.set_title("at the entrance: noise and rounding", fontsize=10)
    right.legend(loc="upper left", bbox_to_anchor=(0, 0.84))
    for axes in (left, right):
        axes.axhline(untouched, color=LINE, linewidth=1, zorder=0)
        axes.axhline(knows_nothing, color=MUTED, linewidth=1, linestyle=(0, (1, 3)), zorder=0)
        axes.set_ylim(untouched - 1, top)
    left.annotate("untouched", (0.99, untouched), xycoords=left.get_yaxis_transform(), xytext=(0, -11),
                  textcoords="offset points", fontsize=9, color=MUTED, ha="right")  # fmt: skip
    left.annotate("all tokens equally likely", (0.01, knows_nothing), xycoords=left.get_yaxis_transform(),
                  xytext=(0, -11), textcoords="offset points", fontsize=9, color=MUTED)  # fmt: skip
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- the widget ---------------------------------------------------------------------------------

MOST_PROMPTS, MOST_TOKENS = 12, 400


def read_prompts(text: str, encode: Callable[[str], list[int]]) -> list[list[int]]:
    """One prompt a line, empty lines left out, as ids.

    Raises:
        ValueError: there are none, too many, or too long ones to be shown.
    """
    sequences = [encode(line) for line in text.splitlines() if line.strip()]
    n_tokens = sum(map(len, sequences))
    if not sequences:
        raise ValueError("there is no prompt: write one on each line")
    if len(sequences) > MOST_PROMPTS or n_tokens > MOST_TOKENS:
        raise ValueError(
            f"{len(sequences)} prompts with {n_tokens} tokens are more than can be shown here: "
            f"keep to {MOST_PROMPTS} lines and {MOST_TOKENS} tokens"
        )
    return sequences


def batch_playground(tokenizer, prompts: Sequence[str], pad_id: int, end_id: int):
    """The learner's own prompts as the rectangle that a model gets: padded or packed, in a context of any length."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, complaint, labelled_slider

    text = ipywidgets.Textarea(
        "\n".join(prompts),
        description="prompts",
        continuous_update=False,
        style=LABELS,
        layout={"width": "44em", "height": "8em"},
    )
    way = ipywidgets.Dropdown(options=list(WAYS), description="arrange", style=LABELS, layout={"width": "16em"})
    context, context_row = labelled_slider("context", 2, 32, value=16, step=1)
    said, table = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None) -> None:
        try:
            sequences = read_prompts(text.value, tokenizer.encode)
            rectangle = arrange(sequences, way.value, round(context.value), pad_id, end_id, tokenizer.token_text)
        except ValueError as error:
            said.value, table.value = complaint(error), ""
            return
        said.value = f'<b role="status">{escape(summary(rectangle))}</b>'
        table.value = rectangle_html(rectangle)

    for control in (text, way, context):
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([text, way, context_row, said, table])
