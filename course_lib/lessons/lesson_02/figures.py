"""Maps of words and bars of neighbours: what lies near what in an embedding table.

Pure functions first; `neighbours_playground`, at the end, puts a text field and a slider in front of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets
import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from course_lib.drawing.figures import WIDTH, as_array, same_length
from course_lib.drawing.labels import axis_label, prose, text_inches, visible, without_formulas
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, LINE, MUTED, PAPER, PHASES, course_style, png
from course_lib.drawing.widgets import LABELS, complaint, labelled_slider, picture_html
from course_lib.input_processing.embeddings import nearest, principal_axes
from course_lib.input_processing.tokenizer import Tokenizer

GREEN = PHASES[1]
# shape first, tone second: kinds stay apart without colour; (marker, inside, outline and words)
LOOKS = (
    ("o", GREEN.strong, GREEN.strong),
    ("s", PAPER, INK),
    ("^", GREEN.medium, "#08614a"),
    ("D", MUTED, MUTED),
    ("v", PAPER, GREEN.strong),
    ("P", INK, INK),
    ("X", LINE, MUTED),
    ("p", GREEN.pale, "#08614a"),
)
USUAL = ("animal", "colour", "food", "place", "profession", "verb", "person", "thing")  # each has one sign on all maps
WORD_SIZE = 8.5  # points


# ---- maps ---------------------------------------------------------------------------------------


@course_style()
def word_maps(
    maps: Mapping[str, object],
    words: Sequence[str],
    kinds: Sequence[str],
    title: str = "Which words lie together?",
    named: Sequence[str] = (),
) -> Figure:
    """The same words on one or more maps, side by side: a mark for each kind, the word beside it where there is room.

    `maps`: heading → points (word, 2). `kinds`: the kind of each word, at most eight different ones. `named`: the words
    that the text speaks of, which are written first. Raises ValueError where lengths differ or there are more kinds.
    """
    if not maps:
        raise ValueError("maps must hold at least one map, got none")
    same_length(words=words, kinds=kinds)
    figure = Figure(figsize=(WIDTH, 5.6 if len(maps) == 1 else 5.2))
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (heading, points) in zip(panels, maps.items(), strict=True):
        axes.set_title(prose(heading), fontsize=10)
        _frame(axes, _points(points, words))
    figure.legend(handles=_keys(kinds), loc="outside lower center", ncols=8, handletextpad=0.2, columnspacing=1.2)
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    figure.draw_without_rendering()  # the layout must be known before the words find their places
    for axes, points in zip(panels, maps.values(), strict=True):
        _draw_words(axes, _points(points, words), words, kinds, named)
    return figure


def _points(points, words: Sequence[str]) -> np.ndarray:
    points = as_array(points, "points", "word", "2")
    same_length(points=points, words=words)
    if points.shape[1] != 2:
        raise ValueError(f"points must have two numbers for each word, got shape {points.shape}")
    return points


def _looks(kinds: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    different = list(dict.fromkeys(kinds))
    if len(different) > len(LOOKS):
        raise ValueError(f"kinds must be at most {len(LOOKS)} different ones, got {len(different)}")
    own = {kind: LOOKS[USUAL.index(kind)] for kind in different if kind in USUAL}
    free = (look for look in LOOKS if look not in own.values())
    return {kind: own.get(kind) or next(free) for kind in different}


def _keys(kinds: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", marker=marker, markerfacecolor=inside, markeredgecolor=outline, label=prose(kind))
        for kind, (marker, inside, outline) in _looks(kinds).items()
    ]


def _frame(axes: Axes, points: np.ndarray) -> None:
    """Limits around the points with room for words, and no scale: only what is near what can be read."""
    low, high = points.min(0), points.max(0)
    room = np.maximum(0.07 * (high - low), 1e-6)
    axes.set_xlim(low[0] - 1.3 * room[0], high[0] + 1.8 * room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(LINE)


def _draw_words(
    axes: Axes, points: np.ndarray, words: Sequence[str], kinds: Sequence[str], named: Sequence[str]
) -> None:
    """A mark for each word, the word beside it where it covers no other; a named word farther off, if need be."""
    _draw_marks(axes, points, kinds)
    looks, places = _looks(kinds), _inches(axes, points)
    taken = _squares(places, 0.045)
    for i in sorted(range(len(words)), key=lambda i: words[i] not in named):
        style = dict(color=looks[kinds[i]][2], fontsize=WORD_SIZE)
        if not _write(axes, points[i], places[i], words[i], taken, **style) and words[i] in named:
            _write(axes, points[i], places[i], words[i], taken, far=True, **style)


def _draw_marks(axes: Axes, points: np.ndarray, kinds: Sequence[str], size: float = 5.5, **style) -> None:
    for kind, (marker, inside, outline) in _looks(kinds).items():
        mine = points[[k == kind for k in kinds]]
        look = dict(linestyle="", marker=marker, markerfacecolor=inside, markeredgecolor=outline)
        axes.plot(*mine.T, markersize=size, zorder=2, **look, **style)


def _squares(places: np.ndarray, half: float) -> list[tuple[float, float, float, float]]:
    return [(x - half, y - half, x + half, y + half) for x, y in places]


def _inches(axes: Axes, points: np.ndarray) -> np.ndarray:
    """Where the points lie in the panel, in inches from its lower left corner."""
    box = axes.get_window_extent()
    return (axes.transData.transform(points) - (box.x0, box.y0)) / axes.figure.dpi


def _write(axes: Axes, point, place, word: str, taken: list, mark: float = 0.05, far: bool = False, **style) -> bool:
    """The word at the first place around its mark where nothing is yet; `far`: farther away, tied to it by a line.

    Returns whether there was one: else nothing is written.
    """
    bold = 1.15 if style.get("weight") == "bold" else 1
    width, height = bold * text_inches(visible(word), style["fontsize"]) + 0.02, 0.125
    box = axes.get_window_extent()
    page = box.width / axes.figure.dpi, box.height / axes.figure.dpi
    x, y = place
    for dx, dy in _far(width, height) if far else _beside(width, mark):
        own = x + dx, y + dy, x + dx + width, y + dy + height
        inside = own[0] > 0.04 and own[1] > 0.03 and own[2] < page[0] - 0.04 and own[3] < page[1] - 0.03
        if inside and not any(own[0] < b[2] and b[0] < own[2] and own[1] < b[3] and b[1] < own[3] for b in taken):
            taken.append(own)
            line = dict(arrowstyle="-", color=MUTED, linewidth=0.5, shrinkA=0, shrinkB=2, relpos=(0.5, 0.5))
            axes.annotate(
                without_formulas(visible(word)),
                point,
                (72 * dx, 72 * (dy + 0.015)),
                textcoords="offset points",
                arrowprops=line if far else None,
                **style,
            )
            return True
    return False


def _beside(width: float, mark: float) -> list[tuple[float, float]]:
    """Eight places for a word around its mark: where its lower left corner lies, seen from the mark, in inches."""
    right, left, above, below = mark + 0.02, -mark - 0.02 - width, mark + 0.01, -mark - 0.14
    sides = [(right, -0.06), (left, -0.06), (-width / 2, above), (-width / 2, below)]
    return sides + [(across, up) for up in (above, below) for across in (mark, -mark - width)]


def _far(width: float, height: float) -> list[tuple[float, float]]:
    """More such places, on three wider rings."""
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = [(r * np.cos(turn), 0.6 * r * np.sin(turn)) for r in (0.4, 0.6, 0.8) for turn in turns]
    return [(x - width / 2, y - height / 2) for x, y in ring]


# ---- neighbours ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbourhood:
    """A token and the tokens that point most nearly the same way, the nearest first."""

    token: str
    id: int
    neighbours: tuple[str, ...]
    ids: tuple[int, ...]
    cosines: tuple[float, ...]
    strangers: float  # the mean cosine of any two tokens: less than this is no nearness


def neighbourhood(text: str, tokenizer: Tokenizer, table: Float[Tensor, "vocab d_model"], k: int) -> Neighbourhood:
    """The k nearest tokens of the one token that `text` is, by the cosines of the table's rows.

    Raises:
        ValueError: the text is empty, or it is several tokens, so that no row of the table is its own.
    """
    if not text.strip():
        raise ValueError("the field is empty: type a word, such as dog")
    ids = tokenizer.encode(text, special_tokens=False)
    if len(ids) != 1:
        pieces = " + ".join(visible(tokenizer.token_text(id)) for id in ids[:12]) + " + …" * (len(ids) > 12)
        raise ValueError(
            f"“{visible(text, 40)}” has no row of its own: it is {len(ids)} tokens ({pieces}); try a commoner word"
        )
    near, cosines = nearest(table[ids[0]], table, k, without=ids)
    texts = tuple(tokenizer.token_text(id) for id in near)
    strangers = F.normalize(table, dim=1).mean(0).square().sum().item()
    return Neighbourhood(tokenizer.token_text(ids[0]), ids[0], texts, tuple(near), tuple(cosines), strangers)


def in_words(found: Neighbourhood) -> str:
    """The bars as a sentence: a text equivalent of the picture."""
    near = ", ".join(
        f"{visible(token)} {cosine:.2f}" for token, cosine in zip(found.neighbours, found.cosines, strict=True)
    )
    strangers = f"{found.strangers:.2f}".replace("-0.00", "0.00")
    return f"The nearest tokens of {visible(found.token)}, by cosine: {near}. Two strangers have {strangers}."


@dataclass(frozen=True)
class Ground:
    """A map that stays while words come and go: known words of known kinds, and the axes that they are drawn along.

    Along the mean of all rows lies how common a token is, which would drown the rest: the axes are at right angles to
    it. They are the second and third widest of what is left (the widest often tells one kind from all others).
    """

    words: tuple[str, ...]
    kinds: tuple[str, ...]
    points: np.ndarray  # (word, 2)
    axes: Float[Tensor, "2 d_model"]

    @classmethod
    def of(cls, words: Mapping[str, Sequence[str]], tokenizer: Tokenizer, table: Float[Tensor, "vocab d_model"]):
        """`words`: kind → words, each one token with a space before it. Raises ValueError where one is not."""
        pairs = [(word, kind) for kind, group in words.items() for word in group]
        ids = []
        for word, _ in pairs:
            found = tokenizer.encode(" " + word)
            if len(found) != 1:
                raise ValueError(f"words must be one token each with a space before it, got {word!r} ({len(found)})")
            ids += found
        rows, common = table[ids], F.normalize(table.mean(0), dim=0)
        axes = principal_axes(rows - (rows @ common)[:, None] * common, 3)[1:]
        names, kinds = zip(*pairs, strict=True)
        return cls(names, kinds, (rows @ axes.T).numpy(), axes)


@course_style()
def neighbours_figure(found: Neighbourhood, ground: Ground, table: Float[Tensor, "vocab d_model"]) -> Figure:
    """Left, a bar for the cosine of each neighbour; right, where the token and its neighbours lie on the map."""
    figure = Figure(figsize=(8.2, 4.6))  # beside the prompt of a cell in JupyterLab there is no more room
    bars, plane = figure.subplots(1, 2, width_ratios=(1, 1.45))
    rows = range(len(found.cosines))
    bars.barh(rows, found.cosines, height=0.7, color=GREEN.medium)
    for row, cosine in enumerate(found.cosines):
        bars.annotate(
            f"{cosine:.2f}", (max(cosine, 0), row), (5, 0), textcoords="offset points", fontsize=9, va="center_baseline"
        )
    bars.set_yticks(rows, [axis_label(token, 1.1) for token in found.neighbours])
    bars.set_ylim(max(len(found.cosines), 8) - 0.4, -0.6)
    bars.set_xlim(min(0, *found.cosines), 1.18)
    bars.axvline(found.strangers, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
    bars.set_xticks([found.strangers], [f"two strangers: {found.strangers:.2f}"])
    bars.spines["bottom"].set_visible(False)
    bars.tick_params(length=0)
    bars.set_title("how near, by cosine", fontsize=10)
    own = (table[[found.id, *found.ids]] @ ground.axes.T).numpy()
    plane.set_title("where on the map of kinds", fontsize=10)
    _frame(plane, np.concatenate([ground.points, own]))
    ring = dict(linestyle="", marker="o", markerfacecolor=PAPER, markeredgecolor=GREEN.strong)
    keys = [*_keys(ground.kinds), Line2D([], [], **ring, label="neighbour")]
    figure.legend(handles=keys, loc="outside lower right", ncols=9, handletextpad=0.2, columnspacing=0.9)
    figure.suptitle(
        f"What lies near “{without_formulas(visible(found.token))}”?",
        x=0.012,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
    )
    figure.draw_without_rendering()
    _draw_found(plane, found, ground, own)
    return figure


def _draw_found(plane: Axes, found: Neighbourhood, ground: Ground, own: np.ndarray) -> None:
    """The map's words pale, nameless where there is no room; the token as a star, its neighbours as rings."""
    plane.plot(*own[1:].T, "o", markersize=6, markerfacecolor=PAPER, markeredgecolor=GREEN.strong, zorder=3)
    plane.plot(*own[:1].T, "*", markersize=15, markerfacecolor=GREEN.strong, markeredgecolor=PAPER, zorder=4)
    _draw_marks(plane, ground.points, ground.kinds, size=4.5, alpha=0.45)
    places, known = _inches(plane, own), _inches(plane, ground.points)
    taken = [*_squares(places[:1], 0.085), *_squares(places[1:], 0.05), *_squares(known, 0.04)]
    for i, token in enumerate((found.token, *found.neighbours)):
        star = dict(mark=0.09, weight="bold") if i == 0 else {}
        _write(plane, own[i], places[i], token, taken, color=GREEN.strong, fontsize=9, zorder=5, **star)
    for word, point, place in zip(ground.words, ground.points, known, strict=True):
        _write(plane, point, place, word, taken, color=MUTED, fontsize=7.5)


# ---- the widget ---------------------------------------------------------------------------------


def neighbours_playground(llm, words: Mapping[str, Sequence[str]], text: str = "dog") -> ipywidgets.Widget:
    """The learner's own word, its nearest tokens as bars and on a map; a slider for how many.

    Two boxes: whether the word has a space before it, as in the middle of a sentence, and whether the mean of all rows
    is taken off first. What is wrong with a word is said below it, in a sentence.
    """
    whole = llm.transformer.token_embedding.weight.detach().cpu().float()
    unit = {False: F.normalize(whole, dim=1), True: F.normalize(whole - whole.mean(0), dim=1)}
    ground = Ground.of(words, llm.tokenizer, whole)
    field = ipywidgets.Text(text, description="word", continuous_update=False, style=LABELS, layout={"width": "22em"})
    space = ipywidgets.Checkbox(True, description="with a space before it", indent=False)
    centred = ipywidgets.Checkbox(False, description="take the mean of all rows off", indent=False)
    many, row = labelled_slider("neighbours", 1, 20, value=12, step=1)
    problem, picture = ipywidgets.HTML(), ipywidgets.HTML()

    def look(_=None) -> None:
        table = unit[centred.value]
        text = field.value.strip()
        try:
            found = neighbourhood(" " * space.value + text if text else "", llm.tokenizer, table, int(many.value))
        except ValueError as error:
            problem.value, picture.value = complaint(error), ""
            return
        figure = neighbours_figure(found, ground, whole)
        size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
        problem.value = f"<b>{escape(in_words(found))}</b>"
        picture.value = picture_html(png(figure), in_words(found), size)

    for control in (field, space, centred, many):
        control.observe(look, "value")
    look()
    return ipywidgets.VBox([ipywidgets.HBox([field, space, centred]), row, problem, picture])
