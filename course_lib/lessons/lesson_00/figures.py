"""Lesson 00's pictures: how long each stage takes, and the x-ray of one prediction."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon

from course_lib.drawing.figures import (
    WIDTH,
    as_array,
    attention_weights,
    bare_bars,
    beside,
    blank_page,
    chip_rows,
    draw_attention,
    draw_chips,
    draw_embeddings,
    draw_guesses,
    draw_probabilities,
    rounded,
    same_length,
    write_heading,
)
from course_lib.drawing.labels import MARKS_IN_PROSE, prose, text_inches, visible, without_formulas
from course_lib.drawing.style import MUTED, PAPER, PHASES, course_style, phase
from course_lib.drawing.words import duration, size_in_words


@course_style()
def stage_times(
    names: Sequence[str],
    phases: Sequence[int],
    seconds: Sequence[float],
    bytes_: Sequence[int],
    title: str = "Where does the time go?",
) -> Figure:
    """A bar of time for each stage in its phase's colour, its time and bytes printed beside it.

    Raises ValueError where the four differ in length or a phase is not 1 to 4.
    """
    same_length(names=names, phases=phases, seconds=seconds, bytes_=bytes_)
    seconds = as_array(seconds, "seconds", "stage")
    colours = [phase(number).strong for number in phases]
    figure = Figure(figsize=(WIDTH, 1.3 + 0.32 * len(names)))
    axes = figure.add_subplot()
    axes.barh(range(len(names)), seconds, height=0.72, color=colours)
    for place, (taken, size) in enumerate(zip(seconds, bytes_, strict=True)):
        beside(axes, f"{duration(taken)} · {size_in_words(size)}", taken, place)
    bare_bars(axes, [prose(name) for name in names], seconds.max())
    axes.set_title(prose(title))
    keys = [Patch(color=phase(n).strong, label=phase(n).heading) for n in sorted(set(phases))]
    figure.legend(handles=keys, loc="outside lower left", ncols=len(keys))
    return figure


XRAY_TOKENS = 7  # positions shown: the last ones of a longer prompt
XRAY_VALUES_UP_TO = 6


@course_style()
def xray(trace, layer: int, head: int) -> Figure:
    """One prompt seen through: tokens, embeddings, one head's attention, blocks, next token.

    `trace` is what `LLM.trace` returns; `layer` and `head` index `trace.attention` (layer, heads,
    query, key), from 0. Of a long prompt the last 7 positions are shown. Raises ValueError where
    the parts of the trace disagree in length or there is no such layer or head.
    """
    same_length(tokens=trace.tokens, ids=trace.ids, embeddings=trace.embeddings)
    same_length(guesses=trace.guesses, residual_stream=trace.residual_stream)
    layers, heads = trace.attention.shape[:2]
    for name, value, count in (("layer", layer, layers), ("head", head, heads)):
        if not 0 <= value < count:
            raise ValueError(f"{name} must be from 0 to {count - 1}, got {value!r}")
    figure = Figure(figsize=(9.5, 9.6), layout="none")
    page = blank_page(figure)
    write_heading(page, 0.2, 0.36, f"X-ray of “{prose(trace.prompt, 52)}”", 15)
    _xray_input(figure, page, trace)
    _xray_blocks(figure, page, trace, layer, head)
    _xray_prediction(figure, page, trace)
    return figure


def _band(page: Axes, number: int, top: float, height: float, heading: str, note: str) -> None:
    """A phase's coloured ground with its heading, and a pointer from the band above."""
    p = PHASES[number]
    rounded(page, 0.2, top, 9.1, height, p.pale, radius=0.12)
    write_heading(page, 0.45, top + 0.3, heading, 12.5, p.strong)
    page.text(9.05, top + 0.3, note, fontsize=9.5, ha="right")
    if number > 1:
        tip = [(4.62, top - 0.17), (4.88, top - 0.17), (4.75, top - 0.04)]
        page.add_patch(Polygon(tip, color=MUTED))


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes on a coloured ground, placed in inches from the top left corner of the figure."""
    w, h = figure.get_size_inches()
    place = (left / w, 1 - (top + height) / h, width / w, height / h)
    return figure.add_axes(place, facecolor="none")


def _xray_input(figure: Figure, page: Axes, trace) -> None:
    vectors = as_array(trace.embeddings, "embeddings", "position", "d_model")
    n, d_model = vectors.shape
    note = f"{len(trace.raw_bytes):,} bytes → {n:,} tokens → {n:,} vectors of {d_model:,} numbers"
    if n > XRAY_TOKENS:
        note += f", the last {XRAY_TOKENS} shown"
    _band(page, 1, 0.55, 2.5, PHASES[1].heading, note)
    shown = slice(-XRAY_TOKENS, None)
    tokens = trace.tokens[shown]
    draw_chips(page, chip_rows(tokens, trace.ids[shown], 8.6, 1), 0.45, 1.03)
    axes = _panel(figure, 1.45, 1.74, 7.6, 1.02)
    draw_embeddings(axes, vectors[shown], tokens, PHASES[1].pale)
    axes.tick_params(labelsize=8.5)
    axes.xaxis.label.set_size(9)


def _xray_blocks(figure: Figure, page: Axes, trace, layer: int, head: int) -> None:
    layers = trace.attention.shape[0]
    note = "only attention moves information from token to token"
    _band(page, 2, 3.28, 3.42, f"{PHASES[2].heading} × {layers}", note)
    shown = slice(-XRAY_TOKENS, None)
    tokens = trace.tokens[shown]
    weights = attention_weights(trace.attention[layer, head], trace.tokens)[shown, shown]
    written = len(tokens) <= XRAY_VALUES_UP_TO
    write_heading(page, 0.45, 3.95, f"Which token looks at which? (layer {layer}, head {head})")
    axes = _panel(figure, 1.45, 4.1, *[2.05 if written else 1.45] * 2)
    draw_attention(axes, weights, tokens, written)
    axes.tick_params(labelsize=8.5)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)

    write_heading(page, 4.5, 3.95, "What would it say if it stopped after block k?")
    axes = _panel(figure, 4.95, 4.84, 4.1, 0.7)
    draw_guesses(axes, [(k, *guess) for k, guess in enumerate(trace.guesses)], room=0.76)
    axes.tick_params(labelsize=8.5, labelbottom=False)
    write_heading(page, 4.5, 5.77, "How long does the last token's vector grow?")
    axes = _panel(figure, 4.95, 5.87, 4.1, 0.38)
    lengths = np.linalg.norm(
        as_array(trace.residual_stream, "residual_stream", "layer", "position", "d_model")[:, -1], axis=-1
    )
    axes.plot(lengths, color=PHASES[2].strong, marker="o", markersize=3, clip_on=False)
    axes.set_xlim(-0.6, len(lengths) - 0.4)
    axes.set_ylim(0, 1.08 * lengths.max() or 1)
    axes.locator_params(axis="y", nbins=2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=8.5)
    axes.set_xlabel("after block k", fontsize=9)


def _xray_prediction(figure: Figure, page: Axes, trace) -> None:
    note = f"{len(trace.probabilities):,} tokens get a probability; one is chosen"
    _band(page, 3, 6.93, 2.5, PHASES[3].heading, note)
    top = list(trace.top(10))
    if trace.chosen_token not in [token for token, _ in top]:
        top.append((trace.chosen_token, float(trace.probabilities[trace.chosen_id])))
    tokens, probabilities = zip(*top, strict=True)
    write_heading(page, 0.45, 7.55, "What comes next?")
    axes = _panel(figure, 1.45, 7.62, 4.5, 1.75)
    draw_probabilities(axes, tokens, probabilities, trace.chosen_token)
    axes.tick_params(labelsize=8.5)
    _draw_loop(page, trace)


def _draw_loop(page: Axes, trace) -> None:
    """The chosen token, and the prompt that it makes for the next round."""
    blue, middle = PHASES[3].strong, 7.6
    token = visible(trace.chosen_token, 12)
    width = text_inches(token, 20) + 0.4
    page.add_patch(Polygon([(6.1, 8.1), (6.1, 8.36), (6.23, 8.23)], color=MUTED))
    rounded(page, middle - width / 2, 7.95, width, 0.55, blue, radius=0.1)
    page.text(middle, 8.24, without_formulas(token), fontsize=20, color=PAPER, ha="center", va="center_baseline")
    page.text(middle, 8.8, "append it to the prompt and repeat:", fontsize=9.5, ha="center")
    prompt = trace.prompt + trace.chosen_token
    tail = prompt[-26:]
    while len(visible(tail, 1000, MARKS_IN_PROSE)) > 26:
        tail = tail[1:]
    text = "…" * (tail != prompt) + prose(tail)
    write_heading(page, middle, 9.05, text, 11, blue).set_ha("center")
