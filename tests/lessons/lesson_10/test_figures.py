"""Lesson 10's pictures without a browser: scores that are moved, in numbers, words and drawn; and the figures."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.drawing.style import png
from course_lib.lessons.lesson_10.figures import (
    AdjustedFigure,
    Measured,
    adjust,
    adjusted_figure,
    adjusted_in_words,
    calibration_figure,
    loss_split,
    moving_scores,
    quality_figure,
    sources_figure,
    surprise_figure,
    without_the_largest_taken_off,
)
from course_lib.prediction.calibration import calibration

WORDS = ("hill", "road", "lane")
SCORES = (math.log(80), math.log(16), math.log(4))


# ---- numbers and words --------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2), st.floats(-6, 6), st.floats(-200, 200), st.floats(0, 4))
def test_moved_scores_are_softmaxed(which, raised, added, times):
    state = adjust(WORDS, SCORES, which, raised, added, times)
    scores = [times * s + added + (raised if i == which else 0) for i, s in enumerate(SCORES)]
    assert state.scores == pytest.approx(scores)
    assert state.after == pytest.approx(torch.tensor(scores, dtype=torch.float64).softmax(0).tolist())
    assert state.before == pytest.approx((0.8, 0.16, 0.04))


def test_what_happens_without_taking_the_largest_off():
    said = {added: without_the_largest_taken_off(adjust(WORDS, SCORES, added=added)) for added in (0, 100, -200)}
    assert [text.split(": ")[1] for text in said.values()] == [
        "the same.",
        "not a number, for ∞ / ∞.",
        "not a number, for 0 / 0.",
    ]


def test_the_sentence_says_all_of_it():
    assert adjusted_in_words(adjust(WORDS, SCORES, which=2, raised=math.log(4))) == (
        "Scores and probabilities: hill 4.38: 80.0% → 71.4%, road 2.77: 16.0% → 14.3%, lane 2.77: 4.0% → 14.3%. "
        "Without taking the largest score off first: the same."
    )


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="which must be from 0 to 2"):
        adjust(WORDS, SCORES, which=3)
    with pytest.raises(ValueError, match="same length"):
        adjust(WORDS, SCORES[:2])


# ---- figures ------------------------------------------------------------------------------------


def test_the_scores_are_drawn_as_they_are():
    drawn = AdjustedFigure(WORDS, "$Who$?")
    drawn.set(adjust(WORDS, SCORES, added=100, times=3))
    state = adjust(WORDS, SCORES, which=1, raised=2)
    drawn.set(state)  # nothing of the state before is left
    assert list(drawn.dots.get_xdata()) == list(state.scores)
    assert [bar.get_width() for bar in drawn.bars] == list(state.after)
    assert [bar.get_width() for bar in drawn.pale] == list(state.before)
    assert [note.get_text() for note in drawn.percents][1:] == ["16.0% → 58.5%", "4.0% → 2.0%"]
    assert drawn.below.get_text().endswith("the same.")
    picture = drawn.png(state)
    drawn.png(adjust(WORDS, SCORES, times=0))  # all scores alike: the axis has a width all the same
    assert drawn.png(state) == picture == AdjustedFigure(WORDS, "$Who$?").png(state)
    assert png(adjusted_figure(state, "Who pays?"))


def test_sources_stand_side_by_side_with_what_is_left():
    figure = sources_figure({"one": {"hill": 0.72, "road": 0.28}, "other": {"hill": 0.25, "road": 0.25}}, "?")
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    assert widths == [pytest.approx([0.72, 0.28, 0]), pytest.approx([0.25, 0.25, 0.5])]
    assert [t.get_text() for t in figure.axes[0].texts] == ["72.0%", "28.0%", "0.0%"] and png(figure)
    for sources, message in (
        ({}, "the same tokens"),
        ({"a": {"x": 1.0}, "b": {"y": 1.0}}, "the same tokens"),
        ({"a": {"x": 0.7, "y": 0.7}}, "at most 1"),
    ):
        with pytest.raises(ValueError, match=message):
            sources_figure(sources, "?")


def test_surprise_and_loss_show_their_numbers():
    [axes] = surprise_figure({"hill": 0.72}, "?").axes
    assert [t.get_text() for t in axes.texts] == ["hill: 0.33"]
    figure = loss_split({"all alike": 4.3944, "ours": 0.9}, 0.8106, "?")
    [axes] = figure.axes
    assert [t.get_text() for t in axes.texts] == ["4.394 = 0.811 + 3.583", "0.900 = 0.811 + 0.089"] and png(figure)
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.8106, 0.8106, 3.5838, 0.0894])
    with pytest.raises(ValueError, match="at least the floor"):
        loss_split({"too good": 0.5}, 0.81, "?")


def test_calibration_is_a_dot_for_each_bin_with_enough_in_it():
    said = torch.tensor([0.15] * 20 + [0.75] * 40 + [0.95] * 5)
    one = calibration(said, torch.arange(65) % 4 > 0)
    figure = calibration_figure({"one": one, "again": one}, "?", fewest=10)
    dots = figure.axes[0].collections[0].get_offsets()
    assert dots.tolist() == [pytest.approx([0.15, 0.75]), pytest.approx([0.75, 0.75])] and png(figure)
    [legend] = figure.legends
    _, few, many = legend.get_lines()
    assert few.get_markersize() < many.get_markersize()
    assert [text.get_text() for text in legend.get_texts()][1:] == ["few in the bin", "many in the bin"]


def test_quality_has_a_panel_for_each_measure():
    line = [Measured("25 steps", 1.9, (0.1, 220)), Measured("600 steps", 0.1, (0.8, 190))]
    figure = quality_figure({"stages": line}, {"allowed": None, "different": 180}, "?", shown=["25 steps"])
    assert [list(axes.lines[0].get_ydata()) for axes in figure.axes] == [[0.1, 0.8], [220, 190]]
    assert [[t.get_text() for t in axes.texts] for axes in figure.axes] == [["25 steps"], ["the truth", "25 steps"]]
    assert png(figure)


def test_a_name_stands_beside_its_marker_and_on_nothing_else():
    stages = [Measured(f"{n} steps", 2 / n, (1 - 5 / n, 200 + n)) for n in (6, 9, 14, 22)]
    heats = [Measured(f"t = {t}", 0.09 * t, (1 - 0.4 * t**0.5, 222 + 20 * t)) for t in (1, 1.5, 2)]
    named = [m.name for m in (*stages, *heats)]
    figure = quality_figure({"stages": stages, "heats": heats}, {"allowed": None, "different": 240}, "?", shown=named)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = {note.get_text(): note.get_window_extent() for note in axes.texts}
        paths = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
        assert not any(path.intersects_bbox(box, filled=False) for path in paths for box in boxes.values())
        assert all(box.count_overlaps(boxes.values()) == 1 for box in boxes.values())  # itself alone


# ---- the widget ---------------------------------------------------------------------------------


def test_the_widget_answers_each_control():
    which, raise_row, add_row, times_row, picture, words = moving_scores(WORDS, SCORES).children
    seen = [picture.value]

    def now():
        seen.append(picture.value)
        return words.value

    assert "hill 4.38: 80.0%, " in words.value
    raise_row.children[1].value = 2
    assert "hill 6.38" in now()
    which.value = 2
    assert "lane 3.39" in now() and "hill 4.38" in words.value
    add_row.children[1].value = 100
    assert "∞ / ∞" in now()
    times_row.children[1].value = 0
    assert "hill 100.00" in now()
    assert len(set(seen)) == 5 and re.search(r'<img alt="Scores and probabilities: hill', picture.value)
