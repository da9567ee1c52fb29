"""Lesson 06's pictures: what each head looks at, what is lost without it, and what n × n costs.

The pure functions come first, `head_explorer` puts a text field and two sliders in front of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.drawing.figures import WIDTH, as_array, attention_map, draw_attention
from course_lib.drawing.labels import prose, visible
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, MUTED, PHASES, course_style, png, sequential, text_on
from course_lib.drawing.words import percent
from course_lib.interpretation.heads import attention_weights, first_token_scores, previous_token_scores

RED = PHASES[2]
MOST_TOKENS = 24  # beyond, a map's labels no longer fit
MOSTLY = 0.5  # a head "looks mostly" where more than half of its weight goes


# ---- one head on one text -----------------------------------------------------------------------


@dataclass(frozen=True)
class HeadView:
    """One head on one text: its table, and three scores, each a mean weight (`repeat`: None where no token repeats)."""

    layer: int
    head: int
    tokens: tuple[str, ...]
    weights: Float[Tensor, "query key"]
    previous: float
    first: float
    repeat: float | None


def head_view(
    attention: Float[Tensor, "layer heads query key"], ids: Sequence[int], tokens: Sequence[str], layer: int, head: int
) -> HeadView:
    """What one head does on this text.

    Raises:
        ValueError: the text has fewer than two tokens, or there is no such layer or head.
    """
    n_layers, n_heads = attention.shape[:2]
    if layer not in range(n_layers) or head not in range(n_heads):
        raise ValueError(f"there are layers 0 to {n_layers - 1} and heads 0 to {n_heads - 1}, got {layer} and {head}")
    weights = attention[layer, head]
    return HeadView(
        layer,
        head,
        tuple(tokens),
        weights,
        previous_token_scores(weights).item(),
        first_token_scores(weights).item(),
        repeat_score(weights, ids),
    )


def repeat_score(weights: Float[Tensor, "query key"], ids: Sequence[int]) -> float | None:
    """The weight on the tokens that followed the query's own token earlier, a mean over the queries that have such.

    It is the induction score for any text. None where no token stands twice.
    """
    gained = []
    for query, id in enumerate(ids):
        followers = [earlier + 1 for earlier in range(query) if ids[earlier] == id]
        if followers:
            gained.append(weights[query, followers].sum().item())
    return sum(gained) / len(gained) if gained else None


def in_words(view: HeadView) -> str:
    """The three scores, and what they amount to."""
    said = f"Layer {view.layer}, head {view.head}: {percent(view.previous)} of the weight goes to the token before, "
    said += f"{percent(view.first)} to the first token"
    if view.repeat is None:
        said += ". No token stands here twice, so there is nothing to repeat."
    else:
        said += f", {percent(view.repeat)} to what followed the same token earlier (where there is such)."
    # the third score is a mean over other queries than the first two, so it does not compete with them
    mostly = []
    places = {"the token before": view.previous, "the first token": view.first}
    most = max(places, key=places.get)
    repeats = view.repeat is not None and view.repeat > MOSTLY
    if places[most] > MOSTLY:
        mostly.append(f"{'Over all tokens' if repeats else 'On this text'} it looks mostly at {most}")
    if repeats:
        start = "where" if mostly else "Where"
        mostly.append(f"{start} a token returns, it looks mostly at what followed it earlier")
    return f"{said} {'; '.join(mostly) or 'On this text none of these has more than half'}."


def looks_at(view: HeadView) -> str:
    """The map as text: for each token the one that it gives most to."""
    rows = []
    for token, row in zip(view.tokens, view.weights, strict=True):
        share, key = row.max(0)
        rows.append(f"{visible(token)} → {visible(view.tokens[int(key)])} {percent(share.item())}")
    return f"Where each token looks most: {'; '.join(rows)}."


# ---- many heads ---------------------------------------------------------------------------------


@course_style()
def head_scores_figure(scores: Mapping[str, Float[Tensor, "layer heads"]], title: str) -> Figure:
    """Each score as a map of all heads, a column for each layer; the highest is framed and named."""
    figure = Figure(figsize=(WIDTH, 0.9 + 1.75 * len(scores)))
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, scores.items(), strict=True):
        values = as_array(values, name, "layer", "heads")
        image = axes.imshow(values.T, cmap=sequential(2), vmin=0, vmax=1)
        layer, head = divmod(int(values.argmax()), values.shape[1])
        frame = Rectangle((layer - 0.5, head - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2, clip_on=False)
        axes.add_patch(frame)
        said = f"{name}: the highest is layer {layer}, head {head}, with {percent(values.max())}"
        axes.set_title(prose(said), fontsize=10, fontweight="normal", pad=5)
        axes.set_ylabel("head")
        axes.set_yticks(range(0, values.shape[1], 2))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[-1].set_xlabel("layer")
    bar = figure.colorbar(image, ax=panels, pad=0.01, fraction=0.02, label="mean weight")
    bar.outline.set_visible(False)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


@course_style()
def maps_figure(
    attention: Float[Tensor, "layer heads query key"],
    tokens: Sequence[str],
    heads: Mapping[str, tuple[int, int]],
    title: str,
) -> Figure:
    """The tables of a few heads on one text, side by side: a name → (layer, head)."""
    figure = Figure(figsize=(WIDTH, 3.9))
    panels = figure.subplots(1, len(heads), sharey=True, squeeze=False)[0]
    for axes, (name, (layer, head)) in zip(panels, heads.items(), strict=True):
        draw_attention(axes, as_array(attention[layer, head], name, "query", "key"), tokens, written=True)
        axes.set_title(prose(f"{layer}.{head}: {name}"), fontsize=10, fontweight="normal")
        axes.tick_params(axis="x", rotation=90)
        axes.set_ylabel("this token looks …" if axes is panels[0] else "")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


@course_style()
def loss_bars(losses: Mapping[str, Sequence[float]], mark: tuple[str, float], title: str, note: str) -> Figure:
    """A row for each name: one loss is a bar; several (one for each draw) are a bar up to their mean, and dots.

    `mark` is a loss to hold them against, with its name.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 0.36 * len(losses)))
    axes = figure.add_subplot()
    name, loss = mark
    reach = 1.12 * max(loss, *(max(values) for values in losses.values()))
    for row, values in enumerate(losses.values()):
        mean = sum(values) / len(values)
        axes.barh(row, mean, height=0.66, color=RED.strong if len(values) == 1 else RED.medium)
        several = len(values) > 1
        if several:
            axes.plot(values, [row] * len(values), "o", color=INK, markersize=4.5, markerfacecolor="white")
        said = f"{min(values):.1f} to {max(values):.1f}" if several else f"{mean:.1f}"
        inside = not several and 0 <= loss - mean < 0.08 * reach  # else the mark's line would run through the number
        axes.annotate(
            said,
            (max(values), row),
            xytext=(-7 if inside else 7, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center_baseline",
            fontsize=9.5,
            color=text_on(RED.strong) if inside else INK,
        )
    axes.axvline(loss, color=MUTED, zorder=0, linestyle="--", linewidth=1)
    axes.annotate(
        f"{name}: {loss:.1f}",
        (loss, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=MUTED,
    )
    axes.set_yticks(range(len(losses)), list(losses))
    axes.set_ylim(len(losses) - 0.5, -0.5)
    axes.set_xlim(0, reach)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(note)
    axes.set_title(prose(title), pad=20)
    return figure


# ---- what it costs ------------------------------------------------------------------------------


@course_style()
def cost_figure(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], title: str, crossing: Mapping[str, tuple[int, str]]
) -> Figure:
    """Amounts against the number of tokens, both on log axes, so that n is a slope of 1 and n² one of 2.

    `panels`: what is counted → {a line's name: {tokens: amount}}. `crossing`: for some panels, the number of tokens at
    which two lines meet, and what to say there.
    """
    figure = Figure(figsize=(WIDTH, 4.0))
    looks = ((RED.strong, "o", "-"), (MUTED, "s", "--"), (RED.medium, "^", "-."))
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for (label, points), (colour, marker, line) in zip(lines.items(), looks, strict=False):
            axes.loglog(*zip(*points.items(), strict=True), color=colour, marker=marker, linestyle=line, label=label)
            axes.lines[-1].set_markersize(5)
        if name in crossing:
            _mark_crossing(axes, *crossing[name])
        places = sorted({n for points in lines.values() for n in points})[::2]
        axes.set_xticks(places, [f"{n:,}" for n in places])
        axes.minorticks_off()
        axes.set_xlabel("tokens, n")
        axes.set_title(name, fontsize=10)
        axes.legend(loc="upper left", fontsize=9)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def _mark_crossing(axes: Axes, n: int, said: str) -> None:
    axes.axvline(n, color=INK, linewidth=0.8, linestyle=":")
    place = dict(xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9, color=INK)
    axes.annotate(said, (n, 0.04), xytext=(-5, 0), ha="right", **place)


# ---- the widget ---------------------------------------------------------------------------------


def read_text(text: str, tokenizer) -> list[int]:
    """The text's ids.

    Raises:
        ValueError: it has fewer than 2 tokens, or more than can be shown.
    """
    ids = tokenizer.encode(text)
    if len(ids) < 2:
        raise ValueError("a head needs at least two tokens to look from one to the other: write a few words")
    if len(ids) > MOST_TOKENS:
        raise ValueError(f"the text has {len(ids)} tokens, and a map has room for {MOST_TOKENS}: shorten it")
    return ids


def head_explorer(llm, text: str, layer: int = 0, head: int = 0):
    """Any head of the model on a text of the learner's: its map, its three scores, and both in words."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, complaint, labelled_slider, picture_html

    config = llm.transformer.config
    field = ipywidgets.Text(text, description="text", continuous_update=False, style=LABELS, layout={"width": "40em"})
    layer, layer_row = labelled_slider("layer", 0, config.n_layers - 1, value=layer, step=1)
    head, head_row = labelled_slider("head", 0, config.n_heads - 1, value=head, step=1)
    said, picture = ipywidgets.HTML(), ipywidgets.HTML()
    read = None  # attention, ids and tokens of the text; None while it is at fault

    def read_field(_=None) -> None:
        nonlocal read
        try:
            ids = read_text(field.value, llm.tokenizer)
            tokens = [llm.tokenizer.token_text(id) for id in ids]
            read = attention_weights(llm.transformer, torch.tensor(ids)), ids, tokens
        except ValueError as error:
            read, said.value, picture.value = None, complaint(error), ""
            return
        redraw()

    def redraw(_=None) -> None:
        if read is None:
            return
        view = head_view(*read, round(layer.value), round(head.value))
        said.value = f'<b role="status">{escape(in_words(view))}</b>'
        figure = attention_map(view.weights, view.tokens, f"Where does head {view.head} of layer {view.layer} look?")
        size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
        picture.value = picture_html(png(figure), looks_at(view), size)

    field.observe(read_field, "value")
    for slider in (layer, head):
        slider.observe(redraw, "value")
    read_field()
    return ipywidgets.VBox([field, layer_row, head_row, said, picture])
