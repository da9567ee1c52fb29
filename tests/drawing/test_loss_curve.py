"""The curve of a run: what it shows, and that it is drawn anew while the run goes on."""

import base64
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.drawing import loss_curve as module
from course_lib.drawing.loss_curve import LiveCurve, loss_curve, smoothed
from course_lib.drawing.style import png


@given(st.lists(st.floats(0, 10), max_size=30), st.integers(1, 40))
def test_smoothed_is_the_mean_of_the_last_few_and_of_fewer_early_on(losses, over):
    parts = [losses[: i + 1][-min(over, 1 + (i + 1) // 5) :] for i in range(len(losses))]
    expected = [sum(part) / len(part) for part in parts]
    assert smoothed(losses, over) == pytest.approx(expected, abs=1e-9)


def test_the_curve_shows_its_numbers():
    losses = [4 - step / 50 for step in range(100)]
    figure = loss_curve(losses, "?", floor=0.79, validation=[(50, 3.1), (100, 2.2)], steps=200)
    [axes] = figure.axes
    each, smooth, held_out, floor = axes.lines
    assert list(each.get_ydata()) == losses and list(each.get_xdata()) == list(range(1, 101))
    assert list(smooth.get_ydata()) == smoothed(losses, 5)
    assert list(held_out.get_xdata()) == [50, 100] and list(held_out.get_ydata()) == [3.1, 2.2]
    assert set(floor.get_ydata()) == {0.79}
    assert [text.get_text() for text in axes.texts] == ["2.06", "held-out text", "floor 0.79"]
    assert axes.get_xlim()[1] > 200 and axes.get_ylim()[0] == 0
    assert png(figure) and png(loss_curve([])) and png(loss_curve([2.0]))


def test_a_live_curve_is_drawn_now_and_then_and_at_the_end(monkeypatch):
    clock, shown = iter([0, 0, 1, 2.5, 2.5, 3, 3, 3]), []
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))

    def display(output, **settings):
        shown.append(output)
        assert settings["raw"] and settings["metadata"]["image/png"]["alt"] == output["text/plain"]
        return SimpleNamespace(update=lambda output, **settings: shown.append(output))

    monkeypatch.setattr("IPython.display.display", display)
    curve = LiveCurve(floor=1.0)
    for losses in ([4.0], [4.0, 3.0], [4.0, 3.0, 2.0], [4.0, 3.0, 2.0, 1.5]):
        curve(SimpleNamespace(losses=losses, step=len(losses), steps=8, until=4, validation_losses=[]))
    assert [output["text/plain"] for output in shown] == [
        "The loss after 1 of 8 steps: from 4.00 to 4.00 nats per token.",
        "The loss after 3 of 8 steps: from 4.00 to 2.00 nats per token.",  # 2.5 s after the one before
        "The loss after 4 of 8 steps: from 4.00 to 1.50 nats per token.",  # the last of this run, however soon
    ]
    assert all(base64.b64decode(output["image/png"]).startswith(b"\x89PNG") for output in shown)
