"""Lesson 12's pictures: what each way of choosing leaves, how texts come out, and a playground with all five settings.

Pure functions, from numbers to figures; `sampling_lab` puts sliders in front of `filtered`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.drawing.figures import WIDTH, as_array, same_length
from course_lib.drawing.labels import axis_label, prose
from course_lib.drawing.playground import (
    Reshaped,
    compared,
    greedy_alone,
    how_does_it_go_on,
    rows_in_words,
    settings_figure,
    summary,
)
from course_lib.drawing.style import INK, MUTED, PHASES, course_style
from course_lib.prediction.sampling import Sampling

BLUE = PHASES[3]
# told apart by colour, dashes and marker: any one of them is enough
LOOKS = (
    dict(color=BLUE.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=BLUE.medium, linestyle=":", marker="^"),
)


# ---- five settings, one after the other -----------------------------------------------------------


@dataclass(frozen=True)
class Filtered:
    """A next-token distribution, and how many tokens each setting leaves, in the order in which they are applied."""

    bars: Reshaped
    steps: tuple[tuple[str, int], ...]  # ("top-k 40", 40): the settings that are on, and the tokens left after each


def filtered(
    logits: Float[Tensor, " vocab"],
    ids: Sequence[int],
    token_text: Callable[[int], str],
    **settings,
) -> Filtered:
    """What the settings make of the logits after `ids`; they are those of `Sampling`, and `token_text` an id's text.

    Raises:
        ValueError: a setting is out of its range.
    """
    chosen, adjusted, steps = Sampling(**settings), logits, []
    methods = [*chosen.steps(), *([("greedy", lambda x, _: greedy_alone(x))] if chosen.temperature == 0 else [])]
    for name, method in methods:
        adjusted = method(adjusted, ids)
        steps.append((name, int(adjusted.isfinite().sum())))
    top_p = 1.0 if chosen.top_p is None else chosen.top_p
    return Filtered(compared(logits, adjusted, token_text, chosen.temperature, top_p), tuple(steps))


def steps_in_words(state: Filtered) -> str:
    """How many tokens are left after each step: "49,152 tokens → top-k 40: 40 → top-p 0.9: 24"."""
    return " → ".join([f"{state.bars.n_vocab:,} tokens", *(f"{name}: {left:,}" for name, left in state.steps)])


def filtered_in_words(state: Filtered) -> str:
    """The bars as a sentence: a text equivalent of the picture."""
    names = ", ".join(name for name, _ in state.steps) or "no setting"
    return f"Next-token probabilities with {names}: {rows_in_words(state.bars)}. {summary(state.bars)}"


def lab_figure(llm, prompt: str, settings: Mapping[str, Mapping[str, float]], title: str | None = None) -> Figure:
    """What the playground shows, without a kernel: the prompt's next tokens under several settings, {name: settings}.

    Raises:
        ValueError: the prompt is empty, or a setting is out of its range.
    """
    logits, ids = llm.logits(prompt), llm.prompt_ids(prompt)
    states = [filtered(logits, ids, llm.tokenizer.token_text, **chosen).bars for chosen in settings.values()]
    return settings_figure(states, title or how_does_it_go_on(prompt), list(settings))


# ---- along a text ---------------------------------------------------------------------------------


@course_style()
def kept_figure(kept: Mapping[str, Sequence[int]], tokens: Sequence[str], title: str) -> Figure:
    """How many tokens up to three named rules leave at each place of a text, on a scale of powers of ten.

    `tokens` are those that really come at these places.

    Raises:
        ValueError: there is not a number for each token, or one is below 1.
    """
    figure = Figure(figsize=(WIDTH, 3.9))
    axes = figure.add_subplot()
    for (name, counts), look in zip(kept.items(), LOOKS, strict=False):
        counts = as_array(counts, name, "place")
        same_length(tokens=tokens, counts=counts)
        if counts.min() < 1:
            raise ValueError(f"{name} must leave at least 1 token everywhere, got {counts.min():g}")
        axes.plot(range(len(counts)), counts, **look, markersize=4, linewidth=1.2, label=name)
    axes.set_yscale("log")
    axes.set_ylim(0.8, None)
    axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.minorticks_off()
    axes.set_xticks(range(len(tokens)), [axis_label(token) for token in tokens], rotation=90, fontsize=8.5)
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.01)
    axes.set_ylabel("tokens that can be drawn")
    axes.set_title(prose(title))
    figure.legend(loc="outside lower left", ncols=3)
    return figure


@course_style()
def likelihood_figure(texts: Mapping[str, tuple[Sequence[str], Sequence[float]]], title: str) -> Figure:
    """Texts token by token, a panel each: {name: (tokens, their probabilities)}.

    Raises:
        ValueError: there are no texts, or one has not a probability for each token.
    """
    if not texts:
        raise ValueError("texts must hold at least one text with its probabilities, got none")
    figure = Figure(figsize=(WIDTH, 0.7 + 1.55 * len(texts)))
    panels = figure.subplots(len(texts), 1, squeeze=False)[:, 0]
    for axes, (name, (tokens, probabilities)) in zip(panels, texts.items(), strict=True):
        probabilities = as_array(probabilities, name, "token")
        same_length(tokens=tokens, probabilities=probabilities)
        axes.bar(range(len(tokens)), probabilities, width=0.8, color=BLUE.strong)
        axes.set_ylim(0, 1.05)
        axes.set_yticks([0, 1], ["0%", "100%"])
        axes.set_xticks(range(len(tokens)), [axis_label(token) for token in tokens], rotation=90)
        axes.tick_params(axis="x", length=0)
        axes.margins(x=0.01)
        axes.set_title(prose(name), fontsize=10, fontweight="normal", pad=3)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- texts compared -------------------------------------------------------------------------------


@course_style()
def texts_figure(measured: Mapping[str, tuple[float, float]], reference: str, title: str) -> Figure:
    """Ways of choosing side by side: {name: (share of different pairs, loss in nats)}, two bars a row.

    `reference` is the row that all others are held against: a dashed line marks its values.

    Raises:
        ValueError: the reference is not one of the rows.
    """
    if reference not in measured:
        raise ValueError(f"reference must be one of {', '.join(measured)}, got {reference!r}")
    figure = Figure(figsize=(WIDTH, 1.2 + 0.31 * len(measured)))
    columns = zip(*measured.values(), strict=True)
    heads = ("different pairs of neighbours", "loss: how surprising the tokens are, in nats")
    writes = (lambda share: f"{100 * share:.0f}%", lambda loss: f"{loss:.1f}")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, values, head, write in zip(panels, columns, heads, writes, strict=True):
        colours = [BLUE.medium if name == reference else BLUE.strong for name in measured]
        axes.barh(range(len(measured)), values, height=0.7, color=colours)
        for row, value in enumerate(values):
            note = dict(xytext=(5, 0), textcoords="offset points", fontsize=9.5, va="center_baseline")
            axes.annotate(write(value), (value, row), **note)
        axes.axvline(values[list(measured).index(reference)], color=INK, linewidth=1, linestyle="--", zorder=0)
        axes.set_xlim(0, 1.18 * max(values))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(head, fontsize=10, fontweight="normal")
    panels[0].set_yticks(range(len(measured)), [prose(name) for name in measured])
    panels[0].invert_yaxis()
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    figure.text(0.012, 0.01, f"dashed: {reference}", fontsize=9, color=MUTED)
    figure.draw_without_rendering()  # only now is it known where things are
    for axes in panels:
        [dashed, *_] = axes.lines[0].get_xdata()
        x, _ = axes.transData.transform((dashed, 0))
        for note in axes.texts:
            box = note.get_window_extent()
            if box.x0 - 6 < x < box.x1 + 3:  # a number that the dashed line would touch stands behind it
                note.xy = (dashed, note.xy[1])
    return figure


# ---- the widget -----------------------------------------------------------------------------------


def sampling_lab(llm, prompt: str, max_new_tokens: int = 12):
    """The learner's own prompt, a slider for each of the five settings, bars, and three seeded continuations."""
    import ipywidgets

    from course_lib.drawing.widgets import labelled_slider, playground

    ranges = {
        "penalty": (1.0, 2.0, 1.0, 0.05),
        "temperature": (0.0, 2.0, 1.0, 0.05),
        "top-k": (0, 100, 0, 1),
        "top-p": (0.05, 1.0, 1.0, 0.05),
        "min-p": (0.0, 0.5, 0.0, 0.01),
    }
    sliders, rows = zip(
        *(
            labelled_slider(name, low, high, value=value, step=step)
            for name, (low, high, value, step) in ranges.items()
        ),
        strict=True,
    )
    off = ipywidgets.HTML("Off: penalty 1, temperature 1, top-k 0, top-p 1, min-p 0.")

    def settings() -> dict:
        penalty, temperature, top_k, top_p, min_p = (slider.value for slider in sliders)
        return dict(
            repetition_penalty=penalty,
            temperature=temperature,
            top_k=int(top_k) or None,
            top_p=top_p,
            min_p=min_p or None,
        )

    def look(logits, ids, settings):
        state = filtered(logits, ids, llm.tokenizer.token_text, **settings)
        return state.bars, steps_in_words(state), filtered_in_words(state)

    return playground(llm, prompt, sliders, [*rows, off], settings, look, max_new_tokens)
