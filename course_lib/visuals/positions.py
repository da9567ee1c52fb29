"""Lesson 03's pictures: codes of positions, scores by distance, RoPE's pairs as the hands of clocks.

Pure functions, from numbers to figures; `turning_pairs` puts sliders in front of the clocks.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from course_lib.input_processing.positions import rotation_angles
from course_lib.visuals.figures import WIDTH, as_array
from course_lib.visuals.labels import prose
from course_lib.visuals.style import (
    CSS_PIXELS_PER_INCH,
    INK,
    LINE,
    MUTED,
    PAPER,
    PHASES,
    course_style,
    diverging,
    png,
    sequential,
)

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
    """Up to five named lines, each (places, values), named where they end.

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
    """Names right of the lines' ends, moved apart where they would touch."""
    symbols = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼"}
    low, high = axes.get_ylim()
    gap, level = 0.072 * (high - low), -math.inf
    for value, place, name, look in sorted(ends, key=lambda end: end[0]):
        level = max(value, level + gap)
        axes.annotate(
            f"{symbols[look['marker']]} {prose(name)}",
            (place, level),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=GREEN.strong if look["color"] == GREEN.medium else look["color"],
            annotation_clip=False,
        )


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


@course_style()
def clocks_figure(states: Sequence[Clocks], title: str) -> Figure:
    """A row of four clocks for each state, its score beside them.

    Raises:
        ValueError: there are no states.
    """
    if not states:
        raise ValueError("states must hold at least one, got none")
    figure = Figure(figsize=(WIDTH, 0.75 + 1.75 * len(states)), layout="none")
    _, height = figure.get_size_inches()
    for row, state in enumerate(states):
        bottom = height - 0.62 - 1.75 * (row + 1) + 0.12
        for pair in range(PAIRS):
            axes = figure.add_axes(((2.15 + 1.75 * pair) / WIDTH, bottom / height, 1.45 / WIDTH, 1.45 / height))
            _draw_clock(axes, state.query_angles[pair], state.key_angles[pair])
            if row == 0:
                speed = THETA ** (-pair / PAIRS)
                figure.text(
                    (2.15 + 1.75 * pair + 0.72) / WIDTH,
                    (bottom + 1.5) / height,
                    f"pair {pair}: {speed:g} a step",
                    fontsize=9,
                    color=MUTED,
                    ha="center",
                )
        words = f"query at {state.query_position}\nkey at {state.key_position}\ndistance {state.distance}\n"
        figure.text(0.15 / WIDTH, (bottom + 0.42) / height, words, fontsize=10, linespacing=1.5)
        score = f"score {state.score + 0.0:.2f}"
        figure.text(0.15 / WIDTH, (bottom + 0.22) / height, score, fontsize=12, fontweight="bold", color=GREEN.strong)
    figure.text(0.012, (height - 0.26) / height, prose(title), fontsize=11.5, fontweight="bold")
    figure.text(
        0.012, 0.08 / height, "━ query   ┅ key   (angles in radians, counted from the right)", fontsize=9, color=MUTED
    )
    return figure


def _draw_clock(axes: Axes, query: float, key: float) -> None:
    axes.add_patch(Circle((0, 0), 1, facecolor=PAPER, edgecolor=LINE, linewidth=1.2))
    for angle, colour, dashes, width in ((key, INK, (0, (2, 1.6)), 2.2), (query, GREEN.strong, "-", 3)):
        tip = (math.cos(angle), math.sin(angle))
        axes.plot([0, tip[0]], [0, tip[1]], color=colour, linestyle=dashes, linewidth=width, solid_capstyle="round")
        axes.plot(*tip, "o", color=colour, markersize=4)
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    axes.set_axis_off()


def turning_pairs(key_position: int = 20, distance: int = 16):
    """Two sliders in front of the clocks: one moves query and key together, the other the query alone."""
    import ipywidgets

    from course_lib.visuals.widgets import labelled_slider

    both, both_row = labelled_slider("both move", 0, 40, value=key_position, step=1)
    alone, alone_row = labelled_slider("query alone", 0, 40, value=distance, step=1)
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None) -> None:
        state = clocks(round(both.value) + round(alone.value), round(both.value))
        picture.value = picture_html(clocks_figure([state], "How far have the hands turned?"), clocks_in_words(state))
        words.value = escape(clocks_in_words(state))

    both.observe(redraw, "value")
    alone.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([both_row, alone_row, picture, words])


def picture_html(figure: Figure, alt: str) -> str:
    width, height = (round(CSS_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    return (
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" decoding="sync" style="max-width: none" '
        f'src="data:image/png;base64,{base64.b64encode(png(figure)).decode("ascii")}">'
    )
