"""Lesson 11's pictures: runs beside each other, and the way down a valley."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from matplotlib.figure import Figure

from course_lib.drawing.figures import WIDTH, log_axis
from course_lib.drawing.labels import prose
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, MUTED, PHASES, course_style, live_png
from course_lib.drawing.words import power
from course_lib.training.optimizer import adamw_step, schedule

BLUE = PHASES[3]

# ---- curves beside each other ---------------------------------------------------------------------

# told apart by colour, dashes and marker: any one of them is enough
LOOKS = (
    dict(color=BLUE.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=BLUE.medium, linestyle="-.", marker="^"),
    dict(color=MUTED, linestyle=":", marker="D"),
)


@course_style()
def curves_figure(
    lines: Mapping[str, Sequence[float] | Mapping[int, float]],
    title: str,
    x: str,
    y: str,
    mark: tuple[str, float] | None = None,
) -> Figure:
    """Up to four named curves over the steps of a training: a value for each step from 1, or {step: value}.

    `mark`: a level to hold them against, and what it is.

    Raises:
        ValueError: there are none, or more than four.
    """
    if not 1 <= len(lines) <= len(LOOKS):
        raise ValueError(f"lines must be from 1 to {len(LOOKS)} curves, got {len(lines)}")
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    for (name, values), look in zip(lines.items(), LOOKS, strict=False):
        points = values if isinstance(values, Mapping) else dict(enumerate(values, 1))
        every = max(1, len(points) // 6)
        axes.plot(list(points), list(points.values()), label=prose(name), markevery=every, markersize=5, **look)
    if len(lines) == 1:
        axes.lines[0].set_marker("")  # there is nothing to tell it apart from
    if mark is not None:
        axes.axhline(mark[1], color=MUTED, linestyle="--", linewidth=1.2, zorder=0)
        right = (1, mark[1])
        axes.annotate(
            mark[0],
            right,
            xycoords=("axes fraction", "data"),
            xytext=(-4, 5),
            textcoords="offset points",
            ha="right",
            fontsize=9.5,
            color=MUTED,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(prose(title))
    figure.legend(loc="outside lower left", ncols=len(lines))
    return figure


# ---- down a valley --------------------------------------------------------------------------------

METHODS = ("gradient descent", "momentum", "AdamW")
STEEPNESS = 100  # the loss is this much steeper across the valley than along it
START = (-4.0, 1.0)  # along the valley, and across
STEPS = 60


@dataclass(frozen=True)
class Descent:
    """How to walk down: a method, its learning rate, `beta` for the running mean, and how far the valley is turned.

    Raises:
        ValueError: a setting that makes no sense.
    """

    method: str = "AdamW"
    learning_rate: float = 0.1
    beta: float = 0.9
    turn: float = 0.0  # degrees
    scheduled: bool = False  # warm-up and cosine, or the same rate throughout

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if not 0 < self.learning_rate <= 10:
            raise ValueError(f"learning_rate must be above 0 and at most 10, got {self.learning_rate}")
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta must be from 0 to below 1, got {self.beta}")


def descend(descent: Descent) -> tuple[list[tuple[float, float]], list[float]]:
    """The places walked through, STEPS + 1 of them, and the loss at each: ½ (along² + STEEPNESS · across²).

    Two weights, x and y. Without a turn, x alone leads along the valley and y alone across it; turned by 45 degrees,
    both have to move together. The walk begins at the same place of the valley, whatever its turn.
    """
    angle = math.radians(descent.turn)
    axes = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    curvature = torch.tensor([1.0, STEEPNESS], dtype=torch.float64)

    def in_valley(place):  # (along, across); written out, so that every machine adds in the same order
        return axes[:, 0] * place[0] + axes[:, 1] * place[1]

    place = axes[0] * START[0] + axes[1] * START[1]
    mean, mean_square = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    places, losses = [], []
    for step in range(STEPS + 1):
        where = in_valley(place)
        places.append(tuple(place.tolist()))
        losses.append((0.5 * (curvature * where * where).sum()).item())
        slope = curvature * where
        gradient = axes[0] * slope[0] + axes[1] * slope[1]
        rate = descent.learning_rate * (schedule(step, STEPS) if descent.scheduled and step < STEPS else 1)
        if descent.method == "AdamW":
            place, mean, mean_square = adamw_step(
                place, gradient, mean, mean_square, step + 1, rate, (descent.beta, 0.99), weight_decay=0.0
            )
        else:
            mean = descent.beta * mean + gradient if descent.method == "momentum" else gradient
            place = place - rate * mean
    return places, losses


def descent_in_words(descent: Descent, losses: Sequence[float]) -> str:
    """The picture's text equivalent: the settings, and what became of the loss."""
    told = f"{descent.method}, learning rate {descent.learning_rate:.2g}"
    if descent.method != "gradient descent":
        told += f", beta {descent.beta:g}"
    told += ", warm-up and cosine" if descent.scheduled else ""
    turned = f"in a valley turned by {descent.turn:g} degrees" if descent.turn else "in a valley along the axes"
    seen = ", ".join(f"{power(losses[step])} after {step}" for step in (20, 40, 60))
    return f"{told}, {turned}. The loss begins at {power(losses[0])}: {seen} steps."


class DescentFigure:
    """The valley with the walk on the left, the loss by step on the right; `set` changes what a setting changes."""

    SIZE = (WIDTH, 4.3)  # inches
    LEFT, RIGHT, BOTTOM, TOP = -4.9, 1.9, -3.7, 2.2
    LOWEST, HIGHEST = 1e-5, 1e3

    @course_style()
    def __init__(self, title: str):
        width, height = self.SIZE
        self.figure = Figure(figsize=self.SIZE, layout="none")
        self.figure.text(0.15 / width, 1 - 0.26 / height, prose(title), fontsize=11.5, fontweight="bold")
        inches = 4.0 / (self.RIGHT - self.LEFT)
        plane = self.figure.add_axes(
            (0.5 / width, 0.35 / height, 4.0 / width, inches * (self.TOP - self.BOTTOM) / height)
        )
        plane.set(xlim=(self.LEFT, self.RIGHT), ylim=(self.BOTTOM, self.TOP), xticks=[], yticks=[])
        plane.set_xlabel("weight x")
        plane.set_ylabel("weight y")
        self.rings = [plane.plot([], [], color=BLUE.medium, linewidth=0.9, zorder=1)[0] for _ in range(5)]
        plane.plot([0], [0], marker="*", markersize=13, color=INK, zorder=2)
        (self.walk,) = plane.plot([], [], color=BLUE.strong, marker="o", markersize=3.5, linewidth=1.2, zorder=3)
        (self.first,) = plane.plot([], [], color=INK, marker="s", markersize=7, linestyle="", zorder=4)

        curve = self.figure.add_axes((5.45 / width, 0.62 / height, 3.3 / width, 2.9 / height), xlim=(0, STEPS))
        log_axis(curve, self.LOWEST, self.HIGHEST)
        curve.set_xlabel("step")
        self.end = curve.set_title("", fontsize=10.5, color=BLUE.strong, pad=6)
        (self.line,) = curve.plot([], [], color=BLUE.strong)
        self.css_size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in self.SIZE)

    def set(self, descent: Descent) -> Figure:
        places, losses = descend(descent)
        angle = math.radians(descent.turn)
        for ring, level in zip(self.rings, (0.1, 1, 4, 16, 58), strict=True):  # places of equal loss, an ellipse each
            circle = [math.radians(degree) for degree in range(0, 361, 3)]
            along = [math.sqrt(2 * level) * math.cos(a) for a in circle]
            across = [math.sqrt(2 * level / STEEPNESS) * math.sin(a) for a in circle]
            ring.set_data(
                [math.cos(angle) * u - math.sin(angle) * v for u, v in zip(along, across, strict=True)],
                [math.sin(angle) * u + math.cos(angle) * v for u, v in zip(along, across, strict=True)],
            )
        far = 1e3  # a walk that leaves for ever: lines to places beyond this cannot be drawn
        shown = [place for place in places if max(map(abs, place)) < far]
        self.walk.set_data(*zip(*shown, strict=True))
        self.first.set_data([places[0][0]], [places[0][1]])
        inside = [min(max(loss, self.LOWEST), self.HIGHEST) for loss in losses]
        self.line.set_data(range(STEPS + 1), inside)
        self.end.set_text(f"the loss after {STEPS} steps: {power(losses[-1])}")
        return self.figure

    def png(self, descent: Descent) -> bytes:
        """The picture of these settings; equal settings give equal bytes."""
        return live_png(self.set(descent))


def descent_figure(descent: Descent, title: str = "How far down in 60 steps?") -> Figure:
    """One choice of settings, standing still."""
    return DescentFigure(title).set(descent)


def valley_playground(descent: Descent):
    """A method, its settings and the valley's turn, and the walk that comes of them."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, complaint, labelled_slider, picture_html

    look = dict(style=LABELS, layout={"width": "22em"})
    method = ipywidgets.Dropdown(options=METHODS, value=descent.method, description="method", **look)
    rates = ipywidgets.Dropdown(
        options=[("the same throughout", False), ("warm-up and cosine", True)],
        value=descent.scheduled,
        description="schedule",
        **look,
    )
    nearest = round(20 * math.log10(descent.learning_rate)) / 20  # where the slider can stand
    power_of_ten, power_row = labelled_slider("log10 rate", -3, 0, value=nearest)
    beta, beta_row = labelled_slider("beta", 0, 0.98, value=descent.beta, step=0.02)
    turn, turn_row = labelled_slider("turn", 0, 45, value=descent.turn, step=1)
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()
    live = DescentFigure(f"How far down in {STEPS} steps?")

    def redraw(_=None) -> None:
        try:
            now = Descent(method.value, 10**power_of_ten.value, beta.value, turn.value, rates.value)
        except ValueError as error:
            words.value, picture.value = complaint(error), ""
            return
        said = descent_in_words(now, descend(now)[1])
        words.value = f'<span role="status">{escape(said)}</span>'
        picture.value = picture_html(live.png(now), said, live.css_size)

    controls = (method, rates, power_of_ten, beta, turn)
    for control in controls:
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([method, rates, power_row, beta_row, turn_row, picture, words])
