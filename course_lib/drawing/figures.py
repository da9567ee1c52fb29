"""Pictures of what happens inside the model: pure functions from tensors to matplotlib figures.

Every function takes tensors, arrays or lists and returns a new `Figure`; nothing is drawn on
screen and no global setting is read or changed. `style.show(figure, alt)` displays one. Titles are
questions: pass your own where a default does not ask what your lesson asks.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from course_lib.drawing.labels import (
    axis_label,
    prose,
    shortened,
    text_inches,
    visible,
    without_formulas,
)
from course_lib.drawing.style import (
    INK,
    LINE,
    MUTED,
    PAPER,
    PHASES,
    course_style,
    diverging,
    sequential,
    text_on,
)
from course_lib.drawing.words import percent, power

WIDTH = 9.0  # inches: 864 CSS pixels, what a notebook cell has room for
DIMENSIONS_SHOWN = 64
CELL_VALUES_UP_TO = 8  # tokens: beyond, numbers no longer fit into the cells of a heat map
LABELS_UP_TO = 40
CHIP_HEIGHT, CHIP_PITCH, CHIP_GAP, CHIP_ROWS = 0.32, 0.66, 0.07, 12
SHADE = "#f3f4f6"


# ---- what came in -------------------------------------------------------------------------------


def as_array(values, name: str, *dimensions: str) -> np.ndarray:
    """Any tensor, array or list as float64; ValueError unless it has these dimensions."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    array = np.asarray(values, dtype=float)
    if array.ndim != len(dimensions):
        raise ValueError(
            f"{name} must have {len(dimensions)} dimensions ({', '.join(dimensions)}), got shape {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers, got NaN or infinity among them")
    return array


def same_length(**named: Sequence) -> None:
    (first, a), *rest = named.items()
    for name, b in rest:
        if len(a) != len(b):
            raise ValueError(f"{first} and {name} must have the same length, got {len(a)} and {len(b)}")


# ---- phase 1: input processing ------------------------------------------------------------------


def log_axis(axes: Axes, lowest: float, highest: float) -> None:
    """A log axis whose ticks say 1e-20, 1e-10, 1: powers as the text prints them."""
    axes.set_yscale("log")
    axes.set_ylim(lowest, highest)
    decades = math.log10(highest / lowest)
    axes.yaxis.set_major_locator(LogLocator(10 ** max(1, math.ceil(decades / 6))))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))


@course_style()
def token_strip(tokens: Sequence[str], ids: Sequence[int], title: str = "") -> Figure:
    """The prompt as chips, one a token, its id below; wraps, and ends in "+n" after 12 rows.

    Raises ValueError where `tokens` and `ids` differ in length or there are none.
    """
    same_length(tokens=tokens, ids=ids)
    if len(tokens) == 0:
        raise ValueError("tokens must hold at least one token, got none")
    rows = chip_rows(tokens, ids, WIDTH - 0.2, CHIP_ROWS)
    top = 0.45 if title else 0.1
    height = top + len(rows) * CHIP_PITCH
    figure = Figure(figsize=(WIDTH, height), layout="none")
    page = blank_page(figure)
    if title:
        page.text(0.1, 0.28, prose(title), fontsize=11.5, fontweight="bold")
    draw_chips(page, rows, 0.1, top)
    return figure


def blank_page(figure: Figure) -> Axes:
    """Axes over the whole figure, measured in inches from its top left corner."""
    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    return page


def chip_rows(tokens, ids, width: float, most: int) -> list[list[tuple[float, float, str, str]]]:
    """Rows of chips (left, width, token, id) that fit into `width` inches, `most` rows of them."""
    rows, x = [[]], 0.0
    for i, (token, number) in enumerate(zip(tokens, ids, strict=True)):
        token, number = visible(token), str(int(number))
        chip = max(text_inches(token, 12) + 0.2, text_inches(number, 9) + 0.08, 0.4)
        last_row = len(rows) == most
        room = width - (0.7 if last_row and i + 1 < len(tokens) else 0)
        if x + chip > room and last_row:
            rows[-1].append((x, 0.65, f"+{len(tokens) - i:,}", ""))
            break
        if x + chip > room:
            rows.append([])
            x = 0.0
        rows[-1].append((x, chip, token, number))
        x += chip + CHIP_GAP
    return rows


def draw_chips(page: Axes, rows, left: float, top: float) -> None:
    for r, row in enumerate(rows):
        for x, width, token, number in row:
            y, middle = top + r * CHIP_PITCH, left + x + width / 2
            fill = PHASES[1].pale if number else PAPER
            rounded(page, left + x, y, width, CHIP_HEIGHT, fill, PHASES[1].medium)
            page.text(
                middle,
                y + CHIP_HEIGHT / 2 + 0.01,
                without_formulas(token),
                fontsize=12,
                color=PHASES[1].strong,
                ha="center",
                va="center_baseline",
            )
            page.text(middle, y + CHIP_HEIGHT + 0.16, number, fontsize=9, color=MUTED, ha="center")


def rounded(page: Axes, x, y, width, height, fill, edge="none", radius=0.06) -> None:
    style = f"round,pad=0,rounding_size={radius}"
    page.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=edge))


@course_style()
def embedding_strip(vectors, tokens: Sequence[str], title: str = "What numbers stand for each token?") -> Figure:
    """The first 64 numbers of each token's vector as a heat map, grey below zero, green above.

    `vectors`: (position, d_model). Raises ValueError where it has another number of rows than
    there are `tokens`.
    """
    vectors = as_array(vectors, "vectors", "position", "d_model")
    same_length(vectors=vectors, tokens=tokens)
    height = 1.0 + 0.26 * min(len(tokens), LABELS_UP_TO)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_subplot()
    image = draw_embeddings(axes, vectors, tokens)
    axes.set_title(prose(title))
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return figure


def draw_embeddings(axes: Axes, vectors: np.ndarray, tokens: Sequence[str], ground: str = PAPER):
    d_model = vectors.shape[1]
    shown = vectors[:, :DIMENSIONS_SHOWN]
    # a few very large numbers must not bleach all others
    limit = float(np.quantile(np.abs(shown), 0.99)) or 1.0
    image = axes.imshow(shown, cmap=diverging(1), vmin=-limit, vmax=limit)
    axes.set_yticks(*_tick_labels(tokens))
    axes.set_xlabel(f"the first {shown.shape[1]} of {d_model:,} numbers in each vector: grey below zero, green above")
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    # gaps between the rows: one vector, one stripe
    axes.hlines(np.arange(len(tokens) - 1) + 0.5, -0.5, shown.shape[1] - 0.5, ground, linewidth=3)
    return image


def _tick_labels(tokens: Sequence[str]) -> tuple[list[int], list[str]]:
    """Positions and labels for an axis of tokens, thinned out where there are too many to read."""
    step = -(-len(tokens) // LABELS_UP_TO)
    places = list(range(0, len(tokens), step))
    return places, [axis_label(tokens[i]) for i in places]


# ---- phase 2: the transformer block -------------------------------------------------------------


@course_style()
def attention_map(weights, tokens: Sequence[str], title: str = "Which token does each token look at?") -> Figure:
    """One head's attention weights: a row for each token that looks, a column for each looked at.

    `weights`: (query, key), rows that sum to 1. Where every weight above the diagonal is 0, that
    half is drawn as "cannot look". Up to 8 tokens the weights are written into the cells. Raises
    ValueError where `weights` is not square or differs in length from `tokens`.
    """
    weights = attention_weights(weights, tokens)
    side = min(max(4.2, 1.8 + 0.42 * len(tokens)), 8.0)
    figure = Figure(figsize=(side + 0.4, side))
    axes = figure.add_subplot()
    written = len(tokens) <= CELL_VALUES_UP_TO
    image = draw_attention(axes, weights, tokens, written)
    axes.set_title(prose(title))
    if not written:
        bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.04, label="weight")
        bar.outline.set_visible(False)
    return figure


def attention_weights(weights, tokens: Sequence[str]) -> np.ndarray:
    weights = as_array(weights, "weights", "query", "key")
    if weights.shape[0] != weights.shape[1]:
        raise ValueError(f"weights must be square (query, key), got shape {weights.shape}")
    same_length(weights=weights, tokens=tokens)
    return weights


def draw_attention(axes: Axes, weights: np.ndarray, tokens: Sequence[str], written: bool):
    n = len(tokens)
    image = axes.imshow(weights, cmap=sequential(2), vmin=0, vmax=1, aspect="equal")
    future = np.triu(np.ones((n, n), dtype=bool), 1)
    causal = n > 1 and not weights[future].any()
    if causal:
        _draw_future(axes, n)
    if written:
        for q, k in np.argwhere(~future) if causal else np.ndindex(n, n):
            cell = image.cmap(image.norm(weights[q, k]))
            colour = text_on("#" + "".join(f"{round(255 * c):02x}" for c in cell[:3]))
            axes.text(k, q, f"{weights[q, k]:.2f}", fontsize=9, color=colour, ha="center", va="center")
    axes.set_xticks(*_tick_labels(tokens), rotation=90 if n > 6 else 0)
    axes.set_yticks(*_tick_labels(tokens))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("this token looks …")
    axes.set_xlabel("… at this one")
    return image


def _draw_future(axes: Axes, n: int) -> None:
    """Hatch the half above the diagonal and say why it is empty."""
    stairs = [(i + step, i + 0.5) for i in range(n - 1) for step in (0.5, 1.5)]
    stairs = [(0.5, -0.5), *stairs, (n - 0.5, -0.5)]
    axes.add_patch(Polygon(stairs, facecolor=SHADE, edgecolor=LINE, hatch="///", linewidth=0))
    axes.text(
        n - 0.7,
        -0.2,
        "cannot look:\nthe future",
        fontsize=9,
        color=MUTED,
        ha="right",
        va="top",
        bbox={"facecolor": SHADE, "edgecolor": "none", "pad": 2},
    )


@course_style()
def guess_by_layer(
    guesses: Sequence[tuple[int, str, float]],
    title: str = "What would the model say if it stopped after block k?",
) -> Figure:
    """The logit lens: the likeliest next token and its probability after each block.

    `guesses`: (block, token, probability), in order of the blocks. A token that stays the guess
    is written once. Raises ValueError where there are none, or a probability is not in [0, 1].
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot()
    longest = max((text_inches(visible(token), 8.5) for _, token, _ in guesses), default=0)
    room = min(0.9, longest + 0.15)
    draw_guesses(axes, guesses, room)
    axes.set_title(prose(title), pad=72 * room + 13)
    axes.set_xlabel("stopped after block")
    return figure


def draw_guesses(axes: Axes, guesses, room: float) -> None:
    """Bars, and above them the tokens in `room` inches."""
    if len(guesses) == 0:
        raise ValueError("guesses must hold at least one (block, token, probability), got none")
    blocks = [block for block, _, _ in guesses]
    heights = _probabilities([p for _, _, p in guesses])
    axes.bar(blocks, heights, width=0.72, color=PHASES[2].medium)
    axes.set_xlim(blocks[0] - 0.6, blocks[-1] + 0.6)
    axes.set_ylim(0, max(0.1, 1.05 * max(heights)))
    axes.yaxis.set_major_formatter(lambda p, _: f"{100 * p:.0f}%")
    axes.locator_params(axis="y", nbins=4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for token, run in groupby(guesses, key=lambda guess: guess[1]):
        run = [block for block, _, _ in run]
        _write_guess(axes, token, run[0], run[-1], room)


def _write_guess(axes: Axes, token: str, first: int, last: int, room: float) -> None:
    """The token above the bars of its blocks: level where they leave room, else upright."""
    colour = PHASES[2].strong
    above = axes.get_xaxis_transform()  # x in blocks, y from the bottom (0) to the top (1)
    axes.plot(
        [first - 0.36, last + 0.36],
        [1.03, 1.03],
        transform=above,
        color=colour,
        linewidth=1.2,
        clip_on=False,
        solid_capstyle="butt",
    )
    per_block = axes.get_window_extent().width / axes.figure.dpi / np.ptp(axes.get_xlim())
    level = text_inches(visible(token), 11) < (last - first + 0.5) * per_block
    text = visible(token) if level else shortened(token, 8.5, room - 0.1)
    axes.annotate(
        without_formulas(text),
        ((first + last) / 2 if level else first, 1.03),
        xycoords=above,
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=11 if level else 8.5,
        color=colour,
        ha="center",
        va="bottom",
        rotation=0 if level else 90,
        annotation_clip=False,
    )


def _probabilities(values) -> np.ndarray:
    values = as_array(values, "probabilities", "token")
    if values.min() < 0 or values.max() > 1 + 1e-6:
        raise ValueError(f"probabilities must be in [0, 1], got values from {values.min():g} to {values.max():g}")
    return values


# ---- phase 3: prediction and generation ---------------------------------------------------------


@course_style()
def probability_bars(
    tokens: Sequence[str],
    probabilities,
    chosen: str | None = None,
    truth=None,
    title: str = "What comes next?",
) -> Figure:
    """Next-token probabilities as bars, in the order given, percentages printed.

    `chosen` is the token that was taken, drawn strong; `truth` holds the true probability of each token,
    drawn as diamonds. Raises ValueError where lengths differ, a probability is not in [0, 1], or
    `chosen` is not among `tokens`.
    """
    figure = Figure(figsize=(7.0, 0.9 + 0.3 * len(tokens)))
    axes = figure.add_subplot()
    draw_probabilities(axes, tokens, probabilities, chosen, truth)
    axes.set_title(prose(title))
    if truth is not None:
        figure.legend(loc="outside lower right")
    return figure


def draw_probabilities(axes: Axes, tokens, probabilities, chosen, truth=None) -> None:
    probabilities = _probabilities(probabilities)
    same_length(tokens=tokens, probabilities=probabilities)
    if chosen is not None and chosen not in tokens:
        raise ValueError(f"chosen must be one of the tokens shown, got {chosen!r}")
    plain = PHASES[3].strong if chosen is None else PHASES[3].medium
    colours = [PHASES[3].strong if token == chosen else plain for token in tokens]
    places = range(len(tokens))
    axes.barh(places, probabilities, height=0.72, color=colours)
    reach = probabilities  # where the drawing ends in each row
    if truth is not None:
        truth = _probabilities(truth)
        same_length(tokens=tokens, truth=truth)
        reach = np.maximum(probabilities, truth)
        axes.plot(
            truth,
            places,
            "D",
            color=INK,
            markeredgecolor=PAPER,
            markersize=7,
            label="the truth",
            clip_on=False,
        )
    for place, token in enumerate(tokens):
        note = percent(probabilities[place])
        if truth is not None:
            note += f"  (truth {percent(truth[place])})"
        if token == chosen:
            note += "  ← chosen"
        beside(axes, note, reach[place], place)
    bare_bars(axes, [axis_label(token, 1.25) for token in tokens], reach.max())


def beside(axes: Axes, note: str, x: float, y: float) -> None:
    """A note right of the end of a bar."""
    axes.annotate(note, (x, y), (7, 0), textcoords="offset points", fontsize=9.5, va="center_baseline")


def bare_bars(axes: Axes, labels: list[str], longest: float) -> None:
    """Level bars need no axis below: the numbers stand beside them, with room for the longest."""
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * longest or 1)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def write_heading(page: Axes, x: float, y: float, text: str, size: float = 10, color: str = INK):
    return page.text(x, y, text, fontsize=size, fontweight="bold", color=color)
