"""Lesson 05's pictures: what a row of attention weights takes, what √d does to it, and a query one can turn.

Pure functions, from numbers to figures; `turning_query` puts sliders in front of `gaze`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from matplotlib.figure import Figure

from course_lib.drawing.figures import SHADE, WIDTH, as_array, same_length
from course_lib.drawing.labels import axis_label, prose
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, LINE, MUTED, PAPER, PHASES, course_style, live_png
from course_lib.transformer_block.attention import causal_mask, scaled_dot_product_attention

RED = PHASES[2]
# told apart by colour, dashes and marker: any one of them is enough
LOOKS = (
    dict(color=RED.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=RED.medium, linestyle=":", marker="^"),
)


# ---- rows of weights ------------------------------------------------------------------------------


@course_style()
def row_figure(rows: Mapping[str, Sequence[float]], tokens: Sequence[str], title: str) -> Figure:
    """Rows of attention weights as bars over the same tokens, a panel for each named row.

    Raises:
        ValueError: there are no rows, or one has another length than the tokens.
    """
    if not rows:
        raise ValueError("rows must hold at least one row of weights, got none")
    figure = Figure(figsize=(WIDTH, 0.9 + 1.15 * len(rows)))
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, weights) in zip(panels, rows.items(), strict=True):
        weights = as_array(weights, name, "key")
        same_length(tokens=tokens, weights=weights)
        axes.bar(range(len(tokens)), weights, width=0.8, color=RED.strong)
        largest = int(weights.argmax())
        axes.annotate(
            f"{100 * weights[largest]:.0f}%",
            (largest, weights[largest]),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=9,
            ha="center",
        )
        axes.set_ylim(0, 1.2)
        axes.set_yticks([0, 1], ["0%", "100%"])
        axes.set_title(prose(name), fontsize=10, fontweight="normal", pad=2)
        axes.margins(x=0.01)
        axes.tick_params(axis="x", length=0)
    panels[-1].set_xticks(range(len(tokens)), [axis_label(token) for token in tokens], rotation=90)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- curves and counts ----------------------------------------------------------------------------


@course_style()
def share_curves(
    lines: Mapping[str, Mapping[int, float]], title: str, x: str, y: str, named: tuple[int, ...] = ()
) -> Figure:
    """Up to three named lines of shares, 0 to 100%, over sizes that double: {name: {size: share}}.

    The values at the sizes in `named` stand beside their markers.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot()
    for (name, shares), look in zip(lines.items(), LOOKS, strict=False):
        sizes = sorted(shares)
        axes.plot(sizes, [shares[size] for size in sizes], **look, label=name, clip_on=False)
        for size in named:
            axes.annotate(
                f"{100 * shares[size]:.0f}%",
                (size, shares[size]),
                xytext=(0, 7),
                textcoords="offset points",
                fontsize=9.5,
                ha="center",
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.55))
    axes.set_title(prose(title))
    return figure


@course_style()
def count_figure(counts: Sequence[int], of: int, title: str, x: str) -> Figure:
    """How many heads have each count, 1 to `of`, as bars; the rest of the axis stays empty to show what was allowed."""
    counts = as_array(counts, "counts", "head").astype(int)
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = figure.add_subplot()
    axes.bar(*np.unique(counts, return_counts=True), width=0.9, color=RED.strong)
    axes.axvline(np.median(counts), color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"half of the heads: {np.median(counts):.0f} or fewer",
        (np.median(counts), 0.93),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        fontsize=9.5,
        va="top",
    )
    axes.set_xlim(0, of + 1)
    axes.set_xticks([1, *range(20, of - 9, 20), of])
    axes.set_xlabel(x)
    axes.set_ylabel("heads")
    axes.set_title(prose(title))
    return figure


# ---- a query that can be turned -------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Tokens on a plane: each has a key of two numbers, and a value of one."""

    tokens: tuple[str, ...]
    keys: tuple[tuple[float, float], ...]
    values: tuple[float, ...]

    def __post_init__(self):
        same_length(tokens=self.tokens, keys=self.keys, values=self.values)


@dataclass(frozen=True)
class Gaze:
    """What one query takes: a score for every key it may look at, weights that sum to 1, and the mix of the values."""

    scene: Scene
    asking: int  # which token's query it is: it sees itself and the tokens before it
    direction: float  # degrees, counted from the right against the clock
    length: float
    query: tuple[float, float]
    scores: tuple[float, ...]  # of the keys up to the asking token
    weights: tuple[float, ...]  # of all keys: 0 for later ones
    mix: float


def gaze(scene: Scene, asking: int, direction: float, length: float) -> Gaze:
    """What a query of this direction (degrees) and length takes when the token at position `asking` asks.

    Raises:
        ValueError: there is no such token, or the length is below 0.
    """
    if not 0 <= asking < len(scene.tokens):
        raise ValueError(f"asking must be from 0 to {len(scene.tokens) - 1}, the position of a token, got {asking}")
    if length < 0:
        raise ValueError(f"length must be 0 or more, got {length}")
    angle = math.radians(direction)
    query = torch.tensor([[length * math.cos(angle), length * math.sin(angle)]], dtype=torch.float64)
    keys = torch.tensor(scene.keys, dtype=torch.float64)
    values = torch.tensor(scene.values, dtype=torch.float64)[:, None].expand(-1, 2)
    mask = causal_mask(len(scene.tokens))[asking : asking + 1]
    mixed, weights = scaled_dot_product_attention(query, keys, values, mask)
    scores = (query @ keys.T)[0, : asking + 1] / math.sqrt(2)
    return Gaze(
        scene,
        asking,
        direction,
        length,
        tuple(query[0].tolist()),
        tuple(scores.tolist()),
        tuple(weights[0].tolist()),
        mixed[0, 0].item(),
    )


def gaze_in_words(state: Gaze) -> str:
    """The state as a sentence: a text equivalent of the picture."""
    seen = ", ".join(
        f"{token} {100 * weight:.0f}%"
        for token, weight in zip(state.scene.tokens[: state.asking + 1], state.weights, strict=False)
    )
    x, y = (round(number, 2) + 0.0 for number in state.query)
    later = len(state.scene.tokens) - 1 - state.asking
    closed = f" {later} later token{'s' * (later != 1)} cannot be seen." if later else ""
    return (
        f"“{state.scene.tokens[state.asking]}” asks with the query ({x:.2f}, {y:.2f}), and takes: {seen}.{closed} "
        f"The mix of their values is {state.mix:.2f}."
    )


HEIGHT = 3.9  # inches
REACH, LONGEST = 3.2, 3.0  # the plane goes from −REACH to REACH, an arrow as far as LONGEST


class GazeFigure:
    """The plane with keys and query on the left, the weights as bars on the right; `set` changes what a state changes.

    Making a figure takes a tenth of a second, and setting it much less: so it follows a slider.
    """

    @course_style()
    def __init__(self, scene: Scene, title: str):
        n = len(scene.tokens)
        self.figure = Figure(figsize=(WIDTH, HEIGHT), layout="none")
        self.figure.text(0.15 / WIDTH, 1 - 0.26 / HEIGHT, prose(title), fontsize=11.5, fontweight="bold")
        plane = self.figure.add_axes((0.2 / WIDTH, 0.35 / HEIGHT, 3.1 / WIDTH, 3.1 / HEIGHT))
        plane.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[], yticks=[])
        plane.spines[:].set_visible(False)
        plane.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        plane.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        self.keys = [plane.plot(x, y, marker="o", markersize=7, color=INK)[0] for x, y in scene.keys]
        names = {}  # tokens whose keys are the same share a label
        for token, key in zip(scene.tokens, scene.keys, strict=True):
            names.setdefault(key, []).append(token)
        for key, tokens in names.items():
            plane.annotate(", ".join(tokens), key, xytext=(7, 5), textcoords="offset points", fontsize=10)
        (self.arrow,) = plane.plot([], [], color=RED.strong, linewidth=3, solid_capstyle="round", zorder=3)
        (self.tip,) = plane.plot([], [], color=RED.strong, marker="D", markersize=8, zorder=3)
        self.legend = self.figure.text(0.2 / WIDTH, 0.12 / HEIGHT, "", fontsize=9, color=MUTED)

        bars = self.figure.add_axes((4.45 / WIDTH, 0.85 / HEIGHT, 3.7 / WIDTH, 2.45 / HEIGHT))
        bars.set(xlim=(0, 1), ylim=(n - 0.5, -0.5), xticks=[0, 0.5, 1])
        bars.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        bars.set_yticks(
            range(n), [f"{token}: {value:g}" for token, value in zip(scene.tokens, scene.values, strict=True)]
        )
        bars.tick_params(axis="y", length=0)
        bars.set_title("token: value, and the weight that it gets", fontsize=10, fontweight="normal", pad=6)
        self.ground = bars.barh(range(n), [1] * n, height=0.72, color=SHADE, hatch="///", edgecolor=LINE, linewidth=0)
        self.bars = bars.barh(range(n), [0] * n, height=0.72, color=RED.strong)
        self.percents = [
            bars.text(1.03, i, "", transform=bars.get_yaxis_transform(), va="center", fontsize=10) for i in range(n)
        ]
        self.mix = self.figure.text(
            4.45 / WIDTH, 0.34 / HEIGHT, "", fontsize=12, fontweight="bold", color=RED.strong, va="bottom"
        )
        self.css_size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in self.figure.get_size_inches())

    def set(self, state: Gaze) -> Figure:
        shown = min(1, LONGEST / state.length) if state.length else 1  # a longer arrow would leave the plane
        x, y = (shown * number for number in state.query)
        self.arrow.set_data([0, x], [0, y])
        self.tip.set_data([x], [y])
        length = f"{state.length:g}" + (", drawn shorter" if shown < 1 else "")
        self.legend.set_text(f"● keys (○ later, cannot be seen)   ◆ query (length {length})")
        for i, weight in enumerate(state.weights):
            seen = i <= state.asking
            if not seen and state.scene.keys[i] in state.scene.keys[: state.asking + 1]:
                self.keys[i].set_visible(False)  # a token that can be seen has the same key
            else:
                self.keys[i].set_visible(True)
            self.keys[i].set(markerfacecolor=INK if seen else PAPER, markeredgecolor=INK if seen else MUTED)
            self.bars[i].set_width(weight)
            self.ground[i].set_visible(not seen)
            self.percents[i].set_text(f"{100 * weight:.0f}%" if seen else "later")
        self.mix.set_text(f"“{state.scene.tokens[state.asking]}” takes a mix of {state.mix:.2f}")
        return self.figure

    def png(self, state: Gaze) -> bytes:
        """The picture of this state; equal states give equal bytes."""
        return live_png(self.set(state))


def gaze_figure(state: Gaze, title: str = "What does the query take?") -> Figure:
    """One state, standing still."""
    return GazeFigure(state.scene, title).set(state)


def turning_query(scene: Scene, direction: float = 0, length: float = 1):
    """Sliders that turn and stretch a query, and a choice of the token that asks."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, labelled_slider, picture_html

    names = [(f"{token} (position {i})", i) for i, token in enumerate(scene.tokens)]
    asking = ipywidgets.Dropdown(
        options=names, value=len(names) - 1, description="who asks", style=LABELS, layout={"width": "18em"}
    )
    turn, turn_row = labelled_slider("direction", -180, 180, value=direction, step=10)
    stretch, stretch_row = labelled_slider("length", 0, 8, value=length, step=0.25)
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()
    live = GazeFigure(scene, "What does the query take?")

    def redraw(_=None) -> None:
        state = gaze(scene, asking.value, turn.value, stretch.value)
        sentence = gaze_in_words(state)
        picture.value = picture_html(live.png(state), sentence, live.css_size)
        words.value = f'<span role="status">{escape(sentence)}</span>'

    for control in (asking, turn, stretch):
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([asking, turn_row, stretch_row, picture, words])
