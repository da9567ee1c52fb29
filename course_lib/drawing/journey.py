"""The map of the whole course, as an SVG: where this lesson stands between prompt and response.

The data (which boxes, which lessons light them) comes first, the drawing after it. Columns are the
three phases, read from top to bottom; the loop runs below them, training above.
"""

from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from course_lib.drawing.style import INK, LINE, MUTED, PAPER, PHASES
from course_lib.lessons import course

WIDTH, HEIGHT = 960, 322
FONT = "system-ui, sans-serif"
EM_PER_CHAR = 0.62  # a generous average: the usual fallback fonts set these labels narrower
HEADING, LABEL, SMALL = 15, 14, 12  # type sizes

COLUMN_X = {1: 36, 2: 346, 3: 656}
COLUMN_WIDTH, COLUMN_TOP, COLUMN_BOTTOM = 290, 40, 287
ROW_TOP, ROW_PITCH, BOX_HEIGHT = 74, 42, 30
TRAINING_Y, LOOP_Y, LOOP_X = 20, 304, 18
ENTRY_Y, EXIT_Y = 104, 279  # where the path from column to column enters and leaves
FRAME_TOP = 84
PAD, LANE = 16, 30  # the lane beside the boxes of phase 2 holds the residual path
HALF_GUTTER = 10


@dataclass(frozen=True)
class Stage:
    """One box of the map, lit by one lesson; `x` is measured from its column's left edge."""

    key: str
    label: str
    lesson: str
    phase: int
    row: int
    x: float = PAD
    width: float = COLUMN_WIDTH - 2 * PAD
    flag_below: bool = False

    @property
    def left(self) -> float:
        return COLUMN_X[self.phase] + self.x

    @property
    def top(self) -> float:
        return ROW_TOP + self.row * ROW_PITCH


_IN_LANE = {"x": PAD + LANE, "width": 226}
STAGES = (
    Stage("text", "The dog ran up the", "01", 1, 0),
    Stage("tokens", "tokens and ids", "01", 1, 1),
    Stage("token_embeddings", "token embeddings", "02", 1, 2),
    Stage("positions", "+ positions", "03", 1, 3),
    Stage("input_embedding", "input embedding", "04", 1, 4),
    Stage("self_attention", "self-attention", "05", 2, 1, PAD + LANE, 130, flag_below=True),
    Stage("multi_head", "multi-head", "06", 2, 1, PAD + LANE + 130, 96),
    Stage("add_norm_1", "add & normalize", "07", 2, 2, **_IN_LANE),
    Stage("feed_forward", "feed-forward", "08", 2, 3, **_IN_LANE),
    Stage("add_norm_2", "add & normalize", "07", 2, 4, **_IN_LANE),
    Stage("logits", "logits", "10", 3, 1),
    Stage("probabilities", "softmax probabilities", "10", 3, 2),
    Stage("sampling", "sampling", "12", 3, 3),
    Stage("output_token", "output token: hill", "13", 3, 4),
)
# what is lit without being a box
BLOCKS, RESIDUAL, TRAINING, LOOP = "blocks", "residual", "training", "loop"
LESSON_OF = {stage.key: stage.lesson for stage in STAGES} | {
    RESIDUAL: "07",
    BLOCKS: "09",
    TRAINING: "11",
    LOOP: "13",
}
WHOLE_JOURNEY = ("00", "14")
DESCRIPTION = (
    "The journey of a prompt through a language model. "
    "Phase 1, input processing: the text “The dog ran up the” becomes tokens and ids, "
    "then token embeddings; positions are added; the result is the input embedding. "
    "Phase 2, transformer block, repeated N times: multi-head self-attention, add and normalize, "
    "feed-forward, add and normalize, with a residual path around each part. "
    "Phase 3, prediction and generation: logits, softmax probabilities, sampling, "
    "the output token “hill”. The loop: append the token to the text and repeat. "
    "Training reaches all three phases."
)


@dataclass(frozen=True)
class JourneyMap:
    """A map ready to be shown: the last expression of a cell, or `display(...)`."""

    svg: str
    alt: str

    @property
    def address(self) -> str:
        """The picture itself as an address, for an <img>."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg.encode()).decode()}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        # An <img>, not image/svg+xml: that one JupyterLab shows in trusted notebooks only, and without its alt text
        image = f'<img alt={quoteattr(self.alt)} src="{self.address}">'
        return {"text/html": image, "text/plain": self.alt}


def on_the_map(lesson: str) -> bool:
    """Whether a key is a lesson's; homework has no place there."""
    return lesson in course() and not course()[lesson].homework


def lit_by(here: str) -> frozenset[str]:
    """The keys of what lesson `here` lights; lessons 00 and 14 light all but training."""
    if not on_the_map(here):
        raise ValueError(f"here must be a lesson from '00' to '14', got {here!r}")
    if here in WHOLE_JOURNEY:
        return frozenset(LESSON_OF) - {TRAINING}
    return frozenset(key for key, lesson in LESSON_OF.items() if lesson == here)


def journey_map(here: str, numbers: Mapping[str, str] | None = None, done: Collection[str] = ()) -> JourneyMap:
    """The map of the course with lesson `here` ("00" to "14") lit and marked "you are here".

    `numbers` writes real values into the boxes: keys of `STAGES`, as in
    `{"token_embeddings": "5 × 576"}`, and "blocks" for the N of "× N blocks".
    The boxes of the lessons in `done` carry a tick.
    Raises ValueError for an unknown lesson or key, and for a value too long for its box.
    """
    lit = lit_by(here)
    numbers = dict(numbers or {})
    _check_numbers(numbers)
    title = f"Course map, you are here: lesson {here}, {course()[here].name}"
    alt = f"{title}. {DESCRIPTION}" + (f" Done: lessons {', '.join(sorted(done))}." if done else "")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" style="max-width:100%;height:auto" font-family="{FONT}" role="img"'
        f" aria-label={quoteattr(title)}>",
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(DESCRIPTION)}</desc>",
        # a card of its own, so that the map also reads on a dark page
        _rect(0.5, 0.5, WIDTH - 1, HEIGHT - 1, 12, PAPER, LINE),
        *(_column(number) for number in COLUMN_X),
        _training(TRAINING in lit),
        _blocks(BLOCKS in lit, numbers.get(BLOCKS, "N")),
        _residual(RESIDUAL in lit),
        *_flow(),
        _text(COLUMN_X[3] + PAD, 88.3, "What comes next?", LABEL, PHASES[3].strong),
        *(_box(stage, stage.key in lit, numbers) for stage in STAGES),
        _loop(LOOP in lit),
        *(_tick(x, y) for lesson, x, y in TICKS if lesson in done),
        _flag(here),
        "</svg>",
    ]
    return JourneyMap("\n".join(parts), alt)


def text_width(text: str, size: float) -> float:
    """A width that no usual fallback font exceeds, in the units of the viewBox."""
    return len(text) * size * EM_PER_CHAR


def _check_numbers(numbers: dict[str, str]) -> None:
    # the tag of the blocks shares its row with the words "residual path"
    room = {stage.key: stage.width - text_width(stage.label, LABEL) - 30 for stage in STAGES}
    room[BLOCKS] = text_width("1,000", SMALL)
    for key, value in numbers.items():
        if key not in room:
            raise ValueError(f"numbers has no box {key!r}; there are: {', '.join(room)}")
        most = max(0, int(room[key] / text_width("0", SMALL)))
        if len(value) > most:
            raise ValueError(f"numbers[{key!r}] must have at most {most} characters to fit in its box, got {value!r}")


def _column(number: int) -> str:
    x, phase = COLUMN_X[number], PHASES[number]
    height = COLUMN_BOTTOM - COLUMN_TOP
    return _rect(x, COLUMN_TOP, COLUMN_WIDTH, height, 10, phase.pale) + _text(
        x + PAD, 57, phase.heading, HEADING, phase.strong, weight="bold"
    )


def _box(stage: Stage, lit: bool, numbers: dict[str, str]) -> str:
    phase = PHASES[stage.phase]
    fill, ink = (phase.strong, PAPER) if lit else (PAPER, INK)
    baseline = stage.top + 20
    if numbers and stage.width > 200:  # the two half boxes have no room for a number
        number = numbers.get(stage.key, "")
        words = _text(stage.left + 10, baseline, stage.label, LABEL, ink)
        if number:
            right = stage.left + stage.width - 10
            words += _text(right, baseline, number, SMALL, ink, anchor="end")
    else:
        middle = stage.left + stage.width / 2
        words = _text(middle, baseline, stage.label, LABEL, ink, anchor="middle")
    box = _rect(stage.left, stage.top, stage.width, BOX_HEIGHT, 5, fill, phase.medium)
    return _group(stage.key, lit, box + words)


def _blocks(lit: bool, count: str) -> str:
    phase, x = PHASES[2], COLUMN_X[2]
    colour, width = (phase.strong, 3) if lit else (phase.medium, 1.5)
    frame = _rect(x + 8, FRAME_TOP, COLUMN_WIDTH - 16, 198, 8, "none", colour, width)
    tag = _pill(x + 66, FRAME_TOP, f"× {count} blocks", phase.strong, lit)
    return _group(BLOCKS, lit, frame + tag)


def _residual(lit: bool) -> str:
    """The path around each part of the block, and its key on the frame."""
    phase, x = PHASES[2], COLUMN_X[2]
    colour = phase.strong if lit else phase.medium
    drawn = _rect(x + 142, FRAME_TOP - 8, 132, 16, 0, phase.pale)
    drawn += _wire([(x + 148, FRAME_TOP), (x + 166, FRAME_TOP)], colour, 3, head=False)
    drawn += _text(x + 172, FRAME_TOP + 4.3, "residual path", SMALL, phase.strong)
    rows = {stage.key: stage for stage in STAGES}
    lane = x + PAD + LANE / 2
    between = rows["feed_forward"].top - (ROW_PITCH - BOX_HEIGHT) / 2
    for start, end in ((ENTRY_Y, rows["add_norm_1"]), (between, rows["add_norm_2"])):
        y = end.top + BOX_HEIGHT / 2
        points = [(_flow_x(2), start), (lane, start), (lane, y), (end.left, y)]
        drawn += _wire(points, colour, 3)
    return _group(RESIDUAL, lit, drawn)


def _flow() -> list[str]:
    """The path down each column and on to the next."""
    wires = []
    for upper, lower in pairwise(stage for stage in STAGES if stage.key != "multi_head"):
        start, end = (_flow_x(upper.phase), upper.top + BOX_HEIGHT), (_flow_x(lower.phase), lower.top)
        around = []
        if upper.phase != lower.phase:
            gutter = COLUMN_X[lower.phase] - HALF_GUTTER
            around = [(start[0], EXIT_Y), (gutter, EXIT_Y), (gutter, ENTRY_Y), (end[0], ENTRY_Y)]
        wires.append(_wire([start, *around, end], MUTED, 1.6))
    return wires


def _flow_x(phase: int) -> float:
    """Where the path runs down a column: through the middle of its boxes."""
    last = [stage for stage in STAGES if stage.phase == phase][-1]
    return last.left + last.width / 2


def _loop(lit: bool) -> str:
    colour, width = (PHASES[3].strong, 3) if lit else (MUTED, 1.6)
    start, text = STAGES[-1], STAGES[0]
    x, y = _flow_x(3), text.top + BOX_HEIGHT / 2
    points = [(x, start.top + BOX_HEIGHT), (x, LOOP_Y), (LOOP_X, LOOP_Y), (LOOP_X, y)]
    wire = _wire([*points, (text.left, y)], colour, width)
    tag = _pill(WIDTH / 2, LOOP_Y, "the loop: append the token and repeat", PHASES[3].strong, lit)
    return _group(LOOP, lit, wire + tag)


def _training(lit: bool) -> str:
    """From what the model predicted back into all three phases."""
    colour, width = (PHASES[3].strong, 2.5) if lit else (MUTED, 1.4)
    wires = ""
    for number, x in COLUMN_X.items():
        middle = x + COLUMN_WIDTH / 2
        points = [(WIDTH / 2, TRAINING_Y), (middle, TRAINING_Y), (middle, COLUMN_TOP)]
        wires += _wire(points if number != 2 else points[1:], colour, width, dashed=True)
    tag = _pill(WIDTH / 2, TRAINING_Y, "training adjusts every weight", PHASES[3].strong, lit)
    return _group(TRAINING, lit, wires + tag)


# where the tick of a lesson goes: the upper left corner of its boxes, the left end of the tag of a line
TICKS = (
    *((stage.lesson, stage.left + 1, stage.top + 1) for stage in STAGES),
    (LESSON_OF[BLOCKS], COLUMN_X[2] + 16, FRAME_TOP),
    (LESSON_OF[TRAINING], WIDTH / 2 - 122, TRAINING_Y),
)


def _tick(x: float, y: float) -> str:
    disc = f'<circle cx="{x:g}" cy="{y:g}" r="8" fill="{INK}" stroke="{PAPER}" stroke-width="1.5"/>'
    check = f'<path d="M{x - 3.5:g} {y:g}l2.5 3 4.5 -6" fill="none" stroke="{PAPER}" stroke-width="2"/>'
    return f'<g data-marker="done">{disc}{check}</g>'


def _flag(here: str) -> str:
    """ "You are here", on the first box of the lesson or beside the line that the lesson is about."""
    whole = here in WHOLE_JOURNEY
    text = "you are here: the whole journey" if whole else "you are here"
    width, height = text_width(text, SMALL) + 10, 17
    if whole or here == LESSON_OF[LOOP]:
        x, y = WIDTH / 2 - 160 - width, LOOP_Y - height / 2
    elif here == LESSON_OF[TRAINING]:
        x, y = WIDTH / 2 - 130 - width, TRAINING_Y - height / 2
    elif here == LESSON_OF[BLOCKS]:
        x, y = COLUMN_X[2] + 20, 274
    else:
        box = next(stage for stage in STAGES if stage.lesson == here)
        x = box.left + 4 if box.flag_below else box.left + box.width - width - 4
        y = box.top + BOX_HEIGHT - 3 if box.flag_below else box.top - height + 4
    words = _text(x + width / 2, y + 12.7, text, SMALL, PAPER, "bold", "middle")
    return f'<g data-marker="here">{_rect(x, y, width, height, 8, INK, PAPER)}{words}</g>'


# ---- the pen ----------------------------------------------------------------------------------


def _group(key: str, lit: bool, content: str) -> str:
    return f'<g data-stage="{key}" data-lit="{str(lit).lower()}">{content}</g>'


def _pill(middle: float, y: float, text: str, colour: str, lit: bool) -> str:
    """A rounded label that interrupts the line it sits on."""
    width, height = text_width(text, SMALL) + 20, 22
    fill, ink = (colour, PAPER) if lit else (PAPER, INK)
    rect = _rect(middle - width / 2, y - height / 2, width, height, 11, fill, LINE)
    return rect + _text(middle, y + 4.3, text, SMALL, ink, anchor="middle")


def _rect(x, y, width, height, radius, fill, stroke="none", stroke_width=1.0) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'
        f' fill="{fill}" stroke="{stroke}" stroke-width="{stroke_width:g}"/>'
    )


def _text(x, y, text, size, colour, weight="normal", anchor="start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )


def _wire(points, colour, width, head=True, dashed=False) -> str:
    """A line through the points (only level and upright pieces), with rounded corners."""
    end = points[-1]
    tip = ""
    if head:
        before = points[-2]
        dx, dy = (_sign(end[i] - before[i]) for i in (0, 1))
        back = (end[0] - 8 * dx, end[1] - 8 * dy)
        wings = [(back[0] + s * 4.5 * dy, back[1] + s * 4.5 * dx) for s in (1, -1)]
        corners = " ".join(f"{x:g},{y:g}" for x, y in (end, *wings))
        tip = f'<polygon points="{corners}" fill="{colour}"/>'
        points = [*points[:-1], back]
    path = f"M{points[0][0]:g} {points[0][1]:g}"
    for here, corner, there in zip(points, points[1:], points[2:], strict=False):
        a, b = _toward(corner, here), _toward(corner, there)
        path += f"L{a[0]:g} {a[1]:g}Q{corner[0]:g} {corner[1]:g} {b[0]:g} {b[1]:g}"
    path += f"L{points[-1][0]:g} {points[-1][1]:g}"
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    line = f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>'
    return line + tip


def _toward(corner, other, radius=7):
    """The point at most `radius` away from the corner, in the direction of the other point."""
    return tuple(c + _sign(o - c) * min(radius, abs(o - c)) for c, o in zip(corner, other, strict=True))


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
