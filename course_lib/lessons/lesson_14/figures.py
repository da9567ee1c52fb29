"""Lesson 14's pictures: what a slip in one piece costs the model, and what the model says with one piece exchanged.

Pure functions, from an assembly to numbers, words and figures; `exchange_playground` puts choices before `exchange`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from course_lib.classroom.assembly import Assembly
from course_lib.drawing.figures import WIDTH
from course_lib.drawing.labels import axis_label, prose, visible
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, MUTED, PAPER, PHASES, course_style, png
from course_lib.drawing.words import percent
from course_lib.lessons import exercises
from course_lib.prediction.logits import softmax

BLUE = PHASES[3]
SHOWN = 5  # the likeliest next tokens
WRITTEN = 10  # tokens
LONGEST = 64  # tokens of a prompt: more would hold the kernel up
# the pieces that `Assembly.read` runs: the others are other ways to the same scores, or come before and after them
EXCHANGED = (
    "look_up",
    "causal_mask",
    "rms_norm",
    "split_heads",
    "rotate_pairs",
    "append_to_cache",
    "repeat_kv_heads",
    "scaled_dot_product_attention",
    "swiglu",
    "residual_block",
    "logit_lens",
)
AS_IT_SHOULD_BE = "as it should be"


# ---- what a slip costs ---------------------------------------------------------------------------


@course_style()
def cost_figure(losses: Mapping[str, float], likeliest: Mapping[str, str], usual: float, title: str) -> Figure:
    """The loss with each slip as a bar, the smallest on top, and behind it the likeliest next word.

    One line marks the loss without a slip, another that of guessing among 49,152 tokens. Bars end a little past that.
    """
    names = sorted(losses, key=losses.get)
    guessing = math.log(49_152)
    end = 1.2 * guessing
    figure = Figure(figsize=(WIDTH, 1.2 + 0.34 * len(names)))
    axes = figure.add_subplot()
    shown = [min(losses[name], end) for name in names]
    axes.barh(range(len(names)), shown, height=0.66, color=BLUE.medium)
    for row, name in enumerate(names):
        beyond = " (longer)" if losses[name] > end else ""
        axes.annotate(
            f"{losses[name]:.2f}{beyond}  {axis_label(likeliest[name])}",
            (shown[row], row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            bbox=dict(facecolor=PAPER, edgecolor="none", pad=1),
        )
    axes.set_yticks(range(len(names)), [prose(name) for name in names])
    axes.tick_params(axis="y", length=0)
    for place, name, style in ((usual, "no slip", "-"), (guessing, "guessing", "--")):
        axes.axvline(place, color=INK, linewidth=1.2, linestyle=style, zorder=0)
        axes.annotate(f"{name}: {place:.2f}", (place, -0.8), xytext=(4, 0), textcoords="offset points", fontsize=9)
    axes.set(xlim=(0, 1.36 * end), ylim=(len(names) - 0.4, -1.2))
    axes.set_xlabel("loss a token, in nats; behind it, the likeliest next token")
    figure.suptitle(prose(title), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    return figure


# ---- one piece exchanged -------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a model says after a prompt: its likeliest next tokens with their probabilities, and how it goes on."""

    likeliest: tuple[tuple[str, float], ...]
    goes_on: str
    problem: str = ""  # a sentence, where it says nothing


@dataclass(frozen=True)
class Exchange:
    """One piece exchanged for another version, and what the model says with it and without."""

    prompt: str
    piece: str
    version: str
    usual: Said
    now: Said


def versions(made: Assembly, piece: str) -> dict[str, Callable]:
    """The versions of a piece that can be put in: the right one, and one for each mistake that its check knows."""
    return {AS_IT_SHOULD_BE: made.functions[piece], **exercises()[piece].mistakes}


def says(made: Assembly, prompt: str) -> Said:
    """What an assembly says after a prompt; an error inside it, or scores that are not numbers, become a sentence.

    Raises:
        ValueError: the prompt is empty, or too long to be tried at once.
    """
    ids = made.encode(prompt)
    if not ids:
        raise ValueError("the prompt is empty: the model needs at least one token to continue from")
    if len(ids) > LONGEST:
        raise ValueError(f"the prompt has {len(ids)} tokens, and {LONGEST} can be tried here: shorten it")
    try:
        scores = made.read(ids, [])[-1]
        if not scores.isfinite().all():
            return Said((), "", "its scores are not numbers (NaN): there is nothing to choose from")
        goes_on = made.write(prompt, WRITTEN)
    except Exception as error:  # whatever a wrong version does to the rest
        said = str(error).strip().split("\n")[0][:120]
        return Said((), "", f"it stops with {type(error).__name__}: {said}")
    values, best = softmax(scores).topk(SHOWN)
    names = [made.llm.tokenizer.token_text(id) for id in best.tolist()]
    return Said(tuple(zip(names, values.tolist(), strict=True)), goes_on)


def exchange(made: Assembly, prompt: str, piece: str, version: str, usual: Said | None = None) -> Exchange:
    """Put one version of a piece in, and ask. `usual` is what it says as it should be, if that is known already.

    Raises:
        ValueError: there is no such piece or version, or the prompt cannot be tried.
    """
    if piece not in EXCHANGED:
        raise ValueError(f"piece must be one of {', '.join(EXCHANGED)}, got {piece!r}")
    known = versions(made, piece)
    if version not in known:
        raise ValueError(f"{piece} has no version {version!r}: it has {', '.join(map(repr, known))}")
    usual = usual or says(made, prompt)
    now = usual if version == AS_IT_SHOULD_BE else says(made.with_functions(**{piece: known[version]}), prompt)
    return Exchange(prompt, piece, version, usual, now)


def in_words(state: Exchange) -> str:
    """The state as sentences: a text equivalent of the picture."""
    changed = "" if state.version == AS_IT_SHOULD_BE else f" with a slip in {state.piece} ({state.version})"
    if state.now.problem:
        return f"After “{prose(state.prompt, 60)}”{changed}: {state.now.problem}."
    named = ", ".join(f"{visible(token)} {percent(p)}" for token, p in state.now.likeliest)
    return f"After “{prose(state.prompt, 60)}”{changed}: {named}. It goes on: “{prose(state.now.goes_on, 120)}”"


@course_style()
def exchange_figure(state: Exchange) -> Figure:
    """The likeliest next tokens as it should be (left) and with the version that was put in (right)."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="none")
    slip = state.version != AS_IT_SHOULD_BE
    title = (
        f"What does the model say {f'with a slip in {state.piece}' if slip else f'with {state.piece} as it should be'}?"
    )
    figure.text(0.012, 0.935, prose(title), fontsize=11.5, fontweight="bold", va="center")
    if slip:
        figure.text(0.012, 0.855, prose(f"the slip: {state.version}", 115), fontsize=9.5, va="center")
    sides = (
        (AS_IT_SHOULD_BE, state.usual, BLUE.medium),
        ("with the slip" if slip else "the same", state.now, BLUE.strong),
    )
    for column, (name, said, colour) in enumerate(sides):
        axes = figure.add_axes((0.115 + 0.5 * column, 0.25, 0.3, 0.46))
        axes.set_title(name, fontsize=10, fontweight="normal", pad=4)
        axes.spines[:].set_visible(False)
        axes.set(xlim=(0, 1), ylim=(SHOWN - 0.5, -0.5), xticks=[])
        axes.tick_params(axis="y", length=0)
        if not said.likeliest:
            axes.set_yticks([])
            axes.text(0, 2, "nothing", fontsize=10, color=MUTED, va="center")
        else:
            tokens, values = zip(*said.likeliest, strict=True)
            axes.barh(range(SHOWN), values, height=0.7, color=colour)
            axes.set_yticks(range(SHOWN), [axis_label(token) for token in tokens])
            for row, value in enumerate(values):
                axes.text(value + 0.02, row, percent(value), va="center", fontsize=9.5)
        goes_on = said.problem or f"… {said.goes_on.strip()}"
        for line, text in enumerate(_two_lines(goes_on)):
            figure.text(0.02 + 0.5 * column, 0.155 - 0.08 * line, prose(text, 64), fontsize=9.5, va="center")
    return figure


def _two_lines(text: str, width: int = 60) -> list[str]:
    if len(text) <= width:
        return [text]
    cut = text.rfind(" ", 0, width)
    cut = cut if cut > 0 else width
    return [text[:cut], text[cut:].strip()]


def exchange_playground(made: Assembly, prompt: str, piece: str, version: str):
    """The learner's own prompt, a choice of the piece and of its version, and what the model says then."""
    import ipywidgets

    from course_lib.drawing.widgets import LABELS, complaint, picture_html

    layout = {"width": "54em"}
    text = ipywidgets.Text(prompt, description="prompt", continuous_update=False, style=LABELS, layout=layout)
    pieces = ipywidgets.Dropdown(options=EXCHANGED, value=piece, description="piece", style=LABELS, layout=layout)
    choice = ipywidgets.Dropdown(description="version", style=LABELS, layout=layout)
    picture, words = ipywidgets.HTML(), ipywidgets.HTML()
    filling, usual = False, {}  # by prompt

    def fill(_=None) -> None:
        nonlocal filling
        filling = True
        choice.options = list(versions(made, pieces.value))
        choice.value = AS_IT_SHOULD_BE
        filling = False
        redraw()

    def redraw(_=None) -> None:
        if filling or choice.value is None:
            return
        try:
            state = exchange(made, text.value, pieces.value, choice.value, usual.get(text.value))
        except ValueError as error:
            picture.value, words.value = "", complaint(error)
            return
        usual[state.prompt], sentence = state.usual, in_words(state)
        figure = exchange_figure(state)
        size = tuple(round(CSS_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
        picture.value = picture_html(png(figure), sentence, size)
        words.value = f'<span role="status">{escape(sentence)}</span>'

    pieces.observe(fill, "value")
    fill()
    choice.observe(redraw, "value")
    text.observe(redraw, "value")
    choice.value = version
    return ipywidgets.VBox([text, pieces, choice, picture, words])
