"""What temperature and top-p do to a model's next-token probabilities: numbers, words and bars.

Pure functions, from logits and two settings; `widgets.sampling_playground` puts sliders in front of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float, Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Annotation
from torch import Tensor

from course_lib.drawing.figures import WIDTH
from course_lib.drawing.labels import axis_label, prose, visible
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, LIVE_SHARPNESS, MUTED, PHASES, canvas_png, course_style
from course_lib.drawing.words import from_to, percent
from course_lib.prediction import sampling
from course_lib.prediction.logits import softmax

SHOWN = 10  # the likeliest tokens; one more row stands for all others
MODEL_SAYS, AFTER = PHASES[3].medium, PHASES[3].strong


@dataclass(frozen=True)
class Reshaped:
    """A next-token distribution before and after the settings. Rows: the likeliest tokens, then all others as one."""

    temperature: float
    top_p: float
    tokens: tuple[str, ...]
    before: tuple[float, ...]  # one longer than `tokens`: the last is what all others hold together
    after: tuple[float, ...]
    kept: tuple[bool, ...]  # for each row: can (one of) it still be drawn
    n_kept: int
    n_vocab: int


def reshape(
    logits: Float[Tensor, " vocab"], token_text: Callable[[int], str], temperature: float, top_p: float
) -> Reshaped:
    """What the settings make of the model's own probabilities; temperature 0 is the greedy choice.

    `token_text` turns an id into text.

    Raises:
        ValueError: temperature is below 0, or top_p is not in (0, 1].
    """
    adjusted = sampling.Sampling(temperature=temperature, top_p=top_p).adjust(logits, [])
    return compared(logits, greedy_alone(logits) if temperature == 0 else adjusted, token_text, temperature, top_p)


def greedy_alone(logits: Float[Tensor, " vocab"]) -> Float[Tensor, " vocab"]:
    """Logits with which the greedy choice is the only one."""
    return torch.full_like(logits, -torch.inf).index_fill(0, sampling.greedy(logits), 0.0)


def compared(
    logits: Float[Tensor, " vocab"],
    adjusted: Float[Tensor, " vocab"],
    token_text: Callable[[int], str],
    temperature: float,
    top_p: float,
) -> Reshaped:
    """The distribution before and after: the model's own logits, and those that a token is drawn from."""
    top = logits.topk(min(SHOWN, len(logits))).indices
    kept = adjusted.isfinite()
    n_kept = int(kept.sum())
    return Reshaped(
        temperature,
        top_p,
        tuple(token_text(id) for id in top.tolist()),
        _with_others(softmax(logits), top),
        _with_others(softmax(adjusted), top),
        (*kept[top].tolist(), n_kept > int(kept[top].sum())),
        n_kept,
        len(logits),
    )


def _with_others(probabilities: Float[Tensor, " vocab"], top: Int[Tensor, " row"]) -> tuple[float, ...]:
    return (*probabilities[top].tolist(), probabilities.index_fill(0, top, 0).sum().item())


# ---- in words -----------------------------------------------------------------------------------


def summary(state: Reshaped) -> str:
    """How many tokens the settings leave, in one sentence."""
    if state.temperature == 0:
        return f"Greedy: only the likeliest of {state.n_vocab:,} tokens can be drawn."
    if state.n_kept == state.n_vocab:
        return f"All {state.n_vocab:,} tokens can be drawn."
    return f"{state.n_kept:,} of {state.n_vocab:,} tokens can be drawn."


def in_words(state: Reshaped) -> str:
    """The bars as a sentence: a text equivalent of the picture."""
    settings = f"temperature {state.temperature:.2f} and top-p {state.top_p:.2f}"
    return f"Next-token probabilities at {settings}: {rows_in_words(state)}. {summary(state)}"


def rows_in_words(state: Reshaped) -> str:
    return ", ".join(
        f"{name} {now}" if now == was else f"{name} {now} (was {was})"
        for name, now, was in zip(_names(state), _now(state), map(percent, state.before), strict=True)
    )


def _names(state: Reshaped) -> list[str]:
    n_others = state.n_vocab - len(state.tokens)
    return [*map(visible, state.tokens), f"{n_others:,} others"]


def _now(state: Reshaped) -> list[str]:
    return [percent(after) if kept else "cut off" for after, kept in zip(state.after, state.kept, strict=True)]


# ---- as bars ------------------------------------------------------------------------------------


@course_style()
def settings_figure(states: Sequence[Reshaped], title: str, names: Sequence[str] | None = None) -> Figure:
    """The same distribution under several settings, side by side on one scale; `names` say which, one a panel.

    Raises:
        ValueError: there are none, or they are not of one distribution.
    """
    if not states or any((s.tokens, s.before) != (states[0].tokens, states[0].before) for s in states):
        raise ValueError("states must be one or more settings of the same next-token distribution")
    figure = Figure(figsize=(WIDTH, 4.5))
    longest = max(max(*state.before, *state.after) for state in states)
    panels = figure.subplots(1, len(states), sharey=True, squeeze=False)[0]
    names = names or [f"temperature {state.temperature:g}, top-p {state.top_p:g}" for state in states]
    for axes, state, name in zip(panels, states, names, strict=True):
        _draw_model(axes, state, 1.85 * longest)  # room for both numbers
        after = _draw_after(axes, len(state.after))
        _move(after, state)
        for note, was, now in zip(after[1], map(percent, state.before), _now(state), strict=True):
            note.set(text=from_to(was, now), fontsize=9)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(summary(state), loc="left", fontsize=9, color=MUTED)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    figure.legend(handles=_keys(), loc="outside lower left", ncols=2)
    return figure


def _keys() -> list[Patch]:
    return [Patch(color=MODEL_SAYS, label="what the model says"), Patch(color=AFTER, label="after the settings")]


def _draw_model(axes: Axes, state: Reshaped, reach: float) -> None:
    """What no setting changes: the names, and broad pale bars for the model's own probabilities."""
    rows = range(len(state.before))
    axes.barh(rows, state.before, height=0.78, color=MODEL_SAYS)
    *tokens, others = _names(state)
    axes.set_yticks(rows, [*(axis_label(token, 1.25) for token in state.tokens[: len(tokens)]), others])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, reach)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def _draw_after(axes: Axes, n_rows: int) -> tuple[Sequence[Artist], list[Annotation]]:
    """A slim strong bar and a note for each row, still without a value."""
    bars = axes.barh(range(n_rows), [0.0] * n_rows, height=0.4, color=AFTER)
    beside = dict(xytext=(7, 0), textcoords="offset points", fontsize=9.5, va="center_baseline")
    return bars, [axes.annotate("", (0, row), **beside) for row in range(n_rows)]


def _move(after: tuple[Sequence[Artist], list[Annotation]], state: Reshaped) -> None:
    for row, (bar, note, text) in enumerate(zip(*after, _now(state), strict=True)):
        bar.set_width(state.after[row])
        note.xy = (max(state.before[row], state.after[row]), row)
        note.set(text=text, color=INK if state.kept[row] else MUTED)


class LiveBars:
    """The bars of one prompt as PNG, fast enough to follow a slider.

    A figure takes 120 ms to draw from nothing. So what no setting changes is drawn once, and only the strong bars and
    the notes are drawn over a copy of it.
    """

    SIZE = (7.4, 3.9)  # inches
    CSS_SIZE = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in SIZE)

    @course_style()
    def __init__(self, state: Reshaped, title: str):
        self.figure = Figure(figsize=self.SIZE, dpi=LIVE_SHARPNESS * CSS_PIXELS_PER_INCH, layout="none")
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0.19, 0.09, 0.8, 0.81))
        _draw_model(self.axes, state, reach=1.36)  # one scale for all settings, with room beside 100%
        self.axes.set_title(prose(title, 60), x=-0.22)
        own = dict(xycoords=self.axes.get_yaxis_transform(), fontsize=9.5, color=MUTED, ha="right")
        for row, text in enumerate(["the model's own", *map(percent, state.before)], start=-1):
            self.axes.annotate(text, (1, row), va="center_baseline", **own)
        self.figure.legend(handles=_keys(), loc="lower left", bbox_to_anchor=(0.18, 0), ncols=2)
        self.canvas.draw()
        self.ground = self.canvas.copy_from_bbox(self.figure.bbox)
        self.after = _draw_after(self.axes, len(state.after))

    def png(self, state: Reshaped) -> bytes:
        """The picture under these settings; equal states give equal bytes."""
        # not in course_style: that changes global settings for a moment, and a slider may move while a cell draws
        _move(self.after, state)
        self.canvas.restore_region(self.ground)
        for artist in chain(*self.after):
            self.axes.draw_artist(artist)
        return canvas_png(self.canvas)


STATIC_SETTINGS = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.5))


def playground_figure(llm, prompt: str, settings: Sequence[tuple[float, float]] = STATIC_SETTINGS) -> Figure:
    """What the playground shows, without a kernel: the prompt's next tokens under a few (temperature, top-p).

    Raises:
        ValueError: the prompt is empty, or a setting is out of its range.
    """
    logits = llm.logits(prompt)
    states = [reshape(logits, llm.tokenizer.token_text, *setting) for setting in settings]
    return settings_figure(states, how_does_it_go_on(prompt))


def how_does_it_go_on(prompt: str) -> str:
    tail = prompt[-48:]
    return f"How does “{'…' * (tail != prompt)}{tail} …” go on?"
