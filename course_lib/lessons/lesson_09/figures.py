"""Lesson 09's pictures: published models as points, what each depth of a stack knows, and a model to build.

The pure functions come first, `model_builder` puts sliders in front of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullLocator

from course_lib.drawing.figures import WIDTH
from course_lib.drawing.labels import prose, text_inches
from course_lib.drawing.style import INK, LINE, MUTED, PAPER, PHASES, course_style, on_ground, text_on
from course_lib.drawing.words import percent, size_in_words
from course_lib.interpretation.probes import ProbeResult
from course_lib.pretrained.model_shape import (
    Attention,
    FeedForward,
    ModelShape,
    Published,
    count_parameters,
    flops_per_token,
    kv_cache_bytes,
    parameter_table,
)

RED = PHASES[2]
HALO = [withStroke(linewidth=2.5, foreground=PAPER)]  # so that no line strikes a name out


def number_in_words(number: float) -> str:
    """A large number in the unit that fits: 134515008 → "135 M", 1.03e12 → "1.03 T"."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.3g}"


# ---- published models ---------------------------------------------------------------------------

NAME_SIZE = 8.5  # points
# where a name may stand beside its point: offset in points, and the side of the name that is nearest
PLACES = ((6, 0, "left"), (-6, 0, "right"), (0, 10, "center"), (0, -10, "center"), (6, 7, "left"), (-6, 7, "right"),
          (6, -7, "left"), (-6, -7, "right"))  # fmt: skip
FURTHER_OFF = ((-6, 14, "right"), (6, 14, "left"), (-6, -14, "right"), (6, -14, "left"), (0, 18, "center"))


@course_style()
def zoo_figure(
    points: Mapping[str, tuple[float, float]],
    title: str,
    x: str,
    y: str,
    named: Sequence[str] = (),
    mixtures: Sequence[str] = (),
    log: str = "xy",
    line: tuple[str, Sequence[tuple[float, float]]] | None = None,
    band: tuple[str, float] | None = None,
) -> Figure:
    """Models as points, with the names of those that the text speaks of, and of as many others as there is room for.

    `points`: name → (x, y). `named` are written first, in this order. `mixtures` are drawn as hollow diamonds, the
    others as dots. `log` says which axes are logarithmic. `line`: a name and the points it joins. `band`: a name and
    a height that it marks.

    Raises:
        ValueError: there are no points, or `named` or `mixtures` has a name that is none of theirs.
    """
    if not points:
        raise ValueError("points must hold at least one model, got none")
    for argument, names in (("named", named), ("mixtures", mixtures)):
        if unknown := [name for name in names if name not in points]:
            raise ValueError(f"{argument} must be names of points, got {unknown[0]!r}")
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.add_subplot()
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    dense = [name for name in points if name not in mixtures]
    for names, look in (
        (dense, dict(marker="o", color=RED.strong, markersize=5.5)),
        (list(mixtures), dict(marker="D", color=RED.strong, markerfacecolor=PAPER, markersize=5.5)),
    ):
        if names:
            axes.plot(*zip(*(points[name] for name in names), strict=True), linestyle="none", alpha=0.85, **look)
    if line:
        axes.plot(*zip(*line[1], strict=True), color=MUTED, linewidth=1, linestyle="--", zorder=0)
    if band:
        axes.axhline(band[1], color=MUTED, linewidth=1, linestyle=":", zorder=0)
    axes.margins(0.09)
    for axis, letter in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        axis.set_major_formatter(FuncFormatter(lambda value, _: number_in_words(value) if value > 0 else "0"))
        if letter in log:
            axis.set_minor_locator(NullLocator())
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(prose(title))
    keys = [Line2D([], [], linestyle="none", marker="o", color=RED.strong, label="dense")]
    if mixtures:
        hollow = dict(linestyle="none", marker="D", color=RED.strong, markerfacecolor=PAPER)
        keys.append(Line2D([], [], **hollow, label="mixture of experts"))
    keys += [Line2D([], [], color=MUTED, linewidth=1, linestyle="--", label=line[0])] if line else []
    keys += [Line2D([], [], color=MUTED, linewidth=1, linestyle=":", label=band[0])] if band else []
    if len(keys) > 1:
        figure.legend(handles=keys, loc="outside lower left", ncols=len(keys))
    figure.draw_without_rendering()  # the layout decides where a point stands
    _write_names(axes, points, [*named, *(name for name in points if name not in named)], len(named))
    return figure


def _write_names(axes: Axes, points: Mapping[str, tuple[float, float]], order: Sequence[str], n_asked: int) -> None:
    """Each name where it covers no point and no other name; one that finds no place stays unwritten.

    The first `n_asked` may stand a little further off than the others.
    """
    scale = axes.figure.dpi / 72  # pixels per point
    at = {name: axes.transData.transform(point) for name, point in points.items()}
    inside = axes.get_window_extent()
    marks = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in at.values()]
    written: list[tuple[float, float, float, float]] = []
    for rank, name in enumerate(order):
        width, height = 76 * scale * text_inches(name, NAME_SIZE) + 3 * scale, 1.25 * NAME_SIZE * scale
        for right, up, side in (*PLACES, *FURTHER_OFF) if rank < n_asked else PLACES:
            x, y = at[name][0] + right * scale, at[name][1] + up * scale
            left = x - {"left": 0, "right": width, "center": width / 2}[side]
            box = (left, y - height / 2, left + width, y + height / 2)
            within = (
                inside.x0 < box[0] and box[2] < inside.x1 + 30 * scale and inside.y0 < box[1] and box[3] < inside.y1
            )
            if within and not any(_meet(box, other) for other in (*marks, *written)):
                axes.annotate(
                    name, points[name], xytext=(right, up), textcoords="offset points", fontsize=NAME_SIZE,
                    color=INK if rank < n_asked else MUTED, ha=side, va="center",
                    annotation_clip=False, path_effects=HALO,
                )  # fmt: skip
                written.append(box)
                break


def _meet(one, other) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


# ---- what each depth knows ----------------------------------------------------------------------

LOOKS = (
    dict(color=RED.strong, linestyle="-", marker="o"),
    dict(color=INK, linestyle="--", marker="s"),
    dict(color=RED.medium, linestyle="-.", marker="^"),
    dict(color=MUTED, linestyle=":", marker="D"),
)


@course_style()
def rank_figure(ranks: Mapping[str, Sequence[int]], title: str) -> Figure:
    """The place of a token among all of them by depth, 1 at the top, on a log axis; up to four named lines.

    `ranks`: a name → the rank after 0, 1, 2, … blocks, 1 for the likeliest token.

    Raises:
        ValueError: there are no lines or more than four, or a rank is below 1.
    """
    if not 1 <= len(ranks) <= len(LOOKS):
        raise ValueError(f"ranks must hold 1 to {len(LOOKS)} lines, got {len(ranks)}: more cannot be told apart")
    if min(map(min, ranks.values())) < 1:
        raise ValueError("a rank must be at least 1: the likeliest token has 1")
    figure = Figure(figsize=(8.2, 3.6))
    axes = figure.add_subplot()
    for (name, line), look in zip(ranks.items(), LOOKS, strict=False):
        axes.plot(range(len(line)), line, **look, markersize=4, label=prose(name), clip_on=False)
    axes.set_yscale("log")
    axes.set_ylim(max(map(max, ranks.values())) * 1.6, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.01)
    axes.grid(True, axis="y")
    axes.set_ylabel("rank (1 is the guess)")
    axes.set_xlabel("blocks passed")
    axes.set_title(prose(title))
    figure.legend(loc="outside lower left", ncols=len(ranks))
    return figure


def reached(curve: Mapping[int, float], floor: float, share: float = 0.9) -> int:
    """The first depth at which a curve has climbed `share` of the way from `floor` to its best."""
    best = max(curve.values())
    return next(depth for depth in sorted(curve) if curve[depth] >= floor + share * (best - floor))


CLEARLY = 0.1  # 10 points of 100


def read_from(curve: Mapping[int, ProbeResult], without_model: float = 0.0) -> int | None:
    """The first depth at which nine tenths of what the model adds can be read; None where it adds less than `CLEARLY`.

    What it adds is counted from what the words alone give (`without_model`), or the commonest label if that is better.
    """
    accuracy = {depth: result.accuracy for depth, result in curve.items()}
    floor = max(without_model, *(result.commonest for result in curve.values()))
    return reached(accuracy, floor) if max(accuracy.values()) >= floor + CLEARLY else None


@course_style()
def probe_figure(
    results: Mapping[str, Mapping[int, ProbeResult]], without_model: Mapping[str, float], title: str
) -> Figure:
    """What a linear probe reads at each depth: one panel for each property, all on one scale.

    `results`: a property → depth → what the probe got right, and its controls. `without_model`: a property → what the
    same probe gets right from the words alone. The depth that `read_from` finds is marked.
    """
    figure = Figure(figsize=(WIDTH, 2.5 * math.ceil(len(results) / 2) + 0.6))
    rows = math.ceil(len(results) / 2)
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (name, curve) in zip(panels, results.items(), strict=False):
        depths = sorted(curve)
        accuracy = {depth: curve[depth].accuracy for depth in depths}
        control = [curve[depth].control for depth in depths]
        axes.plot(depths, list(accuracy.values()), color=RED.strong, marker="o", markersize=4, clip_on=False)
        axes.plot(depths, control, color=MUTED, linestyle="--", linewidth=1.3)
        axes.axhline(curve[depths[0]].commonest, color=MUTED, linestyle=":", linewidth=1.3)
        if name in without_model:
            axes.axhline(without_model[name], color=INK, linestyle="-.", linewidth=1.2)
        depth = read_from(curve, without_model.get(name, 0.0))
        if depth is not None:
            axes.plot(
                depth, accuracy[depth], marker="D", markersize=8, color=INK, markerfacecolor="none", clip_on=False
            )
            axes.annotate(f"{depth}", (depth, accuracy[depth]), xytext=(0, -16), textcoords="offset points",
                          ha="center", fontsize=9.5, fontweight="bold", path_effects=HALO)  # fmt: skip
        axes.set_title(prose(name), fontsize=10)
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    panels[0].set_ylim(0, 1.02)
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}%"))
    for axes in panels[max(0, len(results) - 2) : len(results)]:
        axes.set_xlabel("blocks passed")
        axes.tick_params(labelbottom=True)
    for axes in panels[::2]:
        axes.set_ylabel("probe right")
    keys = [
        Line2D([], [], color=RED.strong, marker="o", markersize=4, label="probe, held-out"),
        Line2D([], [], color=INK, linestyle="-.", linewidth=1.2, label="from the words alone"),
        Line2D([], [], color=MUTED, linestyle="--", linewidth=1.3, label="shuffled labels"),
        Line2D([], [], color=MUTED, linestyle=":", linewidth=1.3, label="commonest label"),
        Line2D([], [], linestyle="none", marker="D", color=INK, markerfacecolor="none", label="90% of the way"),
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=5, fontsize=9)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- a model to build ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """What follows from a handful of sizes, and the published model that is most like it."""

    shape: ModelShape
    context: int
    parameters: dict[str, int]  # of each part
    bytes_16_bit: int
    cache_bytes: float  # per token
    flops: int  # per token that sees `context` tokens
    nearest: str

    @property
    def total(self) -> int:
        return sum(self.parameters.values())


def build(
    zoo: Mapping[str, ModelShape],
    n_layers: int,
    d_model: int,
    n_heads: int,
    n_kv_heads: int,
    vocab_size: int,
    context: int = 4096,
) -> Built:
    """A Llama-like model of these sizes. The feed-forward network is 8/3 as wide as the stream, in steps of 64.

    "Most like it" is the model of the zoo whose depth, width and parameters are, as ratios, nearest.

    Raises:
        ValueError: the width is no multiple of the heads, or the heads are none of the key heads.
    """
    if d_model % n_heads:
        raise ValueError(
            f"a width of {d_model} cannot be shared out among {n_heads} heads: take a multiple of {n_heads}, "
            f"such as {max(1, round(d_model / n_heads)) * n_heads}"
        )
    if n_heads % n_kv_heads:
        raise ValueError(
            f"{n_heads} heads cannot share {n_kv_heads} key heads evenly: "
            f"take one of {', '.join(str(n) for n in range(1, n_heads + 1) if n_heads % n == 0)}"
        )
    shape = ModelShape(
        name="yours",
        maker="you",
        year=0,
        source="",
        vocab_size=vocab_size,
        context=context,
        d_model=d_model,
        n_layers=n_layers,
        attention=Attention(n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_model // n_heads),
        feed_forward=FeedForward(d_ff=max(64, round(d_model * 8 / 3 / 64) * 64)),
        tied=True,
        published=Published(parameters="", source=""),
    )
    total = count_parameters(shape)

    def distance(other: ModelShape) -> float:
        pairs = ((n_layers, other.n_layers), (d_model, other.d_model), (total, count_parameters(other)))
        return sum(math.log(one / another) ** 2 for one, another in pairs)

    return Built(
        shape=shape,
        context=context,
        parameters={part: n for part, n in parameter_table(shape).items() if n},
        bytes_16_bit=2 * total,
        cache_bytes=kv_cache_bytes(shape),
        flops=flops_per_token(shape, context),
        nearest=min(zoo, key=lambda name: distance(zoo[name])),
    )


def rows_of(built: Built) -> list[tuple[str, str]]:
    """What the builder says, as (what, how much)."""
    s = built.shape
    return [
        ("parameters", f"{number_in_words(built.total)} ({built.total:,})"),
        ("bytes, 16 bits a parameter", size_in_words(built.bytes_16_bit)),
        ("KV cache, a token", size_in_words(round(built.cache_bytes))),
        (f"KV cache, {built.context:,} tokens", size_in_words(round(built.cache_bytes * built.context))),
        (f"operations a token, {built.context:,} seen", number_in_words(built.flops)),
        ("width of a head, of the feed-forward part", f"{s.attention.d_head}, {s.feed_forward.d_ff}"),
        ("most like it", built.nearest),
    ]


def in_words(built: Built) -> str:
    """The builder's picture as a sentence."""
    shares = ", ".join(f"{part} {percent(n / built.total)}" for part, n in built.parameters.items())
    size = f"{built.shape.n_layers} blocks of width {built.shape.d_model}: {number_in_words(built.total)} parameters"
    return f"{size}. {shares}."


TONES = {
    "token embedding": PHASES[1].strong,
    "attention": RED.strong,
    "feed-forward": RED.medium,
    "norms and biases": INK,
}


def builder_html(built: Built) -> str:
    """A table of what follows from the sizes, above a bar of where the parameters are."""
    cell = f"padding: 2px 14px 2px 0; border-bottom: 1px solid {LINE}; text-align: left"
    rows = "".join(
        f'<tr><th scope="row" style="{cell}; font-weight: 400">{escape(name)}</th>'
        f'<td style="{cell}; font-weight: 600">{escape(value)}</td></tr>'
        for name, value in rows_of(built)
    )
    pieces, keys = [], []
    for part, n in built.parameters.items():
        colour, share = TONES.get(part, MUTED), n / built.total
        text = percent(share) if share > 0.09 else ""
        pieces.append(
            f'<span style="flex: {share:.5f} 0 0; min-width: 1px; {on_ground(colour)}; '
            f'padding: 5px 0; text-align: center; overflow: hidden">{text}</span>'
        )
        keys.append(
            f'<span style="white-space: nowrap"><span style="background: {colour}; border: 1px solid">&emsp;</span> '
            f"{escape(part)} {percent(share)}</span>"
        )
    bar = (
        f'<div role="img" aria-label="{escape(in_words(built), quote=True)}" '
        f'style="display: flex; max-width: 40em; font-size: 12px">{"".join(pieces)}</div>'
    )
    look = "font: 13px DejaVu Sans, sans-serif; line-height: 1.5; max-width: 100%"
    legend = f'<div style="display: flex; flex-wrap: wrap; gap: 0 1.5em; margin: 4px 0">{"".join(keys)}</div>'
    table = f'<table style="border-collapse: collapse; margin-bottom: 8px">{rows}</table>'
    return f'<div style="{look}">{table}{bar}{legend}</div>'


@course_style()
def builder_figure(built: Mapping[str, Built], title: str) -> Figure:
    """What the builder shows, without a kernel: several models as bars of their parameters' shares, with the totals."""
    figure = Figure(figsize=(8.2, 0.62 * len(built) + 1.5))
    axes = figure.add_subplot()
    parts = list(dict.fromkeys(part for one in built.values() for part in one.parameters))
    for row, one in enumerate(built.values()):
        left = 0.0
        for part in parts:
            share = one.parameters.get(part, 0) / one.total
            colour = TONES.get(part, MUTED)
            axes.barh(row, share, left=left, color=colour, height=0.62)
            if share > 0.06:
                axes.text(left + share / 2, row, percent(share), color=text_on(colour), fontsize=9, ha="center",
                          va="center_baseline")  # fmt: skip
            left += share
    notes = [
        f"{number_in_words(one.total)}, {size_in_words(round(one.cache_bytes))} of cache a token"
        for one in built.values()
    ]
    axes.set_yticks(range(len(built)), [f"{name}\n{note}" for name, note in zip(built, notes, strict=True)], fontsize=9)
    axes.set_ylim(len(built) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    keys = [
        Line2D([], [], linestyle="none", marker="s", markersize=8, color=TONES.get(p, MUTED), label=p) for p in parts
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=4)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def model_builder(zoo: Mapping[str, ModelShape]):
    """Sliders for depth, width, heads, key heads and vocabulary; what follows from them, at once."""
    import ipywidgets

    from course_lib.drawing.widgets import complaint, labelled_slider

    ranges = {
        "blocks": (1, 128, 30, 1),
        "width": (64, 16384, 576, 64),
        "heads": (1, 128, 9, 1),
        "key heads": (1, 128, 3, 1),
        "vocabulary": (1024, 262_144, 49_152, 1024),
    }
    sliders, lines = {}, []
    for name, (lowest, highest, value, step) in ranges.items():
        sliders[name], line = labelled_slider(name, lowest, highest, value, step)
        lines.append(line)
    said = ipywidgets.HTML()

    def redraw(_=None) -> None:
        values = [round(one.value) for one in sliders.values()]
        try:
            said.value = builder_html(build(zoo, *values))
        except ValueError as error:
            said.value = complaint(error)

    for slider in sliders.values():
        slider.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([*lines, said])
