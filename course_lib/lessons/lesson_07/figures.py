"""Lesson 07's pictures: what becomes of a gradient, and of a row, on its way through many layers.

The pure functions come first, `chain_playground` puts sliders in front of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from course_lib.drawing.figures import WIDTH, log_axis
from course_lib.drawing.labels import prose
from course_lib.drawing.style import (
    CSS_PIXELS_PER_INCH,
    INK,
    LINE,
    LIVE_SHARPNESS,
    MUTED,
    PHASES,
    canvas_png,
    course_style,
)
from course_lib.drawing.words import power
from course_lib.transformer_block.normalization import rms_norm

RED = PHASES[2]
# told apart by colour, dashes and marker: any one of them is enough
LOOKS = (
    dict(color=MUTED, linestyle=":", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=RED.medium, linestyle="-", marker="^"),
    dict(color=RED.strong, linestyle="-", marker="D"),
    dict(color=RED.strong, linestyle="-.", marker="v"),
)
D_MODEL, ROWS = 64, 32  # of the chain that the widget computes
NORMS = ("none", "before each layer", "after each sum")


# ---- a chain of layers ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """`depth` layers, each a random matrix and a ReLU. `scale`: the weights' standard deviation times √d_model."""

    depth: int
    scale: float
    residual: bool
    norm: str  # one of NORMS

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {self.norm!r}")
        if self.depth < 1 or not self.scale > 0:
            raise ValueError(f"a chain needs a depth of 1 or more and a scale above 0, got {self.depth}, {self.scale}")


def arriving(chain: Chain, seed: int = 0) -> list[float]:
    """The gradient's length at the entrance of layer 1, 2, …, and behind the last, where it is 1: depth + 1 numbers.

    The gradient that enters at the end is random. In float64: float32 ends at 1e-45.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(chain.depth, D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
    x, enters = torch.randn(2, ROWS, D_MODEL, generator=generator, dtype=torch.float64)
    one = torch.ones(D_MODEL, dtype=torch.float64)
    states = [x.requires_grad_()]
    with torch.enable_grad():  # a lesson may have switched gradients off
        for weight in weights * (chain.scale / math.sqrt(D_MODEL)):
            read = rms_norm(x, one) if chain.norm == "before each layer" else x
            wrote = torch.relu(read @ weight.T)
            x = x + wrote if chain.residual else wrote
            x = rms_norm(x, one) if chain.norm == "after each sum" else x
            states.append(x)
        gradients = torch.autograd.grad(x, states, enters)
    end = gradients[-1].norm()
    return [(gradient.norm() / end).item() for gradient in gradients]


def summary(chain: Chain, gradients: Sequence[float]) -> str:
    """What became of the gradient on its way back, in one sentence."""
    first = gradients[0]
    fate = "vanished" if first < 1e-3 else "exploded" if first > 1e3 else "arrived"
    return f"{fate.capitalize()}: of a gradient of length 1 at the end, {power(first)} is left at layer 1."


def in_words(chain: Chain, gradients: Sequence[float]) -> str:
    """The picture's text equivalent: the settings, and the gradient at a few layers."""
    wiring = "with residual connections" if chain.residual else "without residual connections"
    norm = "no norm" if chain.norm == "none" else f"a norm {chain.norm}"
    places = sorted({0, chain.depth // 4, chain.depth // 2, 3 * chain.depth // 4, chain.depth})
    seen = ", ".join(
        f"{power(gradients[place])} {'behind the last' if place == chain.depth else f'at layer {place + 1}'}"
        for place in places
    )
    return f"{chain.depth} layers {wiring}, {norm}, weight scale {chain.scale:.2f}. The gradient's length: {seen}."


# ---- figures ------------------------------------------------------------------------------------


@course_style()
def gradient_figure(
    panels: Mapping[str, Mapping[str, Sequence[float]]], title: str, lowest: float = 1e-24, highest: float = 1e16
) -> Figure:
    """The gradient's length by layer on a log axis, one panel for each weight scale, one line for each wiring.

    `panels`: the panel's name → a wiring → its lengths, from the entrance of layer 1 to the end of the last. Where a
    line leaves the picture, its length at layer 1 stands at the edge as a number.
    """
    figure = Figure(figsize=(WIDTH, 4.0))
    axes_row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, lines) in zip(axes_row, panels.items(), strict=True):
        beyond = []
        for (wiring, lengths), look in zip(lines.items(), LOOKS, strict=False):
            n = len(lengths) - 1
            axes.plot(range(1, n + 2), lengths, label=wiring, markevery=max(1, n // 4), markersize=5, **look)
            if not lowest < lengths[0] < highest:
                beyond.append((wiring, lengths[0]))
        axes.axhline(1, color=LINE, linewidth=1, zorder=0)
        log_axis(axes, lowest, highest)
        for wiring, first in beyond:
            high = first > 1
            axes.annotate(
                f"{wiring} {'↑' if high else '↓'} {power(first)}\nat layer 1",
                (0.04, 0.985 if high else 0.02),
                xycoords="axes fraction",
                fontsize=9,
                color=MUTED,
                va="top" if high else "bottom",
            )
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("layer")
        axes.set_xticks([1, n // 4, n // 2, 3 * n // 4, n])
    axes_row[0].set_ylabel("length of the gradient that arrives")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    handles, labels = axes_row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
    return figure


@course_style()
def stream_figure(stream, attention, feed_forward, first, title: str) -> Figure:
    """How long the stream is by depth, and how long what each block's two parts write into it; log axis.

    `stream` and `first` (the first position's row): depth + 1 lengths; the writes: one for each block.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    n = len(attention)
    stretch = dict(markersize=4.5, markevery=2)
    axes.plot(range(n + 1), first, label="the first token's row", **LOOKS[0] | stretch)
    axes.plot(range(n + 1), stream, label="a row of the stream (median of the other tokens)", **LOOKS[3] | stretch)
    blocks = range(1, n + 1)
    axes.plot(blocks, feed_forward, label="what feed-forward writes", **LOOKS[2] | stretch)
    axes.plot(blocks, attention, label="what attention writes", **LOOKS[1] | stretch)
    lengths = [*stream, *first, *attention, *feed_forward]
    log_axis(axes, min(lengths) / 1.5, 1.5 * max(lengths))
    axes.set_xlabel("blocks passed")
    axes.set_ylabel("length")
    axes.set_title(prose(title))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@course_style()
def reading_figure(lines: Mapping[str, Mapping[int, float]], chance: float, title: str) -> Figure:
    """Shares that are read rightly, by depth: a name → {blocks passed: share}."""
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot()
    looks = (LOOKS[3], LOOKS[2], LOOKS[1], LOOKS[0])
    for (name, shares), look in zip(lines.items(), looks, strict=False):
        depths = sorted(shares)
        axes.plot(depths, [shares[d] for d in depths], label=name, markersize=5, markevery=3, clip_on=False, **look)
    axes.axhline(chance, color=LINE, linewidth=1, zorder=0)
    note = dict(textcoords="offset points", fontsize=9, color=MUTED)
    axes.annotate(f"guessing: {chance:.0%}", (0, chance), xytext=(0, 9), **note)
    axes.set_ylim(-0.07, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("blocks passed")
    axes.set_ylabel("words read rightly")
    axes.set_title(prose(title))
    figure.legend(loc="outside lower left", ncols=len(lines))
    return figure


# ---- the widget ---------------------------------------------------------------------------------


class LiveGradients:
    """The gradient by layer as PNG, fast enough to follow a slider: only the line is drawn anew."""

    SIZE = (7.4, 3.4)  # inches
    CSS_SIZE = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in SIZE)
    LOWEST, HIGHEST = 1e-32, 1e16
    DEEPEST = 66  # 64 more than the least: a slider over a power of two stops at whole numbers

    @course_style()
    def __init__(self, title: str = "How much of the gradient arrives?"):
        self.figure = Figure(figsize=self.SIZE, dpi=LIVE_SHARPNESS * CSS_PIXELS_PER_INCH, layout="none")
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0.12, 0.15, 0.85, 0.72), xlim=(0, self.DEEPEST + 2))
        log_axis(self.axes, self.LOWEST, self.HIGHEST)
        self.axes.axhspan(1e-3, 1e3, color=RED.pale, zorder=0)
        self.axes.text(67.5, 1.2e-3, "within a factor of 1,000", fontsize=8.5, color=MUTED, ha="right")
        self.axes.axhline(1, color=LINE, linewidth=1, zorder=0)
        self.axes.set_title(prose(title), x=-0.1)
        self.axes.set_xlabel("layer (the gradient enters behind the last, with length 1)")
        self.axes.set_xticks([1, 16, 32, 48, 64])
        self.axes.set_ylabel("length of the gradient")
        self.canvas.draw()
        self.ground = self.canvas.copy_from_bbox(self.figure.bbox)
        [self.line] = self.axes.plot([], [], color=RED.strong, marker="o", markersize=3.5)
        self.note = self.axes.annotate("", (0, 0), fontsize=10, color=INK, ha="left")

    def png(self, gradients: Sequence[float]) -> bytes:
        """The picture of these lengths; equal ones give equal bytes."""
        # a line that leaves the picture runs along its edge, and the note says how long the gradient really is
        inside = [min(max(g, self.LOWEST), self.HIGHEST) for g in gradients]
        self.line.set_data(range(1, len(inside) + 1), inside)
        low = inside[0] < 1
        self.note.set_text(f"layer 1: {power(gradients[0])}")
        self.note.xy = (1, inside[0])
        height = math.log10(inside[0] / self.LOWEST) / math.log10(self.HIGHEST / self.LOWEST)
        self.note.set_position((2.2, inside[0] * (1e3 if height < 0.85 else 1e-4)))
        self.note.set_va("bottom" if low else "center")
        self.canvas.restore_region(self.ground)
        self.axes.draw_artist(self.line)
        self.axes.draw_artist(self.note)
        return canvas_png(self.canvas)


def chain_playground(depth: int = 64, scale: float = 1.0):
    """Depth, weight scale, residual connections and norm, and the gradient that they let through."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, complaint, labelled_slider, picture_html

    layers, layers_row = labelled_slider("layers", 2, LiveGradients.DEEPEST, value=depth, step=1)
    scales, scales_row = labelled_slider("weight scale", 0.1, 2.0, value=scale, step=0.05)
    residual = ipywidgets.Dropdown(
        options=[("off: replace the row", False), ("on: add to the row", True)],
        description="residual",
        style=LABELS,
        layout={"width": "22em"},
    )
    norm = ipywidgets.Dropdown(options=list(NORMS), description="norm", style=LABELS, layout={"width": "22em"})
    said, picture = ipywidgets.HTML(), ipywidgets.HTML()
    live = LiveGradients()

    def redraw(_=None) -> None:
        try:
            chain = Chain(round(layers.value), scales.value, residual.value, norm.value)
        except ValueError as error:
            said.value, picture.value = complaint(error), ""
            return
        gradients = arriving(chain)
        said.value = f'<b role="status">{escape(summary(chain, gradients))}</b>'
        picture.value = picture_html(live.png(gradients), in_words(chain, gradients), LiveGradients.CSS_SIZE)

    for control in (layers, scales, residual, norm):
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([layers_row, scales_row, residual, norm, said, picture])
