"""Lesson 08's pictures: bends, the share of the parameters, neurons that fire, ablations, the load of experts.

Pure functions from numbers to figures; at the end, a widget: one neuron over the learner's own sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from course_lib.drawing.figures import WIDTH, as_array, same_length
from course_lib.drawing.labels import axis_label, prose, visible
from course_lib.drawing.style import (
    INK,
    LINE,
    MUTED,
    PAPER,
    PHASES,
    course_style,
    diverging,
    on_ground,
    sequential,
    text_on,
)

RED, BLUE = PHASES[2], PHASES[3]
LOOKS = (
    dict(color=RED.strong, linestyle="-"),
    dict(color=INK, linestyle="--"),
    dict(color=RED.medium, linestyle="-."),
    dict(color=MUTED, linestyle=":"),
)


# ---- bends --------------------------------------------------------------------------------------


@course_style()
def bends_figure(bends: Mapping[str, Sequence[float]], x: Sequence[float], title: str) -> Figure:
    """Up to four functions of one number, each with its values at `x`.

    Raises:
        ValueError: there are none or more than four, or one has another length than `x`.
    """
    if not 1 <= len(bends) <= len(LOOKS):
        raise ValueError(f"bends must be 1 to {len(LOOKS)}, got {len(bends)}: more cannot be told apart")
    x = as_array(x, "x", "point")
    figure = Figure(figsize=(WIDTH, 3.6))
    whole, near = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    for axes, reach in ((whole, np.abs(x) <= 4), (near, np.abs(x) <= 1.5)):
        axes.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        axes.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        for (name, values), look in zip(bends.items(), LOOKS, strict=False):
            values = as_array(values, name, "point")
            same_length(x=x, values=values)
            axes.plot(x[reach], values[reach], label=prose(name), **look)
        axes.set_xlabel("what the neuron is given")
    whole.set_ylabel("what it passes on")
    whole.legend(loc="upper left")
    near.set_title("around 0", fontsize=10)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- where the parameters are -------------------------------------------------------------------


@course_style()
def shares_figure(parts: Mapping[str, Mapping[str, int]], title: str) -> Figure:
    """For each model, one bar that is cut into its parts: a name → {part: how many numbers}, one to three parts.

    Raises:
        ValueError: there are no models, or they have other parts than the first.
    """
    if not parts or any(list(sizes) != list(next(iter(parts.values()))) for sizes in parts.values()):
        raise ValueError("parts must hold at least one model, and all with the same parts")
    colours = (RED.pale, RED.strong, MUTED)
    figure = Figure(figsize=(WIDTH, 1.25 + 0.5 * len(parts)))
    axes = figure.add_subplot()
    for row, sizes in enumerate(parts.values()):
        total, left = sum(sizes.values()), 0.0
        for (_part, size), colour in zip(sizes.items(), colours, strict=False):
            share = size / total
            axes.barh(row, share, left=left, height=0.7, color=colour, edgecolor=RED.strong, linewidth=0.6)
            if share > 0.05:
                note = f"{size:,} ({share:.0%})"
                axes.text(left + share / 2, row, note, ha="center", va="center", fontsize=9.5, color=text_on(colour))
            left += share
    axes.set_yticks(range(len(parts)), [prose(name) for name in parts])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(prose(title))
    names = next(iter(parts.values()))
    keys = [Patch(facecolor=c, edgecolor=RED.strong, label=prose(n)) for n, c in zip(names, colours, strict=False)]
    figure.legend(handles=keys, loc="outside lower left", ncols=len(keys))
    return figure


# ---- neurons ------------------------------------------------------------------------------------


@course_style()
def agreement_figure(groups: Mapping[str, Sequence[float]], title: str) -> Figure:
    """A histogram for each group of neurons: how much its value row speaks for the tokens that really came.

    `groups`: a name → scores, in standard deviations over the vocabulary; at most three, one below the other.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 1.0 * len(groups)))
    panels = figure.subplots(len(groups), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    scores = {name: as_array(values, name, "neuron") for name, values in groups.items()}
    low, high = min(s.min() for s in scores.values()), max(s.max() for s in scores.values())
    bins = np.linspace(np.floor(low), np.ceil(high), 41)
    for axes, (name, values), colour in zip(panels, scores.items(), (RED.strong, MUTED, LINE), strict=False):
        axes.hist(values, bins, color=colour, edgecolor=PAPER, linewidth=0.5)
        axes.axvline(values.mean(), color=INK, linewidth=1.2, linestyle="--")
        axes.annotate(f"mean {values.mean():+.1f}", (values.mean(), 0.88), xytext=(6, 0), textcoords="offset points",
                      xycoords=axes.get_xaxis_transform(), fontsize=9.5, va="top")  # fmt: skip
        axes.set_title(prose(name), fontsize=10, fontweight="normal", pad=4)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    panels[-1].set_xlabel("how much it speaks for the token that came next, in standard deviations over the vocabulary")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


@dataclass(frozen=True)
class Firing:
    """One neuron over one text: what it fires with at each token, and which tokens its value row speaks for."""

    layer: int
    neuron: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    promotes: tuple[str, ...]  # the most promoted first, where it fires above 0
    suppresses: tuple[str, ...]


SPOKEN_FOR = 6  # tokens listed on each side


def firing(llm, fired: torch.Tensor, ids: Sequence[int], layer: int, neuron: int) -> Firing:
    """The neuron's `Firing`; `fired` is what `neuron_activations` gives for these ids, (layer, position, d_ff).

    Raises:
        ValueError: there is no such layer or neuron, or `fired` is of another text.
    """
    from course_lib.interpretation.neurons import promoted

    scores = promoted(llm.transformer, layer, neuron)
    same_length(ids=ids, fired=fired[layer])
    text = llm.tokenizer.token_text
    up, down = (side.topk(SPOKEN_FOR).indices.tolist() for side in (scores, -scores))
    return Firing(
        layer,
        neuron,
        tuple(map(text, ids)),
        tuple(fired[layer, :, neuron].tolist()),
        tuple(map(text, up)),
        tuple(map(text, down)),
    )


def in_words(state: Firing) -> str:
    """Where the neuron fires most, and what that speaks for: a text equivalent of the picture."""
    strongest = max(range(len(state.tokens)), key=lambda i: abs(state.activations[i]))
    value = state.activations[strongest]
    speaks = state.promotes if value >= 0 else state.suppresses
    return (
        f"Layer {state.layer}, neuron {state.neuron}: it fires most at token {strongest + 1} of {len(state.tokens)}, "
        f"{visible(state.tokens[strongest])}, with {value:.2f}, and there speaks for {', '.join(map(visible, speaks))}."
    )


def firing_html(state: Firing) -> str:
    """The text, each token coloured by the neuron's activation (grey below zero, red above), the number below it."""
    most = max(map(abs, state.activations)) or 1.0
    colours = diverging(2)
    cells = []
    for token, value in zip(state.tokens, state.activations, strict=True):
        r, g, b, _ = (round(255 * c) for c in colours(0.5 + 0.5 * value / most))
        ground = f"#{r:02x}{g:02x}{b:02x}"
        box = f"{on_ground(ground)}; border: 1px solid {LINE}; border-radius: 4px"
        number = f'<span style="font-size: 11px">{value:+.2f}</span>'
        cells.append(
            f'<span role="listitem" style="display: inline-block; text-align: center; margin: 2px">'
            f'<span style="{box}; padding: 2px 5px; white-space: pre">{escape(visible(token))}</span>'
            f"<br>{number}</span>"
        )
    return f'<div role="list" aria-label="{escape(in_words(state), quote=True)}">{"".join(cells)}</div>'


def speaks_html(state: Firing) -> str:
    rows = (("above 0, it speaks for", state.promotes), ("below 0, for", state.suppresses))
    lines = [f"where it fires {when}: <b>{escape(' · '.join(map(visible, tokens)))}</b>" for when, tokens in rows]
    return f'<div style="line-height: 1.7">{"<br>".join(lines)}</div>'


@course_style()
def firing_figure(states: Sequence[Firing], title: str) -> Figure:
    """What the widget shows, standing still: a row of bars over the tokens for each neuron.

    Raises:
        ValueError: there are none, or they are not of one text.
    """
    if not states or any(state.tokens != states[0].tokens for state in states):
        raise ValueError("states must be one or more neurons over the same text")
    figure = Figure(figsize=(WIDTH, 1.1 + 1.35 * len(states)))
    panels = figure.subplots(len(states), 1, sharex=True, squeeze=False)[:, 0]
    for axes, state in zip(panels, states, strict=True):
        colours = [RED.strong if value >= 0 else MUTED for value in state.activations]
        axes.bar(range(len(state.tokens)), state.activations, width=0.8, color=colours)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.locator_params(axis="y", nbins=4)
        heavier = sum(state.activations[i] for i in _strongest(state)) >= 0
        speaks = state.promotes if heavier else state.suppresses
        name = f"layer {state.layer}, neuron {state.neuron}: firing {'up' if heavier else 'down'}, it speaks for "
        axes.set_title(prose(name + "  ".join(map(visible, speaks))), fontsize=9.5, fontweight="normal", pad=5)
        axes.tick_params(axis="x", length=0)
    names = [axis_label(token) for token in states[0].tokens]
    panels[-1].set_xticks(range(len(names)), names, rotation=90, fontsize=8.5)
    panels[-1].set_xlim(-0.6, len(names) - 0.4)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def _strongest(state: Firing) -> list[int]:
    return sorted(range(len(state.tokens)), key=lambda i: -abs(state.activations[i]))[:1]


# ---- what is lost without a part ----------------------------------------------------------------


@course_style()
def ablation_figure(
    drops: Mapping[str, Mapping[str, Sequence[float]]], title: str, shaded: Sequence[int] = (), note: str = ""
) -> Figure:
    """For each task a panel: how far the log-probability falls when one layer's part is switched off.

    `drops`: a task → {part: one number a layer}. `shaded` layers stand on grey ground, and `note` says why. The
    scale is linear from −1 to 1 and in powers of ten beyond.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 1.75 * len(drops)))
    panels = figure.subplots(len(drops), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    looks = (dict(color=RED.strong, hatch=None), dict(color=PAPER, edgecolor=INK, hatch="////"))
    for axes, (task, parts) in zip(panels, drops.items(), strict=True):
        for layer in shaded:
            axes.axvspan(layer - 0.5, layer + 0.5, color="#e9ecef", linewidth=0, zorder=0)
        for i, ((part, values), look) in enumerate(zip(parts.items(), looks, strict=False)):
            values = as_array(values, part, "layer")
            places = np.arange(len(values)) + (i - 0.5) * 0.4
            axes.bar(places, values, width=0.4, linewidth=0.6, label=prose(part), zorder=2, **look)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=3)
        axes.set_yscale("symlog", linthresh=1, linscale=1)
        axes.set_yticks([0, 0.5, 1, 3, 10], ["0", "0.5", "1", "3", "10"])
        axes.minorticks_off()
        axes.set_title(prose(task), fontsize=10, fontweight="normal", pad=4)
    panels[-1].set_xlim(-0.7, len(values) - 0.3)
    panels[-1].set_xlabel(prose(f"the layer that lacks this part{'; ' + note if note else ''}"))
    figure.supylabel("log-probability lost (linear up to 1, then logarithmic)", fontsize=10)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


# ---- experts ------------------------------------------------------------------------------------


@course_style()
def load_figure(loads: Mapping[str, Sequence[float]], fair: float, title: str) -> Figure:
    """A panel for each training: the share of the tokens that each expert gets, the busiest first; `fair` is dashed."""
    figure = Figure(figsize=(WIDTH, 3.2))
    panels = figure.subplots(1, len(loads), sharey=True, squeeze=False)[0]
    for axes, (name, load), colour in zip(panels, loads.items(), (MUTED, RED.strong), strict=False):
        load = np.sort(as_array(load, name, "expert"))[::-1]
        axes.bar(range(len(load)), load, width=0.8, color=colour)
        axes.axhline(fair, color=INK, linewidth=1, linestyle="--")
        axes.annotate(f"all alike: {100 * fair:.1f}%", (len(load) - 0.5, fair), xytext=(0, 4),
                      textcoords="offset points", ha="right", fontsize=9.5)  # fmt: skip
        axes.set_title(prose(name), fontsize=10)
        axes.set_xticks([])
        axes.set_xlabel(f"the {len(load)} experts, the busiest first")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    panels[0].set_ylabel("share of the tokens")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


@course_style()
def experts_figure(shares, kinds: Sequence[str], title: str) -> Figure:
    """A row for each expert, a column for each kind of word: of the tokens it gets, the share that is of this kind.

    `shares`: (expert, kind), rows that sum to 1, or to 0 for an expert without a token.
    """
    shares = as_array(shares, "shares", "expert", "kind")
    same_length(kinds=kinds, columns=shares[0])
    figure = Figure(figsize=(WIDTH, 1.5 + 0.27 * len(shares)))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=sequential(2), vmin=0, vmax=1)
    for row, column in np.argwhere(shares >= 0.05):
        _write(axes, image, row, column, shares[row, column])
    axes.set_xticks(range(len(kinds)), [prose(kind) for kind in kinds])
    axes.set_yticks(range(len(shares)), [f"expert {i}" for i in range(len(shares))])
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(prose(title), pad=12)
    return figure


def _write(axes: Axes, image, row: int, column: int, share: float) -> None:
    cell = "#{:02x}{:02x}{:02x}".format(*map(int, image.to_rgba(share, bytes=True)[:3]))
    axes.text(column, row, f"{100 * share:.0f}%", ha="center", va="center", fontsize=9, color=text_on(cell))


# ---- the widget ---------------------------------------------------------------------------------

MOST_TOKENS = 64


def neuron_playground(llm, text: str, layer: int = 0, neuron: int = 0):
    """The learner's own sentence under one neuron: sliders choose the layer and the neuron, a button the liveliest."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, complaint, labelled_slider
    from course_lib.interpretation.neurons import neuron_activations

    config = llm.transformer.config
    field = ipywidgets.Text(
        text, description="text", continuous_update=False, style=LABELS, layout={"width": "44em", "max_width": "100%"}
    )
    layers, layer_row = labelled_slider("layer", 0, config.n_layers - 1, value=layer, step=1)
    neurons, neuron_row = labelled_slider("neuron", 0, config.d_ff - 1, value=neuron, step=1)
    most = ipywidgets.Button(description="the neuron that fires most in this layer", layout={"width": "24em"})
    said, picture, speaks = (ipywidgets.HTML() for _ in range(3))
    ids, fired = [], None

    def read(_=None) -> None:
        nonlocal ids, fired
        try:
            ids = read_text(field.value, llm.prompt_ids)
            fired = neuron_activations(llm.transformer, torch.tensor(ids))
        except ValueError as error:
            fired = None
            said.value, picture.value, speaks.value = complaint(error), "", ""
            return
        redraw()

    def redraw(_=None) -> None:
        if fired is None:
            return
        state = firing(llm, fired, ids, round(layers.value), round(neurons.value))
        said.value = f'<b role="status">{escape(in_words(state))}</b>'
        picture.value, speaks.value = firing_html(state), speaks_html(state)

    def liveliest(_) -> None:
        if fired is not None:  # the first token, which is at the start of every text, does not count
            neurons.value = int(fired[round(layers.value), 1:].abs().amax(0).argmax())

    field.observe(read, "value")
    layers.observe(redraw, "value")
    neurons.observe(redraw, "value")
    most.on_click(liveliest)
    read()
    return ipywidgets.VBox([field, layer_row, neuron_row, most, said, picture, speaks])


def read_text(text: str, encode) -> list[int]:
    """The text as ids.

    Raises:
        ValueError: there are fewer than two tokens, or too many to be shown.
    """
    ids = encode(text)
    if not 2 <= len(ids) <= MOST_TOKENS:
        raise ValueError(f"the text has {len(ids)} token(s), and 2 to {MOST_TOKENS} can be shown: write another one")
    return ids
