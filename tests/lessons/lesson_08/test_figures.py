"""Lesson 08's pictures without a browser: what they hold and say, and what the widget does with bad input."""

import re

import pytest
import torch

from course_lib.drawing.style import png
from course_lib.interpretation.neurons import neuron_activations, promoted
from course_lib.lessons.lesson_08 import figures as figures

STATE = figures.Firing(3, 17, (" the", " dog", "\n", "$x$"), (0.5, -2.0, 0.0, 1.0), (" a", "$"), (" cat", "<b>"))


class Letters:
    """A tokenizer whose tokens are letters, and a model of them."""

    def __init__(self, transformer):
        self.transformer, self.tokenizer = transformer, self

    def token_text(self, id):
        return chr(97 + id % 26)

    def prompt_ids(self, text):
        return [ord(letter) % 50 for letter in text]


@pytest.fixture
def llm(tiny):
    return Letters(tiny())


# ---- a neuron over a text -----------------------------------------------------------------------


def test_firing_holds_the_models_own_numbers(llm):
    ids = [3, 1, 4, 1, 5]
    fired = neuron_activations(llm.transformer, torch.tensor(ids))
    state = figures.firing(llm, fired, ids, 2, 7)
    assert state.tokens == tuple("dbebf") and state.activations == tuple(fired[2, :, 7].tolist())
    order = promoted(llm.transformer, 2, 7).argsort(descending=True).tolist()
    assert state.promotes == tuple(map(llm.token_text, order[:6]))
    assert state.suppresses == tuple(map(llm.token_text, order[::-1][:6]))
    with pytest.raises(ValueError, match="neuron must be from 0 to 31, got 32"):
        figures.firing(llm, fired, ids, 2, 32)
    with pytest.raises(ValueError, match="same length"):
        figures.firing(llm, fired, ids[1:], 2, 7)


def test_in_words_names_the_strongest_and_what_it_speaks_for_there():
    assert figures.in_words(STATE) == (
        "Layer 3, neuron 17: it fires most at token 2 of 4, ␣dog, with -2.00, and there speaks for ␣cat, <b>."
    )


def test_html_has_every_token_its_number_and_no_tag_of_the_texts():
    html = figures.firing_html(STATE)
    assert re.findall(r">([+-]\d\.\d\d)<", html) == ["+0.50", "-2.00", "+0.00", "+1.00"]
    assert "<b>" not in html and html.count('role="listitem"') == 4 and "␣dog" in html
    grounds = re.findall(r"background: (#\w{6})", html)
    assert grounds[1] == "#3d4854"  # the strongest, downwards
    assert grounds[2] == "#fffefe"  # nothing at all
    assert "&lt;b&gt;" in figures.speaks_html(STATE)


def test_a_silent_neuron_is_drawn_too():
    silent = figures.Firing(0, 0, ("a",), (0.0,), (), ())
    assert "+0.00" in figures.firing_html(silent) and png(figures.firing_figure([silent], "Silent?"))


# ---- figures ------------------------------------------------------------------------------------


def test_figures_draw_and_equal_input_gives_equal_bytes():
    x = torch.linspace(-4, 4, 41)
    drops = {"recall": {"attention": [0.1, -2.0, 11.0], "feed-forward": [0.0, 3.0, 0.4]}}
    makers = [
        lambda: figures.bends_figure({"relu": x.relu(), "tanh": x.tanh()}, x, "How?"),
        lambda: figures.shares_figure({"one": {"a": 3, "b": 1}, "two": {"a": 1, "b": 1}}, "Where?"),
        lambda: figures.agreement_figure({"own": [0.0, 1.0, 3.0], "control": [0.1, -0.2, 0.0]}, "Do they?"),
        lambda: figures.firing_figure([STATE, STATE], "Where does it cost $?"),
        lambda: figures.ablation_figure(drops, "What is lost?", [1], "grey: vital"),
        lambda: figures.load_figure({"as it is": [0.9, 0.1], "balanced": [0.5, 0.5]}, 0.5, "Who gets them?"),
        lambda: figures.experts_figure([[1.0, 0.0], [0.3, 0.7]], ["animal", "verb"], "Which?"),
    ]
    for make in makers:
        assert png(make()) == png(make())


def test_the_numbers_are_in_the_figures():
    axes = figures.shares_figure({"one": {"a": 3_000, "b": 1_000}}, "Where?").axes[0]
    assert [text.get_text() for text in axes.texts] == ["3,000 (75%)", "1,000 (25%)"]
    bars = figures.load_figure({"x": [0.1, 0.5, 0.2]}, 0.27, "Who?").axes[0].patches
    assert [round(bar.get_height(), 6) for bar in bars] == [0.5, 0.2, 0.1]
    table = figures.experts_figure([[0.96, 0.04], [0.3, 0.7]], ["animal", "verb"], "Which?").axes[0]
    assert sorted(text.get_text() for text in table.texts) == ["30%", "70%", "96%"]
    drops = {"recall": {"attention": [0.5, 2.0], "feed-forward": [1.0, 0.0]}}
    bars = figures.ablation_figure(drops, "What?").axes[0].patches
    assert [bar.get_height() for bar in bars] == [0.5, 2.0, 1.0, 0.0]


def test_what_cannot_be_drawn_is_said():
    x = [0.0, 1.0]
    with pytest.raises(ValueError, match="bends must be 1 to 4, got 5"):
        figures.bends_figure({str(i): x for i in range(5)}, x, "How?")
    with pytest.raises(ValueError, match="same length"):
        figures.bends_figure({"a": [1.0]}, x, "How?")
    with pytest.raises(ValueError, match="same parts"):
        figures.shares_figure({"one": {"a": 1}, "two": {"b": 1}}, "Where?")
    with pytest.raises(ValueError, match="same text"):
        figures.firing_figure([STATE, figures.Firing(0, 0, ("a",), (0.0,), (), ())], "Where?")


# ---- the widget ---------------------------------------------------------------------------------


def test_the_playground_follows_its_text_its_sliders_and_its_button(llm):
    widget = figures.neuron_playground(llm, "hello", layer=1, neuron=4)
    field, layer_row, neuron_row, most, said, picture, speaks = widget.children
    assert "Layer 1, neuron 4" in said.value and picture.value.count("listitem") == 5
    before = picture.value
    neuron_row.children[1].value = 9
    assert "neuron 9" in said.value and picture.value != before
    layer_row.children[1].value = 2
    assert "Layer 2, neuron 9" in said.value
    most.click()
    fired = neuron_activations(llm.transformer, torch.tensor(llm.prompt_ids("hello")))[2, 1:].abs()
    assert f"neuron {int(fired.amax(0).argmax())}:" in said.value

    field.value = "x"
    assert "2 to 64 can be shown" in said.value and not picture.value and not speaks.value
    neuron_row.children[1].value = 3  # does not stumble over the missing text
    most.click()
    field.value = "<b>y</b>"
    assert "⚠" not in said.value and "<b>y" not in picture.value
