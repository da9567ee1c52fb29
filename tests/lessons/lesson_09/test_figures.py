"""Lesson 09's figures without a browser: points and names, curves and ranks, and the model that one builds."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.drawing.style import png
from course_lib.interpretation.probes import ProbeResult
from course_lib.lessons.lesson_09.figures import (
    build,
    builder_figure,
    builder_html,
    in_words,
    model_builder,
    number_in_words,
    probe_figure,
    rank_figure,
    reached,
    read_from,
    rows_of,
    zoo_figure,
)
from course_lib.pretrained.zoo import ZOO, count_parameters

SMOLLM2 = (30, 576, 9, 3, 49152)


# ---- published models ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [(134_515_008, "135 M"), (1.03e12, "1.03 T"), (999_600, "1 M"), (999.4, "999"), (671e9, "671 B"), (12, "12")],
)
def test_large_numbers_in_words(number, words):
    assert number_in_words(number) == words


def boxes(figure):
    """What each written name covers, in pixels."""
    figure.draw_without_rendering()
    return {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}


def test_points_stand_where_they_should_and_no_two_names_meet():
    points = {name: (count_parameters(shape), shape.n_layers) for name, shape in ZOO.items()}
    mixtures = [name for name, shape in ZOO.items() if shape.experts]
    figure = zoo_figure(points, "How deep?", "parameters", "blocks", ["smollm2-135m", "gpt2"], mixtures, log="x")
    dense, mixed = figure.axes[0].lines[:2]
    assert len(dense.get_xdata()) == len(points) - len(mixtures) and len(mixed.get_xdata()) == len(mixtures)
    assert (134_515_008, 30) in set(zip(*dense.get_data(), strict=True))
    written = boxes(figure)
    assert {"smollm2-135m", "gpt2"} <= written.keys() <= points.keys() and len(written) > 15
    names = sorted(written)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            assert not written[name].overlaps(written[other]), (name, other)
    left, right = 0, figure.bbox.width
    assert all(left <= box.x0 and box.x1 <= right for box in written.values()), "a name is cut off"
    assert png(figure)


def test_a_name_without_room_stays_unwritten():
    points = {f"model-{i}": (1, 1) for i in range(60)} | {"other": (2, 2)}
    assert len(boxes(zoo_figure(points, "?", "x", "y", log=""))) <= 10


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="at least one model"):
        zoo_figure({}, "?", "x", "y")
    with pytest.raises(ValueError, match="named must be names of points, got 'b'"):
        zoo_figure({"a": (1, 1)}, "?", "x", "y", named=["b"])
    with pytest.raises(ValueError, match="mixtures must be names of points, got 'c'"):
        zoo_figure({"a": (1, 1)}, "?", "x", "y", mixtures=["c"])


# ---- what each depth knows ----------------------------------------------------------------------


def test_ranks_fall_upwards():
    figure = rank_figure({"hill": [900, 40, 1], "road": [1, 1, 2]}, "?")
    axes = figure.axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[900, 40, 1], [1, 1, 2]]
    bottom, top = axes.get_ylim()
    assert top == 1 and bottom > 900
    with pytest.raises(ValueError, match="at least 1"):
        rank_figure({"hill": [0]}, "?")
    with pytest.raises(ValueError, match="more cannot be told apart"):
        rank_figure({}, "?")


def test_where_a_curve_has_climbed_most_of_its_way():
    assert reached({0: 0.2, 3: 0.5, 9: 0.93, 12: 1.0}, 0.2) == 9  # 0.2 + 0.9 · 0.8 = 0.92
    assert reached({0: 0.2, 3: 0.5, 9: 0.91, 12: 1.0}, 0.2) == 12
    assert reached({0: 1.0, 3: 0.4}, 0.5) == 0


def result(accuracy):
    return ProbeResult(accuracy, 0.3, 0.25)


def test_what_the_words_alone_give_does_not_count():
    curve = {0: result(0.3), 4: result(0.6), 8: result(0.8)}
    assert read_from({0: result(0.3), 4: result(0.76), 8: result(0.8)}) == 4  # 0.25 + 0.9 · 0.55 = 0.745
    assert read_from(curve, 0.5) == 8 and read_from(curve, 0.1) == 8
    assert read_from(curve, 0.69) == 8 and read_from(curve, 0.71) is None  # 10 points, and fewer


def test_probe_panels_show_the_controls():
    curves = {name: {0: result(0.3), 4: result(0.95), 8: result(1.0)} for name in ("kind", "colour", "owner")}
    figure = probe_figure(curves, {"kind": 0.6}, "?")
    kind, colour, owner, empty = figure.axes
    assert [list(line.get_ydata()) for line in kind.lines[:2]] == [[0.3, 0.95, 1.0], [0.3] * 3]
    assert len(kind.lines) == len(colour.lines) + 1 == len(owner.lines) + 1 and not empty.lines
    assert [text.get_text() for text in colour.texts] == ["4"] and [text.get_text() for text in kind.texts] == ["8"]
    assert not probe_figure(curves, {"kind": 0.95}, "?").axes[0].texts, "no mark where the words alone do as well"
    assert png(figure)


# ---- a model to build ---------------------------------------------------------------------------


def test_smollm2_can_be_built():
    built = build(ZOO, *SMOLLM2)
    assert built.total == 134_515_008 and built.nearest == "smollm2-135m"
    assert built.cache_bytes == 2 * 2 * 30 * 3 * 64 and built.bytes_16_bit == 2 * built.total
    assert dict(rows_of(built))["parameters"] == "135 M (134,515,008)"
    assert in_words(built).startswith("30 blocks of width 576: 135 M parameters. token embedding 21.0%,")


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 128), st.integers(1, 32), st.integers(1, 8), st.integers(1, 8), st.integers(1, 200))
def test_doubling_the_depth_doubles_the_blocks(n_layers, d_head, n_kv_heads, share, vocab):
    sizes = (d_head * n_kv_heads * share, n_kv_heads * share, n_kv_heads, 1024 * vocab)
    one, two = build(ZOO, n_layers, *sizes), build(ZOO, 2 * n_layers, *sizes)
    for part in ("attention", "feed-forward"):
        assert two.parameters[part] == 2 * one.parameters[part]
    assert two.parameters["token embedding"] == one.parameters["token embedding"]
    assert two.cache_bytes == 2 * one.cache_bytes and sum(one.parameters.values()) == count_parameters(one.shape)
    assert one.nearest in ZOO


def test_sizes_that_do_not_fit_are_refused_with_advice():
    with pytest.raises(ValueError, match="576 cannot be shared out among 10 heads: take a multiple of 10, such as 580"):
        build(ZOO, 30, 576, 10, 5, 49152)
    with pytest.raises(ValueError, match="9 heads cannot share 2 key heads evenly: take one of 1, 3, 9"):
        build(ZOO, 30, 576, 9, 2, 49152)


def test_html_and_figure_say_the_same():
    built = build(ZOO, *SMOLLM2)
    html = builder_html(built)
    shares = [float(share) for share in re.findall(r"flex: ([\d.]+) 0 0", html)]
    assert sum(shares) == pytest.approx(1, abs=1e-4) and len(shares) == 4
    assert "134,515,008" in html and f'aria-label="{in_words(built)}' in html.replace("&lt;", "<")
    figure = builder_figure({"one": built, "two": build(ZOO, 60, *SMOLLM2[1:])}, "?")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert sum(widths) == pytest.approx(2) and png(figure)


def test_the_widget_answers_each_slider_and_says_what_is_wrong():
    box = model_builder(ZOO)
    *lines, said = box.children
    blocks, width, heads, keys, vocabulary = (line.children[1] for line in lines)
    assert "134,515,008" in said.value and "smollm2-135m" in said.value
    blocks.value = 60
    assert "240,717,888" in said.value
    heads.value = 10
    assert "⚠ A width of 576 cannot be shared out among 10 heads" in said.value
    heads.value, keys.value = 8, 1
    assert "⚠" not in said.value and "72, 1536" in said.value
    width.value, vocabulary.value = 1024, 1024
    assert "60 blocks of width 1024" in said.value
