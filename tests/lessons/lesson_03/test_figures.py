"""Lesson 03's pictures: what the clocks say, and that figures hold what they were given."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.text import Text

from course_lib.drawing.style import png
from course_lib.lessons.lesson_03.figures import (
    LiveClocks,
    clocks,
    clocks_figure,
    clocks_in_words,
    codes,
    curves,
    turning_pairs,
)

places = st.integers(0, 80)


@given(places, places, places)
def test_the_score_depends_on_distance_alone(query, key, step):
    here, there = clocks(query, key), clocks(query + step, key + step)
    assert here.distance == there.distance == query - key
    assert here.score == pytest.approx(there.score, abs=1e-4)
    assert here.score == pytest.approx(sum(math.cos((query - key) / 10**pair) for pair in range(4)), abs=1e-4)


def test_hands_point_the_same_way_at_distance_0():
    assert clocks(7, 7).score == pytest.approx(4)
    assert clocks_in_words(clocks(0, 0)).endswith(
        "stand at 0° and 0°, 0° and 0°, 0° and 0°, 0° and 0°. Score 4.00 of at most 4."
    )
    assert "Query at position 23, key at 20, distance 3." in clocks_in_words(clocks(23, 20))


def test_a_position_before_the_first_is_refused():
    with pytest.raises(ValueError, match="positions count from 0, got query -1 and key 2"):
        clocks(-1, 2)


def test_figures_are_the_same_each_time_and_show_their_state():
    one, other = [clocks(3, 0)], [clocks(4, 0)]
    assert png(clocks_figure(one, "How far?")) == png(clocks_figure(one, "How far?"))
    assert png(clocks_figure(one, "How far?")) != png(clocks_figure(other, "How far?"))
    texts = " ".join(text.get_text() for text in clocks_figure(one + other, "How far?").findobj(Text))
    assert "distance 3" in texts and "distance 4" in texts and "pair 3\n0.001 radian a step" in texts
    with pytest.raises(ValueError, match="at least one"):
        clocks_figure([], "How far?")


def test_curves_hold_their_numbers_and_names():
    x = torch.arange(10)
    figure = curves({"up": (x, x / 10), "down": (x, 1 - x / 10)}, "Which?", "x", "y", percent=True, trained=5)
    up, down = figure.axes[0].lines
    assert up.get_ydata().tolist() == pytest.approx((x / 10).tolist())
    assert any("longer than in training" in text.get_text() for text in figure.axes[0].texts)
    labels = {label.findobj(Text)[0].get_text(): label for label in figure.findobj(AnnotationBbox)}
    for name, line in (("up", up), ("down", down)):  # each name stands beside a piece of its line
        [piece] = labels[name].findobj(Line2D)
        looks = [(one.get_color(), one.get_linestyle(), one.get_marker()) for one in (piece, line)]
        assert looks[0] == looks[1]
    assert up.get_linestyle() != down.get_linestyle()
    with pytest.raises(ValueError, match="1 to 5, got 6"):
        curves({str(i): (x, x) for i in range(6)}, "Which?", "x", "y")


def test_amounts_are_shown_from_0_up_and_penalties_from_0_down():
    x = torch.arange(10)
    assert curves({"far": (x, x + 20)}, "Which?", "x", "y").axes[0].get_ylim()[0] == 0
    assert curves({"below": (x, -x)}, "Which?", "x", "y").axes[0].get_ylim()[0] < -9


def test_live_clocks_show_the_state_and_nothing_of_the_one_before():
    live = LiveClocks("How far?")
    first = live.png(clocks(23, 20))
    assert live.png(clocks(60, 20)) != first and live.png(clocks(23, 20)) == first
    assert LiveClocks("How far?").png(clocks(23, 20)) == first


def test_codes_show_both_tables():
    figure = codes(torch.eye(4), torch.zeros(4, 6))
    tables = [axes.images[0].get_array().shape for axes in figure.axes if axes.images]
    assert (4, 4) in tables and (4, 6) in tables


def test_the_widget_is_a_view_on_the_state():
    widget = turning_pairs(key_position=20, distance=3)
    both, alone, picture, words = widget.children
    assert words.value == clocks_in_words(clocks(23, 20)) and clocks_in_words(clocks(23, 20)) in picture.value
    alone.children[1].value = 5
    assert words.value == clocks_in_words(clocks(25, 20)) and 'alt="Query at position 25' in picture.value
    score = words.value.split("Score")[1]
    both.children[1].value = 30
    assert words.value == clocks_in_words(clocks(35, 30)) and words.value.split("Score")[1] == score
