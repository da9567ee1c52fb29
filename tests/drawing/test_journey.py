"""The course map: well-formed, self-contained, every word inside its box, the right boxes lit."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from base64 import b64decode
from itertools import pairwise

import pytest

from course_lib.drawing import journey, style
from course_lib.drawing.journey import STAGES, journey_map, on_the_map, text_width
from course_lib.lessons import course

KEYS = [key for key in course() if on_the_map(key)]
SVG = "{http://www.w3.org/2000/svg}"
LIT = {
    "01": {"text", "tokens"},
    "02": {"token_embeddings"},
    "03": {"positions"},
    "04": {"input_embedding"},
    "05": {"self_attention"},
    "06": {"multi_head"},
    "07": {"add_norm_1", "add_norm_2", "residual"},
    "08": {"feed_forward"},
    "09": {"blocks"},
    "10": {"logits", "probabilities"},
    "11": {"training"},
    "12": {"sampling"},
    "13": {"output_token", "loop"},
}
NUMBERS = {
    "text": "18 bytes",
    "tokens": "5 ids",
    "token_embeddings": "5 × 576",
    "input_embedding": "5 × 576",
    "feed_forward": "1,536",
    "logits": "49,152",
    "probabilities": "49,152",
    "sampling": "greedy",
    "blocks": "30",
}
EVERY_MAP = [(lesson, None) for lesson in KEYS] + [("00", NUMBERS)]


def drawn(here, numbers=None) -> ET.Element:
    return ET.fromstring(journey_map(here, numbers).svg)


def groups(root: ET.Element) -> dict[str, ET.Element]:
    return {g.get("data-stage"): g for g in root.iter(SVG + "g") if g.get("data-stage")}


def extent(text: ET.Element) -> tuple[float, float]:
    """Where a text starts and ends, for a generously wide font."""
    x, width = float(text.get("x")), text_width(text.text, float(text.get("font-size")))
    start = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
    return start, start + width


def box(rect: ET.Element) -> tuple[float, float, float, float]:
    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


@pytest.mark.parametrize("here", KEYS)
def test_lights_the_boxes_of_its_lesson(here):
    lit = {key for key, g in groups(drawn(here)).items() if g.get("data-lit") == "true"}
    everything = set().union(*LIT.values())
    assert lit == (LIT[here] if here in LIT else everything - {"training"})


@pytest.mark.parametrize("here", KEYS)
def test_lit_boxes_are_strong_with_white_text_and_the_others_white_with_ink(here):
    for stage in STAGES:
        group = groups(drawn(here))[stage.key]
        lit = group.get("data-lit") == "true"
        fill, ink = (style.PHASES[stage.phase].strong, style.PAPER) if lit else (style.PAPER, style.INK)
        assert group.find(SVG + "rect").get("fill") == fill
        assert {text.get("fill") for text in group.iter(SVG + "text")} == {ink}


@pytest.mark.parametrize(("here", "numbers"), EVERY_MAP)
def test_every_text_fits(here, numbers):
    root = drawn(here, numbers)
    for stage in STAGES:
        group = groups(root)[stage.key]
        left, _, right, _ = box(group.find(SVG + "rect"))
        spans = sorted(extent(text) for text in group.iter(SVG + "text"))
        assert left + 4 <= spans[0][0] and spans[-1][1] <= right - 4, stage.key
        for (_, end), (start, _) in pairwise(spans):
            assert end + 4 <= start, stage.key
    for text in root.iter(SVG + "text"):
        start, end = extent(text)
        assert start >= 8 and end <= journey.WIDTH - 8, text.text
    for number, x in journey.COLUMN_X.items():
        (heading,) = (t for t in root.iter(SVG + "text") if t.text == style.PHASES[number].heading)
        assert extent(heading)[1] <= x + journey.COLUMN_WIDTH


@pytest.mark.parametrize("here", KEYS)
def test_one_marker_near_what_is_lit_that_covers_no_words(here):
    root = drawn(here)
    (marker,) = (g for g in root.iter(SVG + "g") if g.get("data-marker") == "here")
    left, top, right, bottom = box(marker.find(SVG + "rect"))
    own = marker.find(SVG + "text")
    assert own.text.startswith("you are here")
    assert left <= extent(own)[0] and extent(own)[1] <= right
    assert left > 0 and right < journey.WIDTH and top > 0 and bottom < journey.HEIGHT
    for text in root.iter(SVG + "text"):
        if text is own:
            continue
        start, end = extent(text)
        baseline, size = float(text.get("y")), float(text.get("font-size"))
        apart = end <= left or start >= right or baseline + 0.22 * size <= top or baseline - 0.75 * size >= bottom
        assert apart, text.text


def test_boxes_of_a_column_do_not_overlap_and_lie_inside_it():
    for stage in STAGES:
        x = journey.COLUMN_X[stage.phase]
        assert x < stage.left and stage.left + stage.width < x + journey.COLUMN_WIDTH
        assert stage.top > journey.COLUMN_TOP and stage.top + journey.BOX_HEIGHT < journey.COLUMN_BOTTOM
        for other in STAGES:
            if other is not stage and (other.phase, other.row) == (stage.phase, stage.row):
                assert other.left + other.width <= stage.left or stage.left + stage.width <= other.left


@pytest.mark.parametrize(("here", "numbers"), EVERY_MAP)
def test_accessible_and_self_contained(here, numbers):
    svg = journey_map(here, numbers).svg
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert f"lesson {here}, {course()[here].name}" in root.get("aria-label")
    assert root.find(SVG + "title").text == root.get("aria-label")
    assert "repeated N times" in root.find(SVG + "desc").text
    assert root.get("viewBox") == f"0 0 {journey.WIDTH} {journey.HEIGHT}" and journey.HEIGHT < 330
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "desc", "g", "rect", "text", "path", "polygon")
    }
    references = svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for forbidden in ("http", "href", "url(", "@import", "<script", " id="):
        assert forbidden not in references
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_a_card_of_its_own_lies_under_everything():
    card = next(drawn("05").iter(SVG + "rect"))
    assert card.get("fill") == style.PAPER and float(card.get("rx")) > 0
    assert float(card.get("width")) == journey.WIDTH - 1


def test_what_a_notebook_gets():
    shown = journey_map("05")
    data = shown._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain"} and data["text/plain"] == shown.alt
    image = ET.fromstring(data["text/html"].replace(">", "/>"))
    assert image.tag == "img" and image.get("alt") == shown.alt
    kind, source = image.get("src").split(",")
    assert kind == "data:image/svg+xml;base64" and b64decode(source).decode() == shown.svg
    assert shown.alt.startswith("Course map, you are here: lesson 05, self-attention. ")


def test_the_same_text_every_time_and_another_for_every_lesson():
    code = f"from course_lib.drawing.journey import *; print(*(journey_map(key).svg for key in {KEYS}), end='')"
    run = {"PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=run, check=True)
    maps = [journey_map(lesson).svg for lesson in KEYS]
    assert other.stdout == " ".join(maps)
    assert len(set(maps)) == len(KEYS) == 15


def test_numbers_stand_in_their_boxes():
    boxes = groups(drawn("00", NUMBERS))
    for key, number in NUMBERS.items():
        texts = [text.text for text in boxes[key].iter(SVG + "text")]
        assert ("× 30 blocks" if key == "blocks" else number) in texts


@pytest.mark.parametrize("here", ["15", "5", "", 5, None])
def test_unknown_lesson(here):
    with pytest.raises(ValueError, match=f"here must be a lesson from '00' to '14', got {here!r}"):
        journey_map(here)


def test_numbers_that_fit_nowhere():
    with pytest.raises(ValueError, match="numbers has no box 'logit'; there are: text, tokens"):
        journey_map("00", {"logit": "49,152"})
    with pytest.raises(ValueError, match=r"numbers\['logits'\] must have at most \d+ characters to fit"):
        journey_map("00", {"logits": "49,152 numbers, one for each token"})


def test_a_tick_on_what_is_done():
    def ticks(*done):
        return journey_map("05", done=done).svg.count('data-marker="done"')

    assert [ticks(), ticks("01"), ticks("07"), ticks("09"), ticks("11"), ticks("00")] == [0, 2, 2, 1, 1, 0]
    assert "Done: lessons 01, 02." in journey_map("05", done=("02", "01")).alt
    for x, y in ((x, y) for _, x, y in journey.TICKS):
        assert 8 <= x <= journey.WIDTH - 8 and 8 <= y <= journey.HEIGHT - 8
