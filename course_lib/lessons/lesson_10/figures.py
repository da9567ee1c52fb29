"""Lesson 10's pictures: bars from several sources, surprise, what of a loss is chance, calibration, and scores to move.

Pure functions, from numbers to figures; `moving_scores` puts sliders in front of `adjust`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from course_lib.drawing.figures import WIDTH, as_array, same_length
from course_lib.drawing.labels import axis_label, prose
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, LINE, MUTED, PHASES, course_style, live_png
from course_lib.drawing.words import from_to, percent
from course_lib.prediction.calibration import Calibration
from course_lib.prediction.logits import softmax

BLUE = PHASES[3]


# ---- bars from several sources --------------------------------------------------------------------


@course_style()
def sources_figure(sources: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """What several sources give to the same tokens, a panel each on one scale; the last row holds what is left to 1.

    Raises:
        ValueError: the sources do not name the same tokens, or give them more than 1 together.
    """
    tokens = list(next(iter(sources.values()), {}))
    if not tokens or any(list(given) != tokens for given in sources.values()):
        raise ValueError("sources must be one or more, and give a probability to the same tokens in the same order")
    figure = Figure(figsize=(WIDTH, 1.1 + 0.28 * (len(tokens) + 1)))
    panels = figure.subplots(1, len(sources), sharey=True, squeeze=False)[0]
    for axes, (name, given) in zip(panels, sources.items(), strict=True):
        values = as_array([*given.values()], name, "token")
        if values.min() < 0 or values.sum() > 1 + 1e-6:
            raise ValueError(f"{name} must give probabilities of at most 1 together, got {values.sum():g}")
        left = 1 - values.sum()
        values = [*values, left if left > 1e-6 else 0.0]
        axes.barh(range(len(values)), values, height=0.72, color=[*[BLUE.strong] * len(tokens), BLUE.medium])
        _write_beside(axes, values)
        axes.set_xlim(0, 1.3)
        axes.set_title(prose(name), fontsize=10, fontweight="normal", pad=4)
        _no_axis_below(axes)
    panels[0].set_yticks(range(len(tokens) + 1), [*map(axis_label, tokens), "all others"])
    panels[0].invert_yaxis()
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def _write_beside(axes: Axes, values: Sequence[float]) -> None:
    for row, value in enumerate(values):
        axes.annotate(
            percent(value), (value, row), (5, 0), textcoords="offset points", fontsize=9.5, va="center_baseline"
        )


def _no_axis_below(axes: Axes) -> None:
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


# ---- surprise and loss ----------------------------------------------------------------------------


@course_style()
def surprise_figure(named: Mapping[str, float], title: str) -> Figure:
    """The curve −ln p, and on it the named probabilities, above 0 and up to 1."""
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.add_subplot()
    p = np.linspace(0.004, 1, 500)
    axes.plot(p, -np.log(p), color=BLUE.medium)
    for name, value in named.items():
        axes.plot(value, -math.log(value), "o", color=BLUE.strong)
        axes.annotate(
            f"{prose(name)}: {-math.log(value):.2f}",
            (value, -math.log(value)),
            xytext=(8, 3),
            textcoords="offset points",
            fontsize=10,
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 5.4)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.set_xlabel("probability that the word had been given")
    axes.set_ylabel("surprise −ln p, in nats")
    axes.set_title(prose(title))
    return figure


@course_style()
def loss_split(losses: Mapping[str, float], floor: float, title: str) -> Figure:
    """Losses in nats as bars in two parts: the chance in the language, alike for all, and what a source does not know.

    Raises:
        ValueError: a loss is below the floor.
    """
    names, values = list(losses), as_array([*losses.values()], "losses", "source")
    if values.min() < floor:
        raise ValueError(f"losses must be at least the floor, {floor:g}, got {values.min():g}")
    figure = Figure(figsize=(WIDTH, 1.2 + 0.34 * len(names)))
    axes = figure.add_subplot()
    rows = range(len(names))
    axes.barh(rows, [floor] * len(names), height=0.66, color=LINE, label="chance: the entropy of the language")
    axes.barh(rows, values - floor, left=floor, height=0.66, color=BLUE.strong, label="what the model does not know")
    chance = round(floor, 3)
    for row, value in enumerate(values):
        whole = round(value, 3)  # and the rest from it, so that what is printed adds up
        # beside a whole bar, so that a small part is still told
        axes.annotate(
            f"{whole:.3f} = {chance:.3f} + {whole - chance:.3f}",
            (value, row),
            (6, 0),
            textcoords="offset points",
            fontsize=9.5,
            va="center_baseline",
        )
    axes.set_yticks(rows, map(prose, names))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.36 * values.max())
    _no_axis_below(axes)
    axes.set_title(prose(title))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


# ---- calibration ----------------------------------------------------------------------------------


@course_style()
def calibration_figure(measured: Mapping[str, Calibration], title: str, fewest: int = 10) -> Figure:
    """Of all that was given a probability, how much came: a panel for each source, a dot a bin, larger for more.

    Bins of fewer than `fewest` predictions are left out. A source that means what it says lies on the diagonal.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    small, large = 12, 150  # points²
    for axes, (name, one) in zip(panels, measured.items(), strict=True):
        enough = one.count >= fewest
        said, came, count = (values[enough].numpy() for values in (one.said, one.came, one.count))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", zorder=0, label="as much comes as is said")
        axes.plot(said, came, color=BLUE.strong, linewidth=1)
        axes.scatter(said, came, s=small + large * count / count.max(), color=BLUE.strong, clip_on=False)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.set_title(prose(name), fontsize=10, fontweight="normal", pad=6)
        axes.set_xlabel("said", loc="center")
    panels[0].set_ylabel("came")
    dots = [
        Line2D([], [], color=BLUE.strong, linestyle="", marker="o", markersize=size**0.5, label=f"{many} in the bin")
        for size, many in ((small, "few"), (small + large, "many"))
    ]
    figure.legend(handles=[*panels[0].lines[:1], *dots], loc="outside lower left", ncols=3)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- distance to the truth against quality --------------------------------------------------------

LOOKS = (
    dict(color=BLUE.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
)


@dataclass(frozen=True)
class Measured:
    """One source of sentences: how far its probabilities are from the truth, and what it says."""

    name: str
    distance: float  # KL divergence from the truth, in nats
    values: tuple[float, ...]  # one for each panel


@course_style()
def quality_figure(
    lines: Mapping[str, Sequence[Measured]], panels: Mapping[str, float | None], title: str, shown: Sequence[str] = ()
) -> Figure:
    """Up to two named lines of sources over their distance to the truth, a panel for each measure.

    `panels` are the measures' names, each with the value that the truth itself has (a dotted line) or None. The
    sources in `shown` have their names beside their markers.
    """
    figure = Figure(figsize=(WIDTH, 3.8))
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for i, (axes, (measure, true)) in enumerate(zip(all_axes, panels.items(), strict=True)):
        for (name, line), look in zip(lines.items(), LOOKS, strict=False):
            axes.plot([m.distance for m in line], [m.values[i] for m in line], **look, markersize=5, label=name)
        if true is not None:
            axes.axhline(true, color=MUTED, linewidth=1, linestyle=":")
            place = dict(xycoords=("axes fraction", "data"), xytext=(-3, 3), textcoords="offset points", ha="right")
            axes.annotate("the truth", (1, true), **place, fontsize=9, color=MUTED)
        axes.set_xscale("log")
        axes.margins(x=0.28, y=0.08)  # room for names beside the outermost markers
        axes.xaxis.set_major_formatter(lambda nats, _: f"{nats:g}")
        axes.set_xlabel("nats from the truth (KL)")
        axes.set_title(prose(measure), fontsize=10, fontweight="normal")
    all_axes[0].set_ylim(0, 1.1)
    all_axes[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    figure.draw_without_rendering()  # only now is it known where things are
    for i, axes in enumerate(all_axes):
        taken = [text.get_window_extent() for text in axes.texts]
        for line, look in zip(lines.values(), LOOKS, strict=False):
            for m in line:
                if m.name in shown:
                    note = axes.annotate(
                        prose(m.name),
                        (m.distance, m.values[i]),
                        xytext=(0, 0),
                        textcoords="offset points",
                        fontsize=9,
                        color=look["color"],
                    )
                    taken.append(_put_beside(note, axes, taken))
    return figure


PLACES = [
    dict(position=(side * across, up), ha="left" if side > 0 else "right", va="center_baseline")
    for up in (8, -9, 0, 15, -16)
    for across in (7, 12)
    for side in (1, -1)
]


def _put_beside(note: Annotation, axes: Axes, taken: Sequence[Bbox]) -> Bbox:
    """Put the note where it crosses no line, no marker and no other note, and lies in the panel: as near as it goes."""
    inside = axes.get_window_extent()
    drawn = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    markers = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for path in drawn for x, y in path.vertices]

    def faults(place) -> int:
        note.set(**place)
        box = note.get_window_extent().padded(2)
        crossed = sum(path.intersects_bbox(box, filled=False) for path in drawn)
        left_out = not (inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1)
        return 2 * left_out + crossed + box.count_overlaps([*taken, *markers])

    note.set(**min(PLACES, key=faults))  # the first of the best
    return note.get_window_extent()


# ---- scores that can be moved ---------------------------------------------------------------------


@dataclass(frozen=True)
class Adjusted:
    """Scores before and after three changes, and the probabilities that softmax makes of them."""

    tokens: tuple[str, ...]
    which: int  # the token whose score was raised
    raised: float  # what was added to that one's score
    added: float  # to all scores
    times: float  # all scores were multiplied by it first
    scores: tuple[float, ...]
    before: tuple[float, ...]  # probabilities of the scores as they were
    after: tuple[float, ...]
    naive: tuple[float, ...]  # e^score / Σ e^score in float32, the largest score not taken off: perhaps NaN


def adjust(
    tokens: Sequence[str],
    scores: Sequence[float],
    which: int = 0,
    raised: float = 0.0,
    added: float = 0.0,
    times: float = 1.0,
) -> Adjusted:
    """Multiply all scores by `times`, add `raised` to one of them and `added` to all, and take softmax.

    Raises:
        ValueError: tokens and scores differ in number, or there is no token `which`.
    """
    same_length(tokens=tokens, scores=scores)
    if not 0 <= which < len(tokens):
        raise ValueError(f"which must be from 0 to {len(tokens) - 1}, the place of a token, got {which}")
    start = torch.tensor([*scores], dtype=torch.float64)
    changed = times * start + added
    changed[which] += raised
    powers = torch.exp(changed.float())
    return Adjusted(
        tuple(tokens),
        which,
        raised,
        added,
        times,
        tuple(changed.tolist()),
        tuple(softmax(start).tolist()),
        tuple(softmax(changed).tolist()),
        tuple((powers / powers.sum()).tolist()),
    )


def without_the_largest_taken_off(state: Adjusted) -> str:
    """What e^score / Σ e^score gives when nothing is taken off first, as a sentence."""
    if any(math.isnan(share) for share in state.naive):
        what = f"not a number, for {'∞ / ∞' if max(state.scores) > 0 else '0 / 0'}"
    elif list(map(percent, state.naive)) == list(map(percent, state.after)):
        what = "the same"
    else:
        what = "other numbers, for so small a power has few digits left"
    return f"Without taking the largest score off first: {what}."


def adjusted_in_words(state: Adjusted) -> str:
    """The state as a sentence: a text equivalent of the picture."""
    rows = ", ".join(
        f"{token} {score:.2f}: {from_to(percent(before), percent(now))}"
        for token, score, before, now in zip(state.tokens, state.scores, state.before, state.after, strict=True)
    )
    return f"Scores and probabilities: {rows}. {without_the_largest_taken_off(state)}"


HEIGHT = 3.7  # inches


class AdjustedFigure:
    """Scores on the left, probabilities on the right; `set` changes what a state changes: it follows a slider."""

    @course_style()
    def __init__(self, tokens: Sequence[str], title: str):
        n = len(tokens)
        self.figure = Figure(figsize=(WIDTH, HEIGHT), layout="none")
        self.figure.text(0.15 / WIDTH, 1 - 0.26 / HEIGHT, prose(title), fontsize=11.5, fontweight="bold")
        box = lambda left, width: (left / WIDTH, 0.5 / HEIGHT, width / WIDTH, 2.5 / HEIGHT)  # noqa: E731
        self.left = self.figure.add_axes(box(0.95, 2.9))
        right = self.figure.add_axes(box(4.35, 4.2), xlim=(0, 1.5))
        for axes, heading in ((self.left, "score"), (right, "probability: before (pale) → now (dark)")):
            axes.set_ylim(n - 0.5, -0.5)
            axes.set_title(heading, fontsize=10, fontweight="normal", pad=6)
            _no_axis_below(axes)
        self.left.set_yticks(range(n), map(axis_label, tokens))
        self.left.spines["left"].set_visible(False)
        right.set_yticks([])
        self.zero = self.left.axvline(0, color=MUTED, linewidth=0.8)
        (self.dots,) = self.left.plot([0] * n, range(n), "D", color=BLUE.strong, markersize=7)
        beside = dict(xytext=(8, 0), textcoords="offset points", fontsize=9.5, va="center_baseline")
        self.notes = [self.left.annotate("", (0, row), **beside) for row in range(n)]
        self.pale = right.barh(range(n), [0] * n, height=0.78, color=BLUE.medium)
        self.bars = right.barh(range(n), [0] * n, height=0.44, color=BLUE.strong)
        self.percents = [right.annotate("", (0, row), **beside) for row in range(n)]
        self.below = self.figure.text(0.15 / WIDTH, 0.16 / HEIGHT, "", fontsize=9.5)
        self.css_size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in self.figure.get_size_inches())

    def set(self, state: Adjusted) -> Figure:
        low, high = min(state.scores), max(state.scores)
        room = max(high - low, 1.0)
        self.left.set_xlim(low - 0.15 * room, high + 0.6 * room)
        self.zero.set_visible(low - 0.15 * room < 0)
        self.dots.set_xdata(state.scores)
        for row, score in enumerate(state.scores):
            self.notes[row].xy = (score, row)
            self.notes[row].set_text(f"{score:.2f}")
            self.pale[row].set_width(state.before[row])
            self.bars[row].set_width(state.after[row])
            self.percents[row].xy = (max(state.before[row], state.after[row]), row)
            self.percents[row].set_text(from_to(percent(state.before[row]), percent(state.after[row])))
        self.below.set_text(without_the_largest_taken_off(state))
        return self.figure

    def png(self, state: Adjusted) -> bytes:
        """The picture of this state; equal states give equal bytes."""
        return live_png(self.set(state))


def adjusted_figure(state: Adjusted, title: str) -> Figure:
    """One state, standing still."""
    return AdjustedFigure(state.tokens, title).set(state)


def moving_scores(tokens: Sequence[str], scores: Sequence[float]):
    """Sliders that raise one score, add to all of them, and multiply them all."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, labelled_slider, picture_html

    names = [(token, place) for place, token in enumerate(tokens)]
    which = ipywidgets.Dropdown(options=names, description="one score", style=LABELS, layout={"width": "18em"})
    raise_one, raise_row = labelled_slider("add to it", -6, 6, value=0, step=0.25)
    add, add_row = labelled_slider("add to all", -200, 200, value=0, step=10)
    multiply, multiply_row = labelled_slider("times", 0, 4, value=1, step=0.25)
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()
    live = AdjustedFigure(tokens, "What becomes of all the probabilities?")

    def redraw(_=None) -> None:
        state = adjust(tokens, scores, which.value, raise_one.value, add.value, multiply.value)
        sentence = adjusted_in_words(state)
        picture.value = picture_html(live.png(state), sentence, live.css_size)
        words.value = f'<span role="status">{escape(sentence)}</span>'

    for control in (which, raise_one, add, multiply):
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([which, raise_row, add_row, multiply_row, picture, words])
