"""Lesson 03's pictures: codes of positions, scores by distance, RoPE's pairs as the hands of clocks.

Pure functions, from numbers to figures; `turning_pairs` puts sliders in front of the clocks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, DrawingArea, HPacker, TextArea
from matplotlib.patches import Circle

from course_lib.drawing.figures import WIDTH, as_array
from course_lib.drawing.labels import prose
from course_lib.drawing.style import (
    CSS_PIXELS_PER_INCH,
    INK,
    LINE,
    LIVE_SHARPNESS,
    MUTED,
    PAPER,
    PHASES,
    canvas_png,
    course_style,
    diverging,
    sequential,
)
from course_lib.input_processing.positions import rotation_angles

GREEN = PHASES[1]
# told apart by colour, dashes and marker: any one of them is enough
LOOKS = (
    dict(color=GREEN.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=GREEN.medium, linestyle="-", marker="^"),
    dict(color=MUTED, linestyle=":", marker="D"),
    dict(color=GREEN.strong, linestyle="-.", marker="v"),
)


# ---- codes of positions ---------------------------------------------------------------------------


@course_style()
def codes(binary, waves, title: str = "What do the columns of a position code do?") -> Figure:
    """A binary code and its smooth version side by side, one row a position: (position, column) each."""
    binary, waves = as_array(binary, "binary", "position", "bit"), as_array(waves, "waves", "position", "column")
    figure = Figure(figsize=(WIDTH, 4.2))
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    left.imshow(binary, cmap=sequential(1), vmin=0, vmax=1)
    left.set_title("counting in binary: steps", fontsize=10, fontweight="normal")
    image = right.imshow(waves, cmap=diverging(1), vmin=-1, vmax=1)
    right.set_title("sinusoids: waves", fontsize=10, fontweight="normal")
    for axes, table in ((left, binary), (right, waves)):
        axes.set_xticks([0, table.shape[1] - 1], ["fastest", "slowest"])
        axes.set_xlabel(f"{table.shape[1]} columns")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    left.set_ylabel("position")
    bar = figure.colorbar(image, ax=right, pad=0.02, fraction=0.03, ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- curves ---------------------------------------------------------------------------------------


@course_style()
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x: str,
    y: str,
    percent: bool = False,
    trained: float | None = None,
    markers: int = 12,
) -> Figure:
    """Up to five named lines, each (places, values), named where they end. Amounts are shown from 0 up.

    `trained` marks a place on the x axis from which on training had shown nothing. `markers` is how many places apart
    the markers are.

    Raises:
        ValueError: there are no lines, or more than five.
    """
    if not 1 <= len(lines) <= len(LOOKS):
        raise ValueError(f"lines must be 1 to {len(LOOKS)}, got {len(lines)}: more cannot be told apart")
    figure = Figure(figsize=(WIDTH, 3.7))
    axes = figure.add_subplot()
    ends = []
    for i, ((name, (places, values)), look) in enumerate(zip(lines.items(), LOOKS, strict=False)):
        places, values = as_array(places, "places", "point"), as_array(values, "values", "point")
        first = i * markers // len(lines)  # lines that coincide show their markers in turn
        axes.plot(places, values, **look, markersize=5, markevery=(first, markers), clip_on=False)
        ends.append((float(values[-1]), float(places[-1]), name, look))
    if axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)
    if percent:
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.margins(x=0.01)
    _name_ends(axes, ends)
    if trained is not None:
        right = axes.get_xlim()[1]
        axes.axvspan(trained, right, color=GREEN.pale, linewidth=0, zorder=0)
        axes.text(
            trained, 1.02, " longer than in training →", transform=axes.get_xaxis_transform(), color=MUTED, fontsize=9
        )
        axes.set_xlim(right=right)
    axes.set_title(prose(title), pad=18 if trained is not None else 10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure


def _name_ends(axes: Axes, ends: list[tuple[float, float, str, dict]]) -> None:
    """Right of the lines' ends: a piece of the line and its name, moved apart where they would touch."""
    low, high = axes.get_ylim()
    gap, level = 0.072 * (high - low), -math.inf
    for value, place, name, look in sorted(ends, key=lambda end: end[0]):
        level = max(value, level + gap)
        piece = DrawingArea(27, 8)
        piece.add_artist(Line2D([0, 13.5, 27], [4, 4, 4], **look, markersize=5, markevery=[1]))
        label = HPacker(children=[piece, TextArea(prose(name), textprops={"fontsize": 9.5})], align="center", sep=5)
        beside = dict(xybox=(9, 0), boxcoords="offset points", box_alignment=(0, 0.5), annotation_clip=False)
        axes.add_artist(AnnotationBbox(label, (place, level), **beside, frameon=False, pad=0))


# ---- pairs as clocks ------------------------------------------------------------------------------

THETA, PAIRS = 10_000.0, 4  # a head of 8 numbers: each pair turns ten times slower than the one before


@dataclass(frozen=True)
class Clocks:
    """Hands of length 1, one pair a clock, turned as RoPE does: the query's and the key's."""

    query_position: int
    key_position: int
    query_angles: tuple[float, ...]  # radians, one a pair
    key_angles: tuple[float, ...]
    score: float  # dot product of all turned pairs: the sum of the cosines between the two hands

    @property
    def distance(self) -> int:
        return self.query_position - self.key_position


def clocks(query_position: int, key_position: int) -> Clocks:
    """The state of four pairs when a query stands here and a key there.

    Raises:
        ValueError: a position is negative.
    """
    if min(query_position, key_position) < 0:
        raise ValueError(f"positions count from 0, got query {query_position} and key {key_position}")
    angles = rotation_angles(torch.tensor([query_position, key_position]), 2 * PAIRS, THETA).double()
    return Clocks(
        query_position, key_position, *map(tuple, angles.tolist()), (angles[0] - angles[1]).cos().sum().item()
    )


def clocks_in_words(state: Clocks) -> str:
    """The clocks as a sentence: a text equivalent of the picture."""
    hands = ", ".join(
        f"{_degrees(q)}° and {_degrees(k)}°" for q, k in zip(state.query_angles, state.key_angles, strict=True)
    )
    return (
        f"Query at position {state.query_position}, key at {state.key_position}, distance {state.distance}. "
        f"The hands of query and key stand at {hands}. Score {state.score + 0.0:.2f} of at most {PAIRS}."
    )


def _degrees(angle: float) -> int:
    return round(math.degrees(angle)) % 360


ROW, HEAD, FOOT = 1.75, 0.82, 0.3  # inches: the height of a row of clocks, and what stands above and below them


@course_style()
def clocks_figure(states: Sequence[Clocks], title: str) -> Figure:
    """A row of four clocks for each state, its score beside them.

    Raises:
        ValueError: there are no states.
    """
    if not states:
        raise ValueError("states must hold at least one, got none")
    figure, rows = _clocks_at_rest(len(states), title)
    for (hands, words, score), state in zip(rows, states, strict=True):
        _turn(hands, words, score, state)
    return figure


def _clocks_at_rest(n_rows: int, title: str):
    """What no position changes; and for each row its hands, its words and its score, still without a value."""
    height = HEAD + ROW * n_rows + FOOT
    figure, rows = Figure(figsize=(WIDTH, height), layout="none"), []
    for row in range(n_rows):
        bottom, hands = height - HEAD - ROW * (row + 1) + 0.15, []
        for pair in range(PAIRS):
            axes = figure.add_axes(((2.15 + 1.75 * pair) / WIDTH, bottom / height, 1.45 / WIDTH, 1.45 / height))
            hands.append(_draw_clock(axes))
            if row == 0:
                speed = THETA ** (-pair / PAIRS)
                axes.set_title(f"pair {pair}\n{speed:g} radian a step", fontsize=9, color=MUTED, loc="center", pad=3)
                axes.title.set_fontweight("normal")
        words = figure.text(0.15 / WIDTH, (bottom + 0.62) / height, "", fontsize=10, linespacing=1.5)
        score = figure.text(
            0.15 / WIDTH, (bottom + 0.27) / height, "", fontsize=12, fontweight="bold", color=GREEN.strong
        )
        rows.append((hands, words, score))
    figure.text(0.15 / WIDTH, (height - 0.26) / height, prose(title), fontsize=11.5, fontweight="bold")
    keys = [Line2D([], [], **look, label=name) for name, look in HANDS.items()]
    where = dict(loc="lower left", bbox_to_anchor=(2.1 / WIDTH, 0), borderaxespad=0.2, borderpad=0.2)
    figure.legend(handles=keys, **where, ncols=2, fontsize=10, frameon=False, handlelength=2.6)
    note = "angles counted from the right, against the clock"
    figure.text(8.9 / WIDTH, 0.1 / height, note, fontsize=9, color=MUTED, ha="right")
    return figure, rows


HANDS = {
    "query": dict(color=GREEN.strong, linestyle="-", linewidth=3, solid_capstyle="round", marker="o", markersize=4),
    "key": dict(color=INK, linestyle=(0, (2, 1.6)), linewidth=2.2, marker="o", markersize=4),
}


def _draw_clock(axes: Axes) -> dict[str, Line2D]:
    axes.add_patch(Circle((0, 0), 1, facecolor=PAPER, edgecolor=LINE, linewidth=1.2))
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    axes.set_axis_off()
    return {name: axes.plot([], [], **look, markevery=[1])[0] for name, look in reversed(HANDS.items())}


def _turn(hands, words, score, state: Clocks) -> None:
    for clock, query, key in zip(hands, state.query_angles, state.key_angles, strict=True):
        for name, angle in (("query", query), ("key", key)):
            clock[name].set_data([0, math.cos(angle)], [0, math.sin(angle)])
    words.set_text(f"query at {state.query_position}\nkey at {state.key_position}\ndistance {state.distance}")
    score.set_text(f"score {state.score + 0.0:.2f}")


class LiveClocks:
    """A row of clocks as PNG, fast enough to follow a slider: hands and words drawn over a ground drawn once."""

    @course_style()
    def __init__(self, title: str):
        figure, [(self.hands, self.words, self.score)] = _clocks_at_rest(1, title)
        figure.set_dpi(LIVE_SHARPNESS * CSS_PIXELS_PER_INCH)
        self.figure, self.canvas = figure, FigureCanvasAgg(figure)
        self.css_size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
        self.canvas.draw()
        self.ground = self.canvas.copy_from_bbox(figure.bbox)

    def png(self, state: Clocks) -> bytes:
        """The picture of this state; equal states give equal bytes."""
        # not in course_style: that changes global settings for a moment, and a slider may move while a cell draws
        _turn(self.hands, self.words, self.score, state)
        self.canvas.restore_region(self.ground)
        for clock in self.hands:
            for hand in clock.values():
                hand.axes.draw_artist(hand)
        for text in (self.words, self.score):
            self.figure.draw_artist(text)
        return canvas_png(self.canvas)


def turning_pairs(key_position: int = 20, distance: int = 16):
    """Two sliders in front of the clocks: one moves query and key together, the other the query alone."""
    import ipywidgets

    from course_lib.drawing.widgets import labelled_slider, picture_html

    both, both_row = labelled_slider("both move", 0, 40, value=key_position, step=1)
    alone, alone_row = labelled_slider("query alone", 0, 40, value=distance, step=1)
    picture, words, live = ipywidgets.HTML(), ipywidgets.HTML(), LiveClocks("How far have the hands turned?")

    def redraw(_=None) -> None:
        state = clocks(round(both.value) + round(alone.value), round(both.value))
        picture.value = picture_html(live.png(state), clocks_in_words(state), live.css_size)
        words.value = escape(clocks_in_words(state))

    both.observe(redraw, "value")
    alone.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([both_row, alone_row, picture, words])
