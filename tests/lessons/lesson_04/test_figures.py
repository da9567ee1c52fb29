"""The rectangle of tokens without a browser: what it holds, says and draws, and what the widget does with bad input."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.drawing.style import png
from course_lib.lessons.lesson_04.figures import (
    WAYS,
    arrange,
    batch_playground,
    cosine_figure,
    in_words,
    precision_figure,
    read_prompts,
    rectangle_figure,
    rectangle_html,
    summary,
    waste_figure,
    window_figure,
)

PAD, END = 2, 0
PROMPTS = st.lists(st.lists(st.integers(3, 99), max_size=9), min_size=1, max_size=5).filter(any)
BY_HAND = [[5, 6, 7], [8], [9, 10, 11, 12]]


def text(id):
    return f" t{id}"


def rectangle(way, context=4, sequences=BY_HAND):
    return arrange(sequences, way, context, PAD, END, text)


# ---- numbers and words --------------------------------------------------------------------------


@settings(deadline=None)
@given(PROMPTS, st.sampled_from(list(WAYS)), st.integers(1, 12))
def test_every_token_is_shown_or_counted_as_lost(sequences, way, context):
    seen = rectangle(way, context, sequences)
    rows, columns = seen.shape
    assert columns <= context and {len(row) for row in seen.tokens} == {columns}
    shown = [
        (document, token)
        for tokens, documents, ends in zip(seen.tokens, seen.documents, seen.ends, strict=True)
        for token, document, end in zip(tokens, documents, ends, strict=True)
        if document >= 0 and not end
    ]
    kept = sequences if way == "pack" else [s[-context:] for s in sequences]
    assert shown == [(number, text(id)) for number, s in enumerate(kept) for id in s]
    assert seen.n_cut == sum(map(len, sequences)) - sum(map(len, kept))
    n_ends = sum(map(sum, seen.ends))
    assert n_ends == (len(sequences) if way == "pack" else 0)
    assert len(shown) + n_ends + seen.n_padding == rows * columns
    assert 0 <= seen.waste < 1 and seen.waste == seen.n_padding / (rows * columns)


def test_an_end_token_inside_a_prompt_is_still_that_prompts():
    """<|im_end|> and the like can be typed."""
    assert rectangle("pad right", 4, [[5, END], [PAD]]).documents == ((0, 0), (1, -1))


def test_in_words():
    assert summary(rectangle("pad right")) == "3 rows of 4 positions: 4 of 12 hold padding (33.3%). Nothing fell off."
    assert in_words(rectangle("pad right")) == (
        "Row 1: 3 × text 1, padding. Row 2: 1 × text 2, 3 × padding. Row 3: 4 × text 3."
    )
    assert in_words(rectangle("pad left")).startswith("Row 1: padding, 3 × text 1. Row 2: 3 × padding, 1 × text 2.")
    assert summary(rectangle("pad left", 3)) == (
        "3 rows of 3 positions: 2 of 9 hold padding (22.2%). 1 token did not fit and fell off."
    )
    packed = rectangle("pack")
    assert in_words(packed) == (
        "Row 1: 3 × text 1, end token. Row 2: 1 × text 2, end token, 2 × text 3. Row 3: 2 × text 3, end token, padding."
    )
    assert summary(packed) == (
        "3 rows of 4 positions: 1 of 12 hold padding (8.3%), 3 hold end tokens. Nothing fell off."
    )


def test_html_says_the_same_and_escapes_tokens():
    html = rectangle_html(arrange([[5], [6, 7]], "pad right", 4, PAD, END, lambda id: "<b>&"))
    assert html.count("<tr>") == 2 and html.count(">pad<") == 1
    assert html.count("&lt;b&gt;&amp;") == 3 and "<b>" not in html
    assert 'aria-label="Row 1: 1 × text 1, padding. Row 2: 2 × text 2."' in html
    packed = rectangle_html(rectangle("pack"))
    assert packed.count(">end<") == 3 and packed.count(">pad<") == 1


@pytest.mark.parametrize(
    ("sequences", "way", "context", "message"),
    [
        ([[]], "pad right", 4, "no prompt"),
        ([[5]], "stack", 4, "way must be one of"),
        ([[5]], "pack", 0, "length must be at least 1"),
        ([[5]], "pad left", 0, "window must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(sequences, way, context, message):
    with pytest.raises(ValueError, match=message):
        arrange(sequences, way, context, PAD, END, text)


def test_prompts_are_lines():
    def encode(line):
        return list(range(len(line.split())))

    assert read_prompts("a b\n\n   \nc\n", encode) == [[0, 1], [0]]
    with pytest.raises(ValueError, match="no prompt"):
        read_prompts(" \n", encode)
    with pytest.raises(ValueError, match="13 prompts"):
        read_prompts("a\n" * 13, encode)
    with pytest.raises(ValueError, match="500 tokens"):
        read_prompts("a " * 500, encode)


# ---- figures ------------------------------------------------------------------------------------


def test_the_figure_has_every_token_once():
    figure = rectangle_figure([rectangle(way) for way in WAYS], "$How$?")
    texts = [[t.get_text() for t in axes.texts] for axes in figure.axes]
    assert texts[0] == texts[1] == ["␣t5", "␣t6", "␣t7", "␣t8", "␣t9", "␣t10", "␣t11", "␣t12"]
    assert [t for t in texts[2] if t != "end"] == texts[0] and texts[2].count("end") == 3
    assert summary(rectangle("pack")) in figure.axes[2].get_title(loc="left")
    assert png(figure)
    for wrong in ([], [rectangle("pad right", 30, [[5] * 30])]):
        with pytest.raises(ValueError, match="rectangles must be"):
            rectangle_figure(wrong, "?")


def test_waste_is_the_hatched_area():
    figure = waste_figure({"one": [[1, 3], [2, 2]], "two": [[4, 4]]}, {"two": [[1, 2]]}, "?")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["one\n20.0% padding", "two\n0.0% padding, 37.5% end tokens"]
    for axes, total in zip(figure.axes, (10, 8), strict=True):
        assert sum(bar.get_width() for bar in axes.patches) == total


def test_the_other_figures_show_their_numbers():
    figure = cosine_figure({2: [0.0, 1.0], 16: [0.1]}, "?")
    assert [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes] == [2, 1]
    figure = window_figure([" a", " Mia", " b", " c"], {2: 0.1, 4: 0.9}, " Mia", "?")
    curve, border = figure.axes[0].lines
    assert list(curve.get_ydata()) == [0.1, 0.9] and border.get_xdata()[0] == 2.5
    series = {"in": {8: 4.0, 2: 9.0}, "out": {8: 4.0, 2: 20.0}}
    figure = precision_figure(series, {10.0: 4.1, 60.0: 8.0}, {2: (58.0, 8.2)}, 4.0, 10.8, "?")
    left, right = figure.axes
    by_marker = {line.get_marker(): list(line.get_ydata()) for line in left.lines if len(line.get_ydata())}
    assert by_marker["o"] == [4.0, 9.0] and by_marker["s"] == [4.0]  # what leaves the picture has no mark
    assert "out ↑ 20.0 at 2 bits" in [t.get_text() for t in left.texts]
    assert list(right.lines[0].get_xdata()) == [10.0, 60.0]
    assert "2 bits" in [t.get_text() for t in right.texts]


# ---- the widget ---------------------------------------------------------------------------------


class Words:
    """A tokenizer of words."""

    def encode(self, line):
        return [3 + len(word) for word in line.split()]

    def token_text(self, id):
        return "x" * (id - 3)


def test_the_widget_answers_each_control_and_says_what_is_wrong():
    box = batch_playground(Words(), ["one two three", "four"], PAD, END)
    text, way, context_row, said, table = box.children
    slider = context_row.children[1]
    assert said.value.count("2 rows of 3 positions") == 1 and table.value.count(">pad<") == 2
    way.value = "pack"
    assert "1 row of 16 positions" in said.value and table.value.count(">end<") == 2
    slider.value = 2.0
    assert "3 rows of 2 positions" in said.value
    way.value = "pad left"
    assert "1 token did not fit" in said.value
    text.value = "  "
    assert re.search("⚠ There is no prompt", said.value) and table.value == ""
    text.value = "one"
    assert "1 row of 1 position:" in said.value and "0 of 1 hold padding" in said.value
