"""Tokens as HTML and figures: what stands where, that text stays text, and that the widget follows its field."""

import re
from html import unescape

import ipywidgets
import pytest
from hypothesis import given, settings
from input_processing.hard_text import any_text, tricky_text

from course_lib.drawing.style import INK, MUTED, contrast, png
from course_lib.input_processing.tokenizer import Tokenizer
from course_lib.lessons.lesson_01 import figures as tokens
from course_lib.lessons.lesson_01.figures import (
    comparison_figure,
    comparison_html,
    heat_table,
    token_explorer,
    token_label,
    vocabulary_growth,
)

TEXT = "the dog ran up the hill, the dog ran down the hill <|end|>"
BYTES = Tokenizer.from_pairs([])
TRAINED = Tokenizer.train(TEXT, 280, special_tokens=["<|end|>"])
TWO = {"bytes": BYTES, "trained": TRAINED}


def chips(html: str) -> list[list[tuple[str, int]]]:
    """(label, id) of each chip in each row."""
    rows = re.findall(r'<div role="list".*?>(.*?)</div>', html)
    pattern = r'<span role="listitem"[^>]*><span [^>]*>(.*?)</span><br><span [^>]*>(\d+)</span></span>'
    return [[(unescape(label), int(id)) for label, id in re.findall(pattern, row)] for row in rows]


def test_every_token_stands_there_with_its_id():
    html = comparison_html("the dog\n", TWO)
    labels, trained = chips(html)
    assert [label for label, _ in labels] == list("the␣dog↵")
    assert [id for _, id in trained] == TRAINED.encode("the dog\n") and trained[-2][0] == "␣dog"
    assert "8 characters, 8 bytes" in html
    assert "<b>bytes</b> 8 tokens, 1.0 characters each" in html


@given(tricky_text | any_text)
@settings(deadline=None)
def test_any_text_stays_text(text):
    """No markup comes through, and the labels hold every token."""
    html = comparison_html(text, TWO)
    bare = re.sub(r"</?(div|span|b|p|br)\b[^<>]*>", "", html)
    assert "<" not in bare and ">" not in bare
    if text:
        for row, tokenizer in zip(chips(html), TWO.values(), strict=True):
            ids = tokenizer.encode(text, special_tokens=False)
            assert [id for _, id in row] == ids[: tokens.LONGEST_SHOWN]
            assert all(label and label.strip() for label, _ in row)


def test_half_a_character_is_shown_as_its_bytes():
    assert [token_label(BYTES, id) for id in BYTES.encode("é犬")] == ["<0xC3>", "<0xA9>", "<0xE7>", "<0x8A>", "<0xAC>"]
    joiner = Tokenizer.train("\u200d" * 9, 258)
    assert [token_label(joiner, id) for id in joiner.encode("\u200d")] == ["<U+200D>"]
    assert token_label(TRAINED, TRAINED.encode("\t")[0]) == "⇥"


def test_what_a_user_types_is_no_special_token():
    assert len(chips(comparison_html("<|end|>", TWO))[1]) > 1


def test_a_long_text_is_cut_and_says_so():
    html = comparison_html("dog " * 500, TWO)
    assert [len(row) for row in chips(html)] == [tokens.LONGEST_SHOWN] * 2
    assert "The first 300 of 2,000 tokens are shown." in html and "2,000 characters" in html


def test_no_text_and_no_tokens():
    assert "0 in every vocabulary" in comparison_html("", TWO)
    none = Tokenizer({b"a": 0}, lambda left, right: float("inf"), "gpt2")
    assert "no token for any byte of it" in comparison_html("b", {"a": none})


def test_contrast():
    assert all(contrast(tint, INK) >= 7 for tint in tokens.TINTS) and contrast(MUTED, "#ffffff") >= 4.5


def test_the_explorer_follows_its_field():
    field, shown = token_explorer(TWO, "the dog").children
    assert isinstance(field, ipywidgets.Textarea) and field.description == "text"
    assert shown.value == comparison_html("the dog", TWO)
    field.value = "<i>hill</i>"
    assert shown.value == comparison_html("<i>hill</i>", TWO)
    field.value = "\ud83d"
    assert 'role="alert"' in shown.value and "Text holds a lone surrogate" in shown.value
    field.value = "dog"
    assert "alert" not in shown.value


# ---- figures ------------------------------------------------------------------------------------


def words_of(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def test_the_figure_shows_what_the_explorer_shows():
    shown = words_of(comparison_figure("the dog", TWO))
    assert "bytes: 7 tokens, 1.0 characters each" in shown
    assert [*map(str, TRAINED.encode("the dog"))] == shown[-2 * len(TRAINED.encode("the dog")) + 1 :: 2]
    with pytest.raises(ValueError, match="text must not be empty"):
        comparison_figure("", TWO)


def test_a_heat_table_has_every_number():
    figure = heat_table([[0, 1500], [250.4, 3]], ["a", "b"], ["x", "y"], "How many?", note="counted")
    assert words_of(figure) == ["0", "1,500", "250", "3"]
    assert figure.axes[0].get_title(loc="left") == "How many?" and figure.axes[0].get_xlabel() == "counted"
    assert len(png(figure)) > 1000
    with pytest.raises(ValueError, match="values and rows must have the same length"):
        heat_table([[1, 2]], ["a", "b"], ["x", "y"], "?")
    heat_table([[0.0]], ["a"], ["x"], "all zero")


def test_growth_has_a_point_for_each_size():
    figure = vocabulary_growth([256, 512], {"seen": [1, 0.5], "held out": [1, 0.6]})
    assert words_of(figure) == ["1.000", "0.500", "1.000", "0.600"]
    assert [line.get_label() for line in figure.axes[0].lines] == ["seen", "held out"]
    with pytest.raises(ValueError, match="same length"):
        vocabulary_growth([256, 512], {"seen": [1]})
