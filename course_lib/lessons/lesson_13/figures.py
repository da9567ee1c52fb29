"""Lesson 13's pictures: which rows a run of the model computes anew, and what a longer text costs.

Pure functions, from runs and numbers to figures; `run_stepper` puts a choice and a slider in front of `moment`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from course_lib.drawing.figures import SHADE, WIDTH
from course_lib.drawing.labels import axis_label, prose
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, LINE, MUTED, PAPER, PHASES, course_style, live_png
from course_lib.prediction.speculative import Round

BLUE = PHASES[3]
MOST_TOKENS = 24
# told apart by colour, dashes and marker: any one of them is enough
LOOKS = (
    dict(color=BLUE.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=BLUE.medium, linestyle=":", marker="^"),
)


# ---- what a longer text costs ---------------------------------------------------------------------


@course_style()
def cost_curves(panels: Mapping[str, Mapping[str, Mapping[int, float]]], title: str, x: str) -> Figure:
    """Panels side by side, {what is measured: {a line's name: {tokens: amount}}}, each from 0 up.

    Raises:
        ValueError: there are no panels, or more lines than can be told apart.
    """
    if not panels or max(map(len, panels.values())) > len(LOOKS):
        raise ValueError(f"panels must hold at least one panel, each of at most {len(LOOKS)} lines, got {len(panels)}")
    figure = Figure(figsize=(WIDTH, 3.5))
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for (label, points), look in zip(lines.items(), LOOKS, strict=False):
            places = sorted(points)
            axes.plot(places, [points[n] for n in places], **look, markersize=5, label=label, clip_on=False)
        axes.set_xlim(0, 1.04 * max(places))
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(lambda amount, _: f"{amount:,.0f}")
        axes.xaxis.set_major_formatter(lambda amount, _: f"{amount:,.0f}")
        axes.set_xlabel(x)
        axes.set_title(prose(name), fontsize=10, fontweight="normal")
        axes.legend(loc="upper left")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- runs of a model ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One run of the model over a text: which rows it computes, and what the text has gained afterwards."""

    cached: int  # rows whose keys and values come out of the cache
    rows: int  # rows that are computed, those that follow
    refused: int  # of them, the last ones, which turn out to be wrong guesses and are thrown away
    chosen: int  # tokens that the text has won with this run
    text: int  # its length afterwards


def runs_without_cache(n_prompt: int, n_new: int) -> list[Run]:
    """Each run goes through the whole text."""
    return [Run(0, n_prompt + i, 0, 1, n_prompt + i + 1) for i in range(n_new)]


def runs_with_cache(n_prompt: int, n_new: int) -> list[Run]:
    """Prefill runs the prompt, each further run one token."""
    prefill = Run(0, n_prompt, 0, 1, n_prompt + 1)
    return [prefill] + [Run(n, 1, 0, 1, n + 2) for n in range(n_prompt, n_prompt + n_new - 1)]


def runs_with_draft(n_prompt: int, rounds: Sequence[Round]) -> list[Run]:
    """Each round of `speculate` is a run: over the token that was chosen last, and over the guesses after it."""
    runs, text = [], n_prompt
    for one in rounds:
        cached, guesses = (text - 1 if runs else 0), len(one.proposed)
        new_text = text + len(one.ids)
        runs.append(Run(cached, text - cached + guesses, guesses - one.accepted, len(one.ids), new_text))
        text = new_text
    return runs


@dataclass(frozen=True)
class Moment:
    """One run among those of several ways to the same text, and what each way has computed when it is as far."""

    tokens: tuple[str, ...]  # the text as it will be at the end
    guesses: tuple[str, ...]  # what the draft proposed in this run, if there is one
    ways: Mapping[str, Sequence[Run]]
    way: str
    step: int  # counted from 1

    @property
    def run(self) -> Run:
        return self.ways[self.way][self.step - 1]

    @property
    def so_far(self) -> dict[str, tuple[int, int]]:
        """For each way, the rows it has computed and in how many runs, when its text is as long as this or longer."""
        needed = {}
        for way, runs in self.ways.items():
            n = next(i for i, run in enumerate(runs, 1) if run.text >= self.run.text)
            needed[way] = sum(run.rows for run in runs[:n]), n
        return needed

    @property
    def labels(self) -> list[str]:
        """What stands at the rows that are there in this run: the text, and the guesses after it."""
        before = self.run.text - self.run.chosen
        return [*self.tokens[:before], *self.guesses]


@dataclass(frozen=True)
class Story:
    """A prompt, its continuation, and the rounds in which a draft and its target would write it."""

    prompt: tuple[str, ...]
    new: tuple[str, ...]
    rounds: tuple[Round, ...]
    guesses: tuple[tuple[str, ...], ...]  # each round's proposed tokens, as text

    def __post_init__(self):
        n = len(self.prompt) + len(self.new)
        if not self.prompt or not self.new or n > MOST_TOKENS:
            raise ValueError(f"prompt and new must not be empty, and have at most {MOST_TOKENS} tokens, got {n}")
        if sum(len(one.ids) for one in self.rounds) != len(self.new):
            raise ValueError("rounds must make as many tokens as new has")

    @property
    def ways(self) -> dict[str, list[Run]]:
        return {
            "no cache": runs_without_cache(len(self.prompt), len(self.new)),
            "cache": runs_with_cache(len(self.prompt), len(self.new)),
            "cache and draft": runs_with_draft(len(self.prompt), self.rounds),
        }


def moment(story: Story, way: str, step: int) -> Moment:
    """The run number `step` (from 1) of a way: "no cache", "cache" or "cache and draft".

    Raises:
        ValueError: there is no such way, or it has no such run.
    """
    ways = story.ways
    if way not in ways:
        raise ValueError(f"way must be one of {', '.join(map(repr, ways))}, got {way!r}")
    if not 1 <= step <= len(ways[way]):
        raise ValueError(f"step must be from 1 to {len(ways[way])}, the runs of this way, got {step}")
    guesses = story.guesses[step - 1] if way == "cache and draft" else ()
    return Moment((*story.prompt, *story.new), guesses, ways, way, step)


def in_words(now: Moment) -> str:
    """The moment as a few sentences: a text equivalent of the picture."""
    run, labels = now.run, [label.strip() or "␣" for label in now.labels]
    computed = labels[run.cached : run.cached + run.rows]
    which = f" (“{computed[0]}”)" if len(computed) == 1 else f" (“{computed[0]}” to “{computed[-1]}”)"
    said = f"Run {now.step} of {len(now.ways[now.way])}, {now.way}: {_rows(run.rows)} computed{which}"
    said += f", {_rows(run.cached)} out of the cache. " if run.cached else ", none out of a cache. "
    if now.guesses:
        kept = len(now.guesses) - run.refused
        said += f"Of {len(now.guesses)} guesses {kept} {'is' if kept == 1 else 'are'} accepted. "
    new = "".join(now.tokens[run.text - run.chosen : run.text]).replace("\n", "↵")
    said += f"The text gains “{new.strip() or new}”. A text of {run.text} tokens takes: "
    return said + "; ".join(f"{way} {_work(*work)}" for way, work in now.so_far.items()) + "."


def _rows(n: int) -> str:
    return f"{n} row{'s' * (n != 1)}"


def _work(rows: int, runs: int) -> str:
    return f"{_rows(rows)} in {runs} run{'s' * (runs != 1)}"


# ---- the picture ----------------------------------------------------------------------------------

HEIGHT = 4.7  # inches
NOTHING, FUTURE, EARLIER, NOW, REFUSED = range(5)
COLOURS = (PAPER, SHADE, BLUE.pale, BLUE.strong, "#9aa5b1")


class RunFigure:
    """Who looks at whom as a triangle, with what this run computes in it, and bars of the rows so far.

    Making a figure takes a tenth of a second, and setting it much less: so it follows a slider.
    """

    @course_style()
    def __init__(self, story: Story, title: str):
        self.n = n = max(run.cached + run.rows for runs in story.ways.values() for run in runs)
        self.figure = Figure(figsize=(WIDTH, HEIGHT), layout="none")
        self.figure.text(0.15 / WIDTH, 1 - 0.27 / HEIGHT, prose(title), fontsize=11.5, fontweight="bold")
        side = 3.45
        table = self.figure.add_axes((1.2 / WIDTH, 0.72 / HEIGHT, side / WIDTH, side / HEIGHT))
        colours = ListedColormap(COLOURS)
        self.table = table.imshow(np.zeros((n, n)), cmap=colours, vmin=0, vmax=len(COLOURS) - 1, aspect="equal")
        table.set(xticks=[], yticks=[])
        table.set_xticks(np.arange(-0.5, n), minor=True)
        table.set_yticks(np.arange(-0.5, n), minor=True)
        table.grid(which="minor", color=LINE, linewidth=0.5)
        table.tick_params(which="both", length=0)
        table.spines[:].set_visible(False)
        self.names = [table.text(-0.8, i, "", fontsize=9, ha="right", va="center_baseline") for i in range(n)]

        strip = self.figure.add_axes((1.2 / WIDTH, 0.5 / HEIGHT, side / WIDTH, side / n / HEIGHT))
        kept = ListedColormap((PAPER, BLUE.medium, BLUE.strong, COLOURS[REFUSED]))
        self.strip = strip.imshow(np.zeros((1, n)), cmap=kept, vmin=0, vmax=3, aspect="auto")
        strip.set(xticks=[], yticks=[0], yticklabels=["keys, values"])
        strip.set_xticks(np.arange(-0.5, n), minor=True)
        strip.grid(which="minor", axis="x", color=LINE, linewidth=0.5)
        strip.tick_params(which="both", length=0, labelsize=8.5)
        strip.spines[:].set(visible=True, color=LINE)

        bars = self.figure.add_axes((6.2 / WIDTH, 1.75 / HEIGHT, 1.0 / WIDTH, 1.4 / HEIGHT))
        ways = list(story.ways)
        longest = max(sum(run.rows for run in runs) for runs in story.ways.values())
        bars.set(xlim=(0, longest), ylim=(len(ways) - 0.5, -0.5), xticks=[])
        bars.set_yticks(range(len(ways)), ways)
        bars.tick_params(axis="y", length=0)
        bars.spines["bottom"].set_visible(False)
        self.bars = bars.barh(range(len(ways)), [0] * len(ways), height=0.66)
        self.numbers = [bars.text(0, i, "", va="center_baseline", fontsize=10) for i in range(len(ways))]
        self.heading = self.figure.text(4.9 / WIDTH, 3.25 / HEIGHT, "", fontsize=10)
        self.said = self.figure.text(4.9 / WIDTH, 3.75 / HEIGHT, "", fontsize=11, fontweight="bold", color=BLUE.strong)
        looks = (
            ("computed in this run", NOW),
            ("computed in an earlier run", EARLIER),
            ("computed, guessed wrongly", REFUSED),
        )
        keys = [Patch(facecolor=COLOURS[code], edgecolor=LINE, label=label) for label, code in looks]
        keys.append(Patch(facecolor=BLUE.medium, edgecolor=LINE, label="out of the cache"))
        keys.append(Patch(facecolor=COLOURS[FUTURE], edgecolor=LINE, label="hidden by the mask"))
        self.figure.legend(handles=keys, loc="lower left", bbox_to_anchor=(4.82 / WIDTH, 0.3 / HEIGHT))
        self.figure.text(1.2 / WIDTH, 0.17 / HEIGHT, "a row: one token, and those it looks at", fontsize=9, color=MUTED)
        self.css_size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in self.figure.get_size_inches())

    def set(self, now: Moment) -> Figure:
        run, n = now.run, self.n
        end = run.cached + run.rows
        right = end - run.refused
        row, column = np.indices((n, n))
        codes = np.where(row < run.cached, EARLIER, np.where(row < right, NOW, np.where(row < end, REFUSED, NOTHING)))
        self.table.set_data(np.where(column > row, np.where(row < end, FUTURE, NOTHING), codes))
        place = np.arange(n)
        kept = np.where(place < run.cached, 1, np.where(place < right, 2, np.where(place < end, 3, 0)))
        self.strip.set_data(kept[None])
        labels = now.labels
        for i, name in enumerate(self.names):
            name.set_text(axis_label(labels[i], 1.0) if i < len(labels) else "")
            name.set_fontweight("bold" if run.cached <= i < end else "normal")
            name.set_color(MUTED if i >= right else INK)
        new = "".join(now.tokens[run.text - run.chosen : run.text])
        self.said.set_text(f"run {now.step} of {len(now.ways[now.way])}: the text gains “{prose(new.strip(), 24)}”")
        self.heading.set_text(f"To a text of {run.text} tokens, each way needs:")
        for bar, number, (way, (rows, runs)) in zip(self.bars, self.numbers, now.so_far.items(), strict=True):
            bar.set_width(rows)
            bar.set(
                facecolor=BLUE.strong if way == now.way else PAPER, edgecolor=BLUE.strong if way == now.way else MUTED
            )
            number.set(x=rows, text=f" {_work(rows, runs)}", fontweight="bold" if way == now.way else "normal")
        return self.figure

    def png(self, now: Moment) -> bytes:
        """The picture of this moment; equal moments give equal bytes."""
        return live_png(self.set(now))


def run_figure(story: Story, way: str, step: int, title: str = "What does this run compute anew?") -> Figure:
    """One moment, standing still."""
    return RunFigure(story, title).set(moment(story, way, step))


def run_stepper(story: Story, way: str = "cache", step: int = 1):
    """A choice of the way and a slider over its runs, with the picture and its words."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, labelled_slider, picture_html

    ways = story.ways
    choice = ipywidgets.Dropdown(
        options=list(ways), value=way, description="way", style=LABELS, layout={"width": "18em"}
    )
    slider, row = labelled_slider("run", 1, max(map(len, ways.values())), value=step, step=1)
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()
    live = RunFigure(story, "What does this run compute anew?")

    def redraw(_=None) -> None:
        # a way with fewer runs stays at its last one
        now = moment(story, choice.value, min(round(slider.value), len(ways[choice.value])))
        sentence = in_words(now)
        picture.value = picture_html(live.png(now), sentence, live.css_size)
        words.value = f'<span role="status">{escape(sentence)}</span>'

    choice.observe(redraw, "value")
    slider.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([choice, row, picture, words])
