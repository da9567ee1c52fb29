"""Lesson 11's pictures without a browser: curves, the walk down a valley in numbers, words and drawn; the widget."""

import math
import re

import pytest
import torch

from course_lib.drawing.style import png
from course_lib.lessons.lesson_11.figures import (
    METHODS,
    START,
    STEEPNESS,
    STEPS,
    Descent,
    DescentFigure,
    curves_figure,
    descend,
    descent_figure,
    descent_in_words,
    valley_playground,
)


def test_curves_stand_beside_each_other_and_a_level():
    figure = curves_figure({"$one$": [3, 2, 1], "other": [3, 1, 0.5]}, "?", "step", "loss", ("the floor, 0.80", 0.8))
    [axes] = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[3, 2, 1], [3, 1, 0.5]]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3] and axes.lines[2].get_ydata()[0] == 0.8
    assert [text.get_text() for text in axes.texts] == ["the floor, 0.80"] and png(figure)
    [line] = curves_figure({"sometimes": {0: 3.0, 100: 2.0}}, "?", "step", "bits").axes[0].lines
    assert list(line.get_xdata()) == [0, 100] and list(line.get_ydata()) == [3, 2]
    with pytest.raises(ValueError, match="from 1 to 4 curves, got 5"):
        curves_figure({str(i): [1.0] for i in range(5)}, "?", "step", "loss")


# ---- the walk -----------------------------------------------------------------------------------


def by_pytorch(descent):
    """The losses of the same walk, by torch.optim and its scheduler, with gradients from autograd."""
    angle = math.radians(descent.turn)
    rotation = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    place = (rotation @ torch.tensor(START, dtype=torch.float64)).requires_grad_()
    rate = descent.learning_rate
    optimizer = {
        "gradient descent": lambda: torch.optim.SGD([place], rate),
        "momentum": lambda: torch.optim.SGD([place], rate, momentum=descent.beta),
        "AdamW": lambda: torch.optim.AdamW([place], rate, (descent.beta, 0.99), weight_decay=0.0),
    }[descent.method]()
    losses = []
    warm_up = round(0.05 * STEPS)
    for step in range(STEPS + 1):
        along, across = rotation.T @ place
        loss = 0.5 * (along**2 + STEEPNESS * across**2)
        losses.append(loss.item())
        if descent.scheduled and step < STEPS:
            part = (step + 1 - warm_up) / (STEPS - warm_up + 1)
            up = min(1.0, (step + 1) / warm_up)
            optimizer.param_groups[0]["lr"] = rate * (up if step < warm_up else (1 + math.cos(math.pi * part)) / 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn, scheduled", [(0, False), (30, False), (45, True)])
def test_a_walk_is_what_pytorch_walks(method, turn, scheduled):
    descent = Descent(method, 0.015, 0.8, turn, scheduled)
    places, losses = descend(descent)
    assert len(places) == len(losses) == STEPS + 1
    assert losses == pytest.approx(by_pytorch(descent), rel=1e-6)


def test_a_turn_of_the_valley_matters_to_adamw_alone():
    for method in METHODS[:2]:
        straight, turned = (descend(Descent(method, 0.01, turn=turn))[1] for turn in (0, 45))
        assert straight == pytest.approx(turned, rel=1e-6)
    straight, turned = (descend(Descent("AdamW", 0.3, turn=turn))[1][-1] for turn in (0, 45))
    assert straight < turned / 100


def test_the_sentence_says_all_of_it():
    descent = Descent("AdamW", 0.3, turn=45)
    assert descent_in_words(descent, [58.0] * 20 + [6.4] * 20 + [3.6] * 20 + [1.4]) == (
        "AdamW, learning rate 0.3, beta 0.9, in a valley turned by 45 degrees. The loss begins at 58: 6.4 after 20, "
        "3.6 after 40, 1.4 after 60 steps."
    )
    said = descent_in_words(Descent("gradient descent", 0.019, scheduled=True), [58.0] * 61)
    assert "beta" not in said and "warm-up and cosine" in said and "along the axes" in said


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(method="Adam"), "method must be one of"),
        (dict(learning_rate=0), "learning_rate must be above 0"),
        (dict(beta=1.0), "beta must be from 0 to below 1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Descent(**settings)


def test_the_walk_is_drawn_as_it_is():
    descent = Descent("AdamW", 0.3, turn=20)
    places, losses = descend(descent)
    drawn = DescentFigure("$Where$?")
    drawn.set(Descent("gradient descent", 0.5))  # leaves the picture, and stays drawable
    assert max(drawn.line.get_ydata()) == drawn.HIGHEST
    drawn.set(descent)
    assert [list(row) for row in drawn.walk.get_data()] == [list(row) for row in zip(*places, strict=True)]
    assert list(drawn.line.get_ydata()) == pytest.approx(losses)
    picture = drawn.png(descent)
    drawn.png(Descent("momentum", 0.01))
    assert drawn.png(descent) == picture == DescentFigure("$Where$?").png(descent)  # whatever was drawn before
    assert png(descent_figure(descent))


def test_the_widget_answers_each_control():
    box = valley_playground(Descent("AdamW", 0.1))
    method, rates, power_row, beta_row, turn_row, picture, words = box.children
    seen = [picture.value]
    for control, value in (
        (turn_row.children[1], 45),
        (power_row.children[1], -2),
        (beta_row.children[1], 0.5),
        (rates, True),
        (method, "momentum"),
    ):
        control.value = value
        seen.append(picture.value)
    assert len(set(seen)) == 6
    assert "momentum, learning rate 0.01, beta 0.5, warm-up and cosine, in a valley turned by 45 degrees" in words.value
    assert re.search(r'<img alt="momentum, learning rate 0.01', picture.value)
