"""The test that all text can be read can fail, and no widget is left out of it."""

import ast
import re
from pathlib import Path

import pytest
from drawing.themes import faint

import course_lib
from course_lib.drawing.journey import journey_map, on_the_map
from course_lib.drawing.style import PHASES, on_ground
from course_lib.lessons import course


def sources(top, pattern):
    """The text of each file in drawing/ and lessons/, of the library or of its tests."""
    folders = (Path(top) / "drawing", Path(top) / "lessons")
    return [path.read_text("utf-8") for folder in folders for path in sorted(folder.rglob(pattern))]


@pytest.mark.parametrize(
    "html",
    [
        '<p style="color: #1f2933">dark on dark</p>',
        '<div style="color: #1f2933"><p>as its parent</p></div>',
        '<b style="background: #ffffff">the theme\'s white on white</b>',
        '<b style="background: #fff; color: #000"><i style="color: #999">grey</i></b>',
        '<b style="background-color: #fff; color: #0008">half seen</b>',
        '<div style="opacity: 0.5"><b style="background: #0b7a5a; color: white">faded</b></div>',
        '<b style="background: linear-gradient(#ffffff, #888888); color: #5a6672">on a gradient</b>',
        '<svg><rect width="9" height="9" fill="#fff"/><text x="10" y="8" font-size="9">beside its ground</text></svg>',
    ],
)
def test_what_is_faint_in_one_theme_is_found(html):
    assert faint(html)


@pytest.mark.parametrize(
    "html", ["<style>b { color: red }</style>", '<b class="x">x</b>', '<b style="color: var(--x)">x</b>']
)
def test_colors_that_cannot_be_followed_are_refused(html):
    with pytest.raises((AssertionError, ValueError)):
        faint(html)


def test_text_on_a_ground_of_its_own_reads():
    for phase in PHASES.values():
        for ground in (phase.strong, phase.medium, phase.pale):
            assert faint(f'<b style="{on_ground(ground)}">x</b>, and in the theme\'s color') == []


@pytest.mark.parametrize("here", [*filter(on_the_map, course())])
def test_every_word_of_the_map_reads(here):
    assert faint(journey_map(here)._repr_mimebundle_()["text/html"]) == []


def test_every_widget_is_driven_by_a_test_and_has_its_sliders_from_one_place():
    tests = "".join(sources(Path(__file__).parents[1], "test_*.py"))
    makers, sliders = [], []
    for source in sources(Path(course_lib.__file__).parent, "*.py"):
        for node in ast.parse(source).body:
            code = ast.unparse(node)
            if isinstance(node, ast.FunctionDef) and "ipywidgets.VBox(" in code:
                makers.append(node.name)
            if "Slider(" in code:
                sliders.append(getattr(node, "name", code))
    assert len(makers) > 10 and sliders == ["labelled_slider"]
    undriven = [name for name in makers if not re.search(rf"\b{name}\(", tests)]
    assert undriven == ["playground"]  # what the two sampling widgets share
