"""Maps and bars of neighbours show what they were given, say it in words, and answer what cannot be shown."""

import re

import ipywidgets
import numpy as np
import pytest
import torch
from drawing.test_figures import assert_texts_stand_apart, texts  # the neighbour in this folder

from course_lib.drawing.style import png
from course_lib.lessons.lesson_02 import figures as vectors
from course_lib.lessons.lesson_02.figures import Ground, in_words, neighbourhood, neighbours_figure, word_maps

MAP = {"animal": ["dog", "cat", "horse"], "colour": ["red", "blue", "green"], "place": ["hill", "road", "city"]}
WORDS = [word for group in MAP.values() for word in group]
KINDS = [kind for kind, group in MAP.items() for _ in group]


@pytest.fixture(scope="module")
def table(smollm2):
    return torch.nn.functional.normalize(smollm2.transformer.token_embedding.weight.detach(), dim=1)


def points(n=9, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def markers(axes):
    return np.concatenate([np.stack(line.get_data(), 1) for line in axes.lines])


# ---- maps ---------------------------------------------------------------------------------------


def test_a_map_has_a_mark_for_each_word_and_a_shape_for_each_kind():
    one, two = points(), points(seed=1)
    figure = word_maps({"before": one, "after": two}, WORDS, KINDS, "Together?")
    for axes, given in zip(figure.axes, (one, two), strict=True):
        np.testing.assert_allclose(markers(axes), given.double().numpy())
        assert len({line.get_marker() for line in axes.lines}) == 3
    assert {"before", "after", "Together?", "animal", "colour", "place", "dog"} <= set(texts(figure))
    assert_texts_stand_apart(figure)


def test_a_kind_has_the_same_sign_on_every_map():
    figures = [
        word_maps({"": points(3)}, ["a", "b", "c"], kinds) for kinds in (("verb", "x", "place"), ("place", "verb", "x"))
    ]
    signs = [{key.get_label(): key.get_marker() for key in figure.legends[0].legend_handles} for figure in figures]
    assert signs[0] == signs[1] and len(set(signs[0].values())) == 3


def test_named_words_are_written_first():
    crowd = 0.03 * points(60)
    crowd[0] = 9.0
    words = [f"word{i}" for i in range(60)]
    written = {*texts(word_maps({"": crowd}, words, ["noun"] * 60))}
    missing = next(word for word in words if word not in written)
    assert missing in texts(word_maps({"": crowd}, words, ["noun"] * 60, named=[missing]))


def test_words_without_room_are_left_out_rather_than_written_over_one_another():
    crowd = 0.03 * points(60)
    crowd[0] = 9.0
    figure = word_maps({"": crowd}, [f"word{i}" for i in range(60)], ["noun"] * 60)
    written = [text for text in texts(figure) if text.startswith("word")]
    assert "word0" in written and 1 < len(written) < 40
    assert_texts_stand_apart(figure)


@pytest.mark.parametrize(
    ("maps", "words", "kinds", "message"),
    [
        ({}, WORDS, KINDS, "maps must hold at least one map, got none"),
        ({"a": points()}, WORDS[1:], KINDS, "words and kinds must have the same length, got 8 and 9"),
        ({"a": points(8)}, WORDS, KINDS, "points and words must have the same length, got 8 and 9"),
        ({"a": torch.ones(9, 3)}, WORDS, KINDS, "points must have two numbers for each word"),
        ({"a": points()}, WORDS, WORDS, "kinds must be at most 8 different ones, got 9"),
    ],
)
def test_maps_of_wrong_input_end_in_a_sentence(maps, words, kinds, message):
    with pytest.raises(ValueError, match=message):
        word_maps(maps, words, kinds)


# ---- neighbours ---------------------------------------------------------------------------------


def test_a_neighbourhood_in_the_real_model(smollm2, table):
    found = neighbourhood(" dog", smollm2.tokenizer, table, 7)
    assert found.neighbours == (" Dog", " dogs", "Dog", "dog", " Dogs", "Dogs", " cat")
    id = smollm2.tokenizer.encode(" dog")[0]
    assert found.cosines == pytest.approx([(table[id] @ table[other]).item() for other in found.ids], abs=1e-5)
    assert in_words(found).startswith("The nearest tokens of ␣dog, by cosine: ␣Dog 0.80, ␣dogs 0.74")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the field is empty: type a word"),
        ("   ", "the field is empty"),
        (" unicorn", r"“␣unicorn” has no row of its own: it is 2 tokens \(␣unic \+ orn\)"),
        ("🐶" * 40, r"it is \d+ tokens \(.* \+ …\)"),
        ("<|im_end|>", "has no row of its own: it is 7 tokens"),
    ],
)
def test_what_is_not_one_token_is_answered_in_a_sentence(smollm2, table, text, message):
    with pytest.raises(ValueError, match=message):
        neighbourhood(text, smollm2.tokenizer, table, 3)


def test_the_map_of_known_words_ignores_how_common_they_are(smollm2, table):
    ground = Ground.of(MAP, smollm2.tokenizer, table)
    assert ground.words == tuple(WORDS) and ground.points.shape == (9, 2)
    assert (ground.axes @ table.mean(0)).abs().max() < 1e-4
    with pytest.raises(ValueError, match=r"words must be one token each with a space before it, got 'unicorn' \(2\)"):
        Ground.of({"animal": ["dog", "cat", "unicorn"]}, smollm2.tokenizer, table)


@pytest.mark.parametrize("k", [1, 12, 20])
@pytest.mark.parametrize("word", [" orange", " strugg", " the", "$"])
def test_bars_and_places_of_the_neighbours(smollm2, table, word, k):
    found, ground = neighbourhood(word, smollm2.tokenizer, table, k), Ground.of(MAP, smollm2.tokenizer, table)
    figure = neighbours_figure(found, ground, table)
    bars, plane = figure.axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(found.cosines)
    assert bars.lines[0].get_xdata()[0] == pytest.approx(0.4423, abs=1e-3)
    assert {"two strangers: 0.44", "neighbour"} <= set(texts(figure))
    drawn = markers(plane)
    for row in (ground.points, (table[[found.id, *found.ids]] @ ground.axes.T).numpy()):
        assert all(np.abs(drawn - point).sum(1).min() < 1e-5 for point in row)
    assert_texts_stand_apart(figure)


def test_the_same_neighbours_give_the_same_picture(smollm2, table):
    found, ground = neighbourhood(" hill", smollm2.tokenizer, table, 5), Ground.of(MAP, smollm2.tokenizer, table)
    assert png(neighbours_figure(found, ground, table)) == png(neighbours_figure(found, ground, table))


# ---- the widget ---------------------------------------------------------------------------------


def test_the_playground_follows_its_controls_and_says_what_is_wrong(smollm2, monkeypatch):
    drawn = []
    monkeypatch.setattr(vectors, "png", lambda figure: drawn.append(figure) or b"")
    box = vectors.neighbours_playground(smollm2, MAP)
    (field, space, centred), row, problem, picture = box.children[0].children, *box.children[1:]
    many = row.children[1]
    assert "␣Dog 0.80" in problem.value and 'alt="The nearest tokens of ␣dog' in picture.value

    many.value = 2
    assert problem.value.count("0.") == 3  # and what two strangers have
    field.value = "hill"
    before = problem.value
    centred.value = True
    assert "␣hill, by cosine" in problem.value and problem.value != before
    space.value = False
    assert "of hill, by cosine" in problem.value

    field.value = "<b>"
    assert "<b>" not in re.sub("^<b>|</b>$", "", problem.value)
    field.value = "unicorns & dragons"
    assert "⚠" in problem.value and "&amp;" in problem.value and not picture.value
    field.value = ""
    assert "The field is empty" in problem.value and not picture.value
    count = len(drawn)
    field.value = " dog "
    assert "of dog, by cosine" in problem.value and len(drawn) == count + 1
    assert isinstance(box, ipywidgets.VBox)
