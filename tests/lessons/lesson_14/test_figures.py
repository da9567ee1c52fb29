"""Lesson 14's pictures without a browser: what is said with one piece exchanged, in numbers, words and drawn."""

import re

import pytest
import torch

from course_lib.classroom.assembly import assemble, known_mistake
from course_lib.drawing.style import png
from course_lib.lessons import exercises
from course_lib.lessons.lesson_14.figures import (
    AS_IT_SHOULD_BE,
    EXCHANGED,
    Said,
    cost_figure,
    exchange,
    exchange_figure,
    exchange_playground,
    in_words,
    says,
    versions,
)

SENTENCE = "The dog ran up the"


@pytest.fixture(scope="module")
def made(smollm2):
    return assemble(smollm2)


def test_it_says_what_the_model_says(made, smollm2):
    said = says(made, SENTENCE)
    right = smollm2.next_token_probabilities(SENTENCE, 5)
    assert [token for token, _ in said.likeliest] == [token for token, _ in right]
    assert [p for _, p in said.likeliest] == pytest.approx([p for _, p in right], abs=1e-4)
    assert said.goes_on == smollm2.generate(SENTENCE, 10, temperature=0) and said.problem == ""


def test_one_piece_exchanged(made):
    sentence, formula = known_mistake("rotate_pairs", "nothing turns")
    state = exchange(made, SENTENCE, "rotate_pairs", sentence)
    assert state.usual == says(made, SENTENCE)
    scores = made.with_functions(rotate_pairs=formula).read(made.encode(SENTENCE), [])[-1]
    assert state.now.likeliest[0][1] == pytest.approx(scores.softmax(-1).max().item(), abs=1e-6)
    assert state.now.likeliest[0][0] != " hill" and "with a slip in rotate_pairs (nothing turns" in in_words(state)
    same = exchange(made, SENTENCE, "rotate_pairs", AS_IT_SHOULD_BE, state.usual)
    assert same.now is same.usual is state.usual and "slip" not in in_words(same)


def test_what_breaks_down_is_a_sentence(made):
    state = exchange(made, "a", "look_up", known_mistake("look_up", "it gives the one-hot")[0], Said((), ""))
    assert state.now.problem.startswith("it stops with ") and in_words(state).endswith(".")
    nan = made.with_functions(logit_lens=lambda *given: torch.full((1, 1, 9), torch.nan))
    assert "NaN" in says(nan, "a").problem
    assert png(exchange_figure(state))


@pytest.mark.parametrize("piece", EXCHANGED)
def test_every_piece_has_all_the_mistakes_of_its_check(piece, made):
    assert list(versions(made, piece)) == [AS_IT_SHOULD_BE, *exercises()[piece].mistakes]


@pytest.mark.parametrize(
    ("prompt", "piece", "version", "message"),
    [
        ("", "rms_norm", AS_IT_SHOULD_BE, "prompt is empty"),
        ("a " * 70, "rms_norm", AS_IT_SHOULD_BE, "tokens, and 64 can be tried"),
        ("a", "chat_prompt", AS_IT_SHOULD_BE, "piece must be one of look_up"),
        ("a", "rms_norm", "worse", "has no version 'worse'"),
    ],
)
def test_what_cannot_be_tried_is_refused(prompt, piece, version, message, made):
    with pytest.raises(ValueError, match=message):
        exchange(made, prompt, piece, version)


def test_bars_are_the_numbers(made):
    state = exchange(made, "$5", "swiglu", known_mistake("swiglu", "it bends by ReLU")[0])
    left, right = exchange_figure(state).axes
    assert [bar.get_width() for bar in left.patches] == [p for _, p in state.usual.likeliest]
    assert [bar.get_width() for bar in right.patches] == [p for _, p in state.now.likeliest]
    title, slip, *_ = (text.get_text() for text in exchange_figure(state).texts)
    assert title == "What does the model say with a slip in swiglu?" and slip.startswith("the slip: it bends by ReLU")
    same = exchange(made, "$5", "swiglu", AS_IT_SHOULD_BE, state.usual)
    assert exchange_figure(same).texts[0].get_text() == "What does the model say with swiglu as it should be?"
    figure = cost_figure(
        {"a: b": 3.5, "c: d": 12.0, "e": 40.0}, {"a: b": " hill", "c: d": "\n", "e": "x"}, 3.4, "How $much$?"
    )
    [axes] = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([3.5, 12.0, 12.963], abs=1e-3)
    said = ["3.50  ␣hill", "12.00  ↵", "40.00 (longer)  x", "no slip: 3.40", "guessing: 10.80"]
    assert [text.get_text() for text in axes.texts] == said
    assert png(figure)


def test_the_widget_answers_each_control(made):
    box = exchange_playground(made, SENTENCE, "swiglu", known_mistake("swiglu", "it bends by GELU")[0])
    text, piece, choice, picture, words = box.children
    assert "a slip in swiglu (it bends by GELU" in words.value
    first = picture.value
    assert re.search(r'<img alt="After “The dog ran up the” with a slip in swiglu', first)
    piece.value = "causal_mask"
    assert choice.value == AS_IT_SHOULD_BE and "␣hill 23" in words.value and picture.value != first
    choice.value = known_mistake("causal_mask", "every query sees everything")[0]
    assert "a slip in causal_mask (every query" in words.value
    text.value = ""
    assert picture.value == "" and "prompt is empty" in words.value
    text.value = "a"
    assert "After “a” with a slip in causal_mask" in words.value
