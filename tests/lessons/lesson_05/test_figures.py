"""Lesson 05's pictures without a browser: what a query takes, in numbers, words and drawn; and the widget's answers."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.drawing.style import png
from course_lib.lessons.lesson_05.figures import (
    GazeFigure,
    Scene,
    count_figure,
    gaze,
    gaze_figure,
    gaze_in_words,
    row_figure,
    share_curves,
    turning_query,
)

SCENE = Scene(
    ("The", "dog", "ran", "up", "the", "hill"),
    ((0, -1), (2, 0), (1, 1), (0, 2), (-1, -1), (-1, 1)),
    (6, 2, 4, 8, 5, 11),
)


# ---- numbers and words --------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 5), st.floats(-180, 180), st.floats(0, 8))
def test_a_gaze_is_softmax_of_the_allowed_scores(asking, direction, length):
    state = gaze(SCENE, asking, direction, length)
    x, y = length * math.cos(math.radians(direction)), length * math.sin(math.radians(direction))
    scores = [(x * a + y * b) / math.sqrt(2) for a, b in SCENE.keys[: asking + 1]]
    weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
    assert state.scores == pytest.approx(scores, abs=1e-9)
    assert state.weights[: asking + 1] == pytest.approx(weights.tolist(), abs=1e-9)
    assert state.weights[asking + 1 :] == (0.0,) * (5 - asking)
    assert state.mix == pytest.approx(sum(w * v for w, v in zip(weights.tolist(), SCENE.values, strict=False)))


def test_a_query_of_length_0_takes_the_average_of_its_past():
    assert [gaze(SCENE, i, 70, 0).mix for i in range(6)] == pytest.approx([6, 4, 4, 5, 5, 6])


def test_the_sentence_says_all_of_it():
    assert gaze_in_words(gaze(SCENE, 5, 0, 1)) == (
        "“hill” asks with the query (1.00, 0.00), and takes: The 11%, dog 45%, ran 22%, up 11%, the 5%, hill 5%. "
        "The mix of their values is 4.19."
    )
    said = gaze_in_words(gaze(SCENE, 2, -180, 0.5))
    assert "3 later tokens cannot be seen." in said and "up" not in said and "-0.00" not in said
    assert "1 later token cannot be seen." in gaze_in_words(gaze(SCENE, 4, 0, 1))


@pytest.mark.parametrize(
    ("asking", "length", "message"), [(6, 1, "asking must be from 0 to 5"), (-1, 1, "got -1"), (0, -1, "0 or more")]
)
def test_what_makes_no_sense_is_refused(asking, length, message):
    with pytest.raises(ValueError, match=message):
        gaze(SCENE, asking, 0, length)


def test_a_scene_needs_a_key_and_a_value_for_each_token():
    with pytest.raises(ValueError, match="same length"):
        Scene(("a", "b"), ((0, 1),), (1, 2))


# ---- figures ------------------------------------------------------------------------------------


def test_the_gaze_is_drawn_as_it_is():
    state = gaze(SCENE, 2, 130, 3)
    drawn = GazeFigure(SCENE, "$Who$?")
    drawn.set(gaze(SCENE, 5, 0, 8))
    drawn.set(state)  # nothing of the state before is left
    assert [bar.get_width() for bar in drawn.bars] == list(state.weights)
    assert [text.get_text() for text in drawn.percents[2:]] == [f"{100 * state.weights[2]:.0f}%", *["later"] * 3]
    assert [patch.get_visible() for patch in drawn.ground] == [False] * 3 + [True] * 3
    assert (drawn.tip.get_xdata()[0], drawn.tip.get_ydata()[0]) == pytest.approx(state.query)
    assert "(length 3)" in drawn.legend.get_text()
    assert drawn.mix.get_text() == f"“ran” takes a mix of {state.mix:.2f}"
    picture = drawn.png(state)
    drawn.png(gaze(SCENE, 5, 0, 8))
    assert "drawn shorter" in drawn.legend.get_text() and drawn.tip.get_xdata()[0] == pytest.approx(3)
    assert drawn.png(state) == picture == GazeFigure(SCENE, "$Who$?").png(state)  # whatever was drawn before
    assert png(gaze_figure(state))


def test_of_two_tokens_with_one_key_the_one_that_can_be_seen_is_shown():
    scene = Scene(("The", "dog", "the"), ((0, 1), (1, 0), (0, 1)), (1, 2, 3))
    drawn = GazeFigure(scene, "?")
    drawn.set(gaze(scene, 1, 0, 1))
    assert [key.get_visible() for key in drawn.keys] == [True, True, False]
    drawn.set(gaze(scene, 2, 0, 1))
    assert all(key.get_visible() for key in drawn.keys)


def test_rows_share_their_tokens():
    figure = row_figure({"before": [0.5, 0.5], "after": torch.tensor([0.1, 0.9])}, [" a", "$b$"], "Where?")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["before", "after"]
    assert [bar.get_height() for bar in figure.axes[1].patches] == pytest.approx([0.1, 0.9])
    assert [t.get_text() for t in figure.axes[1].texts] == ["90%"] and png(figure)
    with pytest.raises(ValueError, match="at least one row"):
        row_figure({}, ["a"], "?")
    with pytest.raises(ValueError, match="same length"):
        row_figure({"one": [1.0]}, ["a", "b"], "?")


def test_curves_and_counts_show_their_numbers():
    figure = share_curves({"as is": {4: 0.4, 64: 0.8}, "divided": {4: 0.2, 64: 0.25}}, "?", "d", "share", named=(64,))
    [axes] = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.4, 0.8], [0.2, 0.25]]
    assert [t.get_text() for t in axes.texts] == ["80%", "25%"]
    figure = count_figure([1, 3, 3, 9], 128, "?", "tokens")
    [axes] = figure.axes
    assert sum(bar.get_height() for bar in axes.patches) == 4
    assert [t.get_text() for t in axes.texts] == ["half of the heads: 3 or fewer"] and png(figure)


# ---- the widget ---------------------------------------------------------------------------------


def test_the_widget_answers_each_control():
    box = turning_query(SCENE, direction=0, length=1)
    asking, turn_row, stretch_row, picture, words = box.children
    pictures = [picture.value]

    def now():
        pictures.append(picture.value)
        return words.value

    assert "“hill” asks with the query (1.00, 0.00)" in words.value
    turn_row.children[1].value = 90
    assert "up 41%" in now()
    stretch_row.children[1].value = 0
    assert "mix of their values is 6.00" in now()
    asking.value = 2
    assert "“ran” asks" in now() and "mix of their values is 4.00" in words.value
    assert len(set(pictures)) == 4
    assert re.search(r'<img alt="“ran” asks with the query', picture.value)
