"""Heads without a browser: the scores of any text, what is said and drawn, and what the widget does with bad input."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.config import TransformerConfig
from course_lib.drawing.style import png
from course_lib.interpretation.heads import (
    attention_weights,
    first_token_scores,
    induction_scores,
    previous_token_scores,
    repeated_random_ids,
)
from course_lib.lessons.lesson_06.figures import (
    cost_figure,
    head_explorer,
    head_scores_figure,
    head_view,
    in_words,
    looks_at,
    loss_bars,
    maps_figure,
    read_text,
    repeat_score,
)
from course_lib.transformer_block.transformer import Transformer


def causal(n, *heads, seed=0):
    scores = torch.randn(*heads, n, n, generator=torch.Generator().manual_seed(seed))
    return scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), -torch.inf).softmax(-1)


# ---- numbers and words --------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 99))
def test_on_repeated_tokens_the_score_is_the_induction_score(half, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = repeated_random_ids(50, half, generator)
    weights = causal(2 * half, seed=seed)
    assert repeat_score(weights, ids.tolist()) == pytest.approx(induction_scores(weights).item(), abs=1e-6)


def test_every_earlier_like_counts_and_only_queries_that_have_one():
    weights = torch.zeros(5, 5)
    weights[2, 1], weights[4, 1], weights[4, 3] = 0.5, 0.25, 0.5
    # a b a b' a: token 2 has its like at 0, what followed is 1; token 4 has it at 0 and 2
    assert repeat_score(weights, [7, 8, 7, 9, 7]) == pytest.approx((0.5 + 0.75) / 2)
    assert repeat_score(weights, [1, 2, 3, 4, 5]) is None
    assert repeat_score(torch.tensor([[1.0, 0.0], [0.3, 0.7]]), [4, 4]) == pytest.approx(0.7)


def test_a_view_has_the_librarys_scores():
    attention = causal(6, 2, 3)
    view = head_view(attention, [1, 2, 3, 1, 2, 3], list("abcabc"), 1, 2)
    assert view.previous == pytest.approx(previous_token_scores(attention)[1, 2].item())
    assert view.first == pytest.approx(first_token_scores(attention)[1, 2].item())
    assert view.repeat == pytest.approx(induction_scores(attention)[1, 2].item(), abs=1e-6)
    for layer, head in ((2, 0), (0, 3), (-1, 0)):
        with pytest.raises(ValueError, match="layers 0 to 1 and heads 0 to 2"):
            head_view(attention, [1, 2], "ab", layer, head)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        head_view(attention[..., :1, :1], [1], "a", 0, 0)


def test_in_words():
    looks_back = torch.eye(3).roll(1, 0)
    looks_back[0] = torch.tensor([1.0, 0.0, 0.0])
    view = head_view(looks_back[None, None], [1, 2, 3], ["The", " dog", " ran"], 0, 0)
    assert in_words(view) == (
        "Layer 0, head 0: 100.0% of the weight goes to the token before, 50.0% to the first token. No token stands "
        "here twice, so there is nothing to repeat. On this text it looks mostly at the token before."
    )
    assert looks_at(view) == "Where each token looks most: The → The 100.0%; ␣dog → The 100.0%; ␣ran → ␣dog 100.0%."
    rests = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    view = head_view(rests[None, None], [1, 2, 1], ["a", "b", "a"], 0, 0)
    assert "0.0% to what followed the same token earlier" in in_words(view)
    assert in_words(view).endswith("it looks mostly at the first token.")
    copies = torch.eye(4)
    copies[2] = copies[3] = torch.tensor([0.3, 0.7, 0, 0])
    view = head_view(copies[None, None], [1, 2, 1, 3], ["a", "b", "a", "c"], 0, 0)
    assert "70.0% to what followed" in in_words(view)
    assert in_words(view).endswith(" Where a token returns, it looks mostly at what followed it earlier.")
    copies[:3] = torch.tensor([1.0, 0, 0, 0])  # and now the others rest at the first
    copies[3] = torch.tensor([0.1, 0.9, 0, 0])
    view = head_view(copies[None, None], [1, 2, 3, 1], ["a", "b", "c", "a"], 0, 0)
    assert in_words(view).endswith(
        " Over all tokens it looks mostly at the first token; "
        "where a token returns, it looks mostly at what followed it earlier."
    )
    even = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    view = head_view(even[None, None], [1, 2, 3, 4], list("abcd"), 0, 0)
    assert in_words(view).endswith("none of these has more than half.")


# ---- figures ------------------------------------------------------------------------------------


def test_the_highest_head_is_framed_and_named():
    scores = torch.zeros(4, 3)
    scores[2, 1] = 0.75
    figure = head_scores_figure({"Previous token": scores, "Induction": scores.flip(0)}, "Which?")
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert titles[0] == "Previous token: the highest is layer 2, head 1, with 75.0%"
    assert titles[1] == "Induction: the highest is layer 1, head 1, with 75.0%"
    assert [axes.patches[0].get_xy() for axes in figure.axes[:2]] == [(1.5, 0.5), (0.5, 0.5)]
    assert figure.axes[0].images[0].get_array().shape == (3, 4)  # layers go to the right
    assert png(figure)


def test_maps_show_the_heads_asked_for():
    attention = causal(3, 2, 2)
    figure = maps_figure(attention, ["a", "b", "c"], {"one": (0, 1), "two": (1, 0)}, "Where?")
    for axes, weights, name in zip(
        figure.axes, (attention[0, 1], attention[1, 0]), ("0.1: one", "1.0: two"), strict=True
    ):
        assert torch.allclose(torch.tensor(axes.images[0].get_array()).float(), weights, atol=1e-6)
        assert axes.get_title(loc="left") == name
    assert png(figure)


def test_bars_are_means_and_each_draw_is_a_dot():
    figure = loss_bars({"whole": [3.0], "draws": [4.0, 6.0]}, ("knows nothing", 10.8), "How?", "loss")
    [axes] = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.0, 5.0]
    assert [list(line.get_xdata()) for line in axes.lines] == [[4.0, 6.0], [10.8, 10.8]]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["3.0", "4.0 to 6.0", "knows nothing: 10.8"]
    assert axes.get_xlim()[1] > 10.8


def test_no_line_runs_through_a_number():
    [axes] = loss_bars({"far": [3.0], "near": [9.9], "beyond": [11.0]}, ("knows nothing", 10.8), "How?", "loss").axes
    assert [text.get_horizontalalignment() for text in axes.texts[:3]] == ["left", "right", "left"]


def test_costs_stand_on_log_axes():
    panels = {"FLOPs": {"pairs": {2: 4, 4: 16}, "weights": {2: 8, 4: 16}}, "bytes": {"tables": {2: 4, 4: 16}}}
    figure = cost_figure(panels, "What?", {"FLOPs": (4, "equal")})
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in figure.axes)
    assert [list(line.get_ydata()) for line in figure.axes[0].lines][:2] == [[4, 16], [8, 16]]
    assert [text.get_text() for text in figure.axes[0].texts] == ["equal"] and not figure.axes[1].texts
    assert png(figure)


# ---- the widget ---------------------------------------------------------------------------------


class Words:
    """A tokenizer of words: an id is a word's length."""

    def encode(self, text):
        return [len(word) for word in text.split()]

    def token_text(self, id):
        return " " + "x" * id


class Model:
    tokenizer = Words()

    def __init__(self):
        torch.manual_seed(0)
        config = TransformerConfig(
            vocab_size=20, context_length=32, n_layers=3, d_model=8, n_heads=2, n_kv_heads=2, d_head=4, d_ff=16
        )
        self.transformer = Transformer(config).eval()


def test_read_text():
    assert read_text("a bb", Words()) == [1, 2]
    for text in ("", " ", "word"):
        with pytest.raises(ValueError, match="at least two tokens"):
            read_text(text, Words())
    with pytest.raises(ValueError, match="25 tokens, and a map has room for 24"):
        read_text("a " * 25, Words())


def test_the_widget_answers_each_control_and_says_what_is_wrong():
    llm = Model()
    box = head_explorer(llm, "a bb ccc", layer=1, head=1)
    field, layer_row, head_row, said, picture = box.children
    layer, head = layer_row.children[1], head_row.children[1]
    assert (layer.max, head.max) == (2, 1)
    attention = attention_weights(llm.transformer, torch.tensor([1, 2, 3]))
    assert in_words(head_view(attention, [1, 2, 3], "abc", 1, 1)) in said.value and "<img" in picture.value
    first = picture.value
    layer.value = 2.0
    assert "Layer 2, head 1" in said.value and picture.value != first
    head.value = 0.0
    assert "Layer 2, head 0" in said.value
    field.value = "one"
    assert re.search("⚠ A head needs at least two tokens", said.value) and picture.value == ""
    layer.value = 0.0  # a slider that moves meanwhile brings nothing back
    assert picture.value == ""
    field.value = "a bb a bb"
    assert "Layer 0, head 0" in said.value and "what followed the same token earlier" in said.value
    assert "Where each token looks most" in picture.value
