"""The chain of layers and its pictures without a browser: what arrives, what is said, what is drawn."""

import pytest
import torch

from course_lib.drawing.style import png
from course_lib.lessons.lesson_07.figures import (
    NORMS,
    Chain,
    LiveGradients,
    arriving,
    chain_playground,
    gradient_figure,
    in_words,
    power,
    reading_figure,
    stream_figure,
    summary,
)

# ---- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("residual", "norm", "low", "high"),
    [
        (False, "none", 1e-13, 1e-8),
        (False, "before each layer", 0.05, 20),
        (True, "none", 1e8, 1e12),
        (True, "before each layer", 0.5, 20),
        (True, "after each sum", 1e-7, 1e-3),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_arrives_through_64_layers(residual, norm, low, high, seed):
    lengths = arriving(Chain(64, 1.0, residual, norm), seed)
    assert len(lengths) == 65 and lengths[-1] == 1 and low < lengths[0] < high


def test_without_a_norm_the_scale_counts_and_with_one_it_does_not():
    """ReLU is homogeneous: twice the weights is 2^depth times the gradient, exactly."""
    once, twice = (arriving(Chain(8, scale, False, "none"))[0] for scale in (0.5, 1.0))
    assert twice / once == pytest.approx(2**8)
    once, twice = (arriving(Chain(8, scale, False, "before each layer")) for scale in (0.5, 1.0))
    assert [2 * length for length in once[1:-1]] == pytest.approx([2 * length for length in twice[1:-1]], rel=1e-3)


def test_gradients_are_there_where_a_lesson_switched_them_off():
    with torch.no_grad():
        assert arriving(Chain(2, 1.0, True, "none"))[0] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((4, 1.0, True, "both"), "norm must be one of 'none', 'before each layer', 'after each sum'"),
        ((0, 1.0, True, "none"), "depth of 1 or more"),
        ((4, 0.0, True, "none"), "scale above 0"),
    ],
)
def test_what_makes_no_chain_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Chain(*settings)


# ---- words ----------------------------------------------------------------------------------------


def test_numbers_by_their_order():
    shown = {0: "0", 1: "1", 0.0521: "0.052", 12.3: "12", 692: "692", 20_400: "20,000", 4.2e9: "4e9", 3e-30: "3e-30"}
    shown |= {2e-5: "2e-5", float("inf"): "∞"}
    assert {value: power(value) for value in shown} == shown


def test_in_words():
    chain = Chain(4, 0.5, False, "none")
    lengths = [1e-8, 1e-6, 1e-4, 1e-2, 1.0]
    assert summary(chain, lengths) == "Vanished: of a gradient of length 1 at the end, 1e-8 is left at layer 1."
    assert summary(chain, [1e9, 1.0]).startswith("Exploded: ") and summary(chain, [0.5, 1.0]).startswith("Arrived: ")
    assert in_words(chain, lengths) == (
        "4 layers without residual connections, no norm, weight scale 0.50. The gradient's length: 1e-8 at layer 1, "
        "1e-6 at layer 2, 1e-4 at layer 3, 0.01 at layer 4, 1 behind the last."
    )


# ---- figures --------------------------------------------------------------------------------------


def test_what_leaves_the_picture_stands_at_its_edge():
    lines = {"plain": [1e-61, 1e-30, 1.0], "residual": [1e20, 1e9, 1.0], "norm": [0.5, 0.7, 1.0]}
    figure = gradient_figure({"small": lines, "large": lines}, "$How$?")
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["plain ↓ 1e-61\nat layer 1", "residual ↑ 1e20\nat layer 1"]
        assert list(axes.lines[0].get_ydata()) == lines["plain"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines) and png(figure)


def test_the_other_figures_show_their_numbers():
    figure = stream_figure([3, 39, 900], [2, 50], [38, 500], [2, 700, 22_000], "?")
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert drawn["what attention writes"] == [2, 50] and drawn["the first token's row"] == [2, 700, 22_000]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [1, 2]  # a block writes; the embedding comes before
    figure = reading_figure({"untouched": {0: 1.0, 2: 0.9}, "cut": {2: 0.1, 0: 1.0}}, 0.05, "?")
    assert list(figure.axes[0].lines[1].get_ydata()) == [1.0, 0.1]
    assert "guessing: 5%" in [text.get_text() for text in figure.axes[0].texts] and png(figure)


def test_the_live_picture_is_a_function_of_the_lengths():
    live = LiveGradients()
    one, other = live.png([1e-40, 1e-20, 1.0]), live.png([1e20, 1e3, 1.0])
    assert one != other and live.png([1e-40, 1e-20, 1.0]) == one
    assert live.note.get_text() == "layer 1: 1e-40"


# ---- the widget -----------------------------------------------------------------------------------


def test_the_widget_answers_each_control():
    box = chain_playground(depth=16)
    layers, scale, residual, norm, said, picture = box.children
    seen = [(said.value, picture.value)]

    def changed():
        seen.append((said.value, picture.value))
        return seen[-1][1] != seen[-2][1]

    assert "Arrived" in said.value or "Vanished" in said.value
    layers.children[1].value = 64
    assert changed() and "Vanished" in said.value and 'alt="64 layers without' in picture.value
    scale.children[1].value = 1.4
    assert changed() and "Arrived" in said.value
    residual.value = True
    assert changed() and "Exploded" in said.value
    norm.value = NORMS[1]
    assert changed() and "Arrived" in said.value and "a norm before each layer" in picture.value
