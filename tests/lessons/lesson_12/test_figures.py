"""Lesson 12's pictures without a browser: what five settings leave, in numbers, words and drawn; the widget."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.drawing import widgets
from course_lib.drawing.style import png
from course_lib.lessons.lesson_12.figures import (
    filtered,
    filtered_in_words,
    kept_figure,
    lab_figure,
    likelihood_figure,
    sampling_lab,
    steps_in_words,
    texts_figure,
)
from course_lib.prediction.sampling import Sampling

LOGITS = torch.randn(300, generator=torch.Generator().manual_seed(0)) * 3
IDS = [3, 5, 3]


def text(id):
    return f" t{id}"


class FakeLLM:
    tokenizer = SimpleNamespace(token_text=text)

    def prompt_ids(self, prompt):
        return IDS

    def logits(self, prompt):
        return LOGITS

    def stream(self, prompt, max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed):
        yield f"{temperature:g}/{top_k}/{top_p:g}/{min_p}/{repetition_penalty:g}/{seed}"


# ---- numbers and words --------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.1, 2),
    st.none() | st.integers(1, 40),
    st.floats(0.1, 1),
    st.none() | st.floats(0.01, 0.5),
    st.floats(1, 2),
)
def test_the_settings_do_what_the_library_does(temperature, top_k, top_p, min_p, penalty):
    chosen = dict(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    state = filtered(LOGITS, IDS, text, **chosen)
    expected = Sampling(**chosen).adjust(LOGITS, IDS)
    assert state.bars.n_kept == int(expected.isfinite().sum())
    top = LOGITS.topk(10).indices
    assert list(state.bars.after[:10]) == pytest.approx(expected.softmax(-1)[top].tolist(), abs=1e-6)
    assert not state.steps or state.steps[-1][1] == state.bars.n_kept
    lefts = [300, *(left for _, left in state.steps)]
    assert lefts == sorted(lefts, reverse=True)


def test_the_steps_are_those_that_are_on_in_the_librarys_order():
    state = filtered(LOGITS, IDS, text, temperature=0.5, top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    assert [name for name, _ in state.steps] == [
        "repetition penalty 1.2", "temperature 0.5", "top-k 9", "top-p 0.9", "min-p 0.01"
    ]  # fmt: skip
    assert steps_in_words(state).startswith(
        "300 tokens → repetition penalty 1.2: 300 → temperature 0.5: 300 → top-k 9: 9"
    )
    plain = filtered(LOGITS, IDS, text)
    assert steps_in_words(plain) == "300 tokens" and plain.bars.before == plain.bars.after
    assert filtered_in_words(plain).startswith("Next-token probabilities with no setting: ␣t")
    assert "with top-k 9: ␣t" in filtered_in_words(filtered(LOGITS, IDS, text, top_k=9))


def test_temperature_0_is_the_greedy_choice_after_the_penalty():
    best = int(LOGITS.argmax())
    state = filtered(LOGITS, [best], text, temperature=0, repetition_penalty=50.0)
    assert state.steps[-1] == ("greedy", 1) and state.bars.after[0] == 0 and state.bars.after[1] == 1


def test_a_setting_out_of_range_is_a_sentence():
    with pytest.raises(ValueError, match="top_k must be a whole number of at least 1, got 0"):
        filtered(LOGITS, IDS, text, top_k=0)


# ---- figures ------------------------------------------------------------------------------------


def test_the_lab_stands_still_with_a_panel_for_each_setting():
    figure = lab_figure(FakeLLM(), "any", {"as it is": {}, "cut": dict(top_k=3)}, "Which?")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["as it is", "cut"]
    assert figure.axes[1].get_xlabel() == "3 of 300 tokens can be drawn." and png(figure)


def test_kept_tokens_along_a_text():
    figure = kept_figure({"top-p": [1, 700, 3], "top-k": torch.tensor([40, 40, 40])}, [" a", "$b$", "c"], "?")
    [axes] = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 700, 3], [40, 40, 40]]
    assert axes.get_yscale() == "log" and len(axes.get_xticks()) == 3 and png(figure)
    with pytest.raises(ValueError, match="at least 1 token everywhere, got 0"):
        kept_figure({"none": [0, 1]}, ["a", "b"], "?")
    with pytest.raises(ValueError, match="same length"):
        kept_figure({"short": [1]}, ["a", "b"], "?")


def test_texts_token_by_token():
    figure = likelihood_figure({"one": ([" a", "b"], [0.25, 1.0]), "other": (["c"], [0.5])}, "How likely?")
    assert [[bar.get_height() for bar in axes.patches] for axes in figure.axes] == [[0.25, 1.0], [0.5]]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "other"] and png(figure)
    with pytest.raises(ValueError, match="at least one text"):
        likelihood_figure({}, "?")
    with pytest.raises(ValueError, match="same length"):
        likelihood_figure({"one": (["a"], [0.1, 0.2])}, "?")


def test_ways_of_choosing_beside_a_reference():
    figure = texts_figure({"greedy": (0.5, 0.9), "hot": (1.0, 9.94), "story": (0.97, 2.6)}, "story", "How?")
    pairs, loss = figure.axes
    assert [bar.get_width() for bar in pairs.patches] == [0.5, 1.0, 0.97]
    assert [note.get_text() for note in loss.texts] == ["0.9", "9.9", "2.6"]
    assert pairs.lines[0].get_xdata()[0] == 0.97 and loss.lines[0].get_xdata()[0] == 2.6 and png(figure)
    figure = texts_figure({"a": (0.95, 0.1), "b": (0.5, 9.9), "story": (0.97, 2.6)}, "story", "How?")
    assert [note.xy[0] for note in figure.axes[0].texts] == [0.97, 0.5, 0.97]  # none on the dashed line
    with pytest.raises(ValueError, match="reference must be one of greedy, hot, got 'story'"):
        texts_figure({"greedy": (0.5, 0.9), "hot": (1.0, 9.9)}, "story", "?")


# ---- the widget ---------------------------------------------------------------------------------


def test_the_lab_answers_each_of_its_sliders(monkeypatch):
    monkeypatch.setattr(widgets, "REST", 0)
    box = sampling_lab(FakeLLM(), "my prompt")
    _, _, *rows, _, left, bars, continuations = box.children
    assert [row.children[0].description for row in rows] == [
        "penalty", "temperature", "top-k", "top-p", "min-p"
    ]  # fmt: skip
    assert left.value == "<b>300 tokens</b>" and "1/None/1/None/1/1" in continuations.value
    pictures = [bars.value]
    for row, value, said in zip(
        rows,
        (1.5, 0.8, 20, 0.9, 0.05),
        ("penalty 1.5", "temperature 0.8", "top-k 20", "top-p 0.9", "min-p 0.05"),
        strict=True,
    ):
        row.children[1].value = value
        assert said in left.value and said in bars.value
        pictures.append(bars.value)
    assert len(set(pictures)) == 6
    assert "0.8/20/0.9/0.05/1.5/3" in continuations.value
    rows[1].children[1].value = 0
    assert "greedy: 1" in left.value
