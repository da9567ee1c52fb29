"""The sampling playground without a browser: what it computes, draws and says, and that no step leaves it stale."""

import asyncio
import io
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course_lib.drawing import widgets
from course_lib.drawing.playground import LiveBars, in_words, playground_figure, reshape, settings_figure, summary
from course_lib.drawing.style import png
from course_lib.drawing.words import percent

LOGITS = torch.randn(300, generator=torch.Generator().manual_seed(0)) * 3


def text(id):
    return f" t{id}"


def state(temperature=1.0, top_p=1.0, logits=LOGITS):
    return reshape(logits, text, temperature, top_p)


class FakeLLM:
    """Says which seed and settings it was asked for, three tokens long."""

    tokenizer = SimpleNamespace(token_text=text)

    def prompt_ids(self, prompt):
        if not prompt:
            raise ValueError("the prompt is empty: the model needs a token")
        return prompt.split(" ")

    def logits(self, prompt):
        return LOGITS + len(prompt) % 7 * LOGITS.roll(1)

    def stream(self, prompt, max_new_tokens, temperature, top_p, seed):
        yield from (f" {prompt}", f" {temperature:g}/{top_p:g}", f" {seed}\n")


# ---- numbers ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.floats(0.05, 2), st.integers(1, 20).map(lambda n: n / 20), st.integers(2, 40), st.integers(0, 10**6))
def test_the_numbers_are_those_of_pytorch(temperature, top_p, n, seed):
    logits = torch.randn(n, generator=torch.Generator().manual_seed(seed)) * 3
    seen = state(temperature, top_p, logits)
    cool = (logits / temperature).softmax(-1)
    ordered = cool.sort(descending=True).values
    kept = cool[:0].tolist()
    for p in ordered.tolist():  # the fewest that reach top_p
        kept.append(p)
        if sum(kept) >= top_p + 1e-6:
            break
    k = min(10, n)
    assert abs(seen.n_kept - len(kept)) <= (0 if top_p == 1 else 1)  # a sum may end just beside top_p
    assert sum(seen.before) == pytest.approx(1, abs=1e-5) and sum(seen.after) == pytest.approx(1, abs=1e-5)
    assert list(seen.before[:k]) == pytest.approx(logits.softmax(-1).sort(descending=True).values[:k].tolist())
    share = ordered[: seen.n_kept].sum().item()
    expected = [p / share if i < seen.n_kept else 0 for i, p in enumerate(ordered[:k].tolist())]
    assert list(seen.after[:k]) == pytest.approx(expected, abs=1e-5)
    assert [after == 0 for after in seen.after[:k]] == [not kept for kept in seen.kept[:k]] or temperature < 0.3


def test_settings_that_change_nothing():
    seen = state()
    assert seen.before == seen.after and seen.n_kept == 300 and all(seen.kept)


def test_temperature_zero_is_greedy():
    seen = state(temperature=0, top_p=0.5)
    assert seen.after == (1.0, *[0.0] * 10) and seen.kept == (True, *[False] * 10)


@pytest.mark.parametrize(("temperature", "top_p"), [(-1, 1), (1, 0), (1, 1.5), (float("nan"), 1)])
def test_settings_out_of_range_are_refused(temperature, top_p):
    with pytest.raises(ValueError, match="must be"):
        state(temperature, top_p)


# ---- words and bars -----------------------------------------------------------------------------


def test_the_summary_counts():
    assert summary(state()) == "All 300 tokens can be drawn."
    assert summary(state(top_p=0.05)) == "1 of 300 tokens can be drawn."
    assert summary(state(temperature=0)) == "Greedy: only the likeliest of 300 tokens can be drawn."


def test_the_bars_in_words():
    seen = state(top_p=0.3)
    words = in_words(seen)
    assert words.startswith("Next-token probabilities at temperature 1.00 and top-p 0.30: ␣t")
    assert "290 others cut off (was " in words and words.endswith(summary(seen))
    assert "was" not in in_words(state())


def test_live_bars_show_the_state_and_nothing_of_the_last_one():
    live = LiveBars(state(), "What comes next?")
    first = live.png(state(0.5))
    assert Image.open(io.BytesIO(first)).size == tuple(round(1.5 * side) for side in LiveBars.CSS_SIZE)
    assert live.png(state(2.0, 0.3)) != first
    assert live.png(state(0.5)) == first
    bars, notes = live.after
    assert [bar.get_width() for bar in bars] == list(state(0.5).after)
    live.png(state(top_p=0.3))
    assert notes[-1].get_text() == "cut off"


def test_the_static_figure_shows_the_same_numbers():
    states = [state(), state(0.5), state(1.0, 0.5)]
    figure = settings_figure(states, "How does “$x$ …” go on?")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "temperature 1, top-p 1",
        "temperature 0.5, top-p 1",
        "temperature 1, top-p 0.5",
    ]
    for axes, seen in zip(figure.axes, states, strict=True):
        widths = [patch.get_width() for patch in axes.patches]
        assert widths == [*seen.before, *seen.after]
        was, now = percent(seen.before[0]), percent(seen.after[0])
        assert axes.texts[0].get_text() == (now if was == now else f"{was} → {now}")
        assert axes.get_xlabel() == summary(seen)
    assert png(figure) == png(settings_figure(states, "How does “$x$ …” go on?"))


def test_the_static_figure_wants_one_distribution():
    for states in ([], [state(), state(logits=LOGITS * 2)]):
        with pytest.raises(ValueError, match="states must be"):
            settings_figure(states, "?")


def test_a_figure_from_a_prompt():
    figure = playground_figure(FakeLLM(), "word " * 40)
    assert len(figure.axes) == 3
    assert figure.get_suptitle().startswith("How does “…") and figure.get_suptitle().endswith(" …” go on?")


# ---- the widget ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.01, 0.02, 0.05, 0.25, 1, 10, 64, 1024])
def test_a_number_beside_a_slider_has_the_digits_of_its_steps(step):
    number, row = widgets.labelled_slider("temperature", -1, 256 * step, value=0, step=step)
    for k in range(257):
        row.children[1].value = k * step  # three times 0.05 is 0.15000000000000002
        assert number.value == round(k * step, 2) and len(str(number.value).removesuffix(".0")) <= 6


def test_a_number_that_is_typed_moves_the_slider_and_keeps_the_digits_of_its_steps():
    number, row = widgets.labelled_slider("temperature", 0, 2, value=1, step=0.05)
    number.value = 0.123
    assert number.value == 0.12 and row.children[1].value == pytest.approx(0.12)
    number.value = 9
    assert number.value == 2 and row.children[1].value == pytest.approx(2)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(widgets, "REST", 0.01)
    monkeypatch.setattr(widgets, "BREATH", 0.001)


def parts(box):
    text, problem, temperature, top_p, left, bars, continuations = box.children
    return SimpleNamespace(
        text=text,
        problem=problem,
        temperature=temperature.children[1],
        top_p=top_p.children[1],
        left=left,
        bars=bars,
        continuations=continuations,
        numbers=[temperature.children[0], top_p.children[0]],
    )


def test_the_playground_in_plain_python(quick):
    p = parts(widgets.sampling_playground(FakeLLM(), "my prompt"))
    assert [number.description for number in p.numbers] == ["temperature", "top-p"]
    assert 'alt="Next-token probabilities at temperature 1.00' in p.bars.value
    for seed in (1, 2, 3):
        assert f"> my prompt 1/1 {seed}↵<" in p.continuations.value
    before = p.bars.value
    p.temperature.value = 0.15000000000000002
    assert p.bars.value != before and "my prompt 0.15/1 1" in p.continuations.value
    p.top_p.value = 0.05
    assert "1 of 300 tokens can be drawn." in p.left.value


def test_a_prompt_at_fault_is_answered_in_place_and_mended(quick):
    p = parts(widgets.sampling_playground(FakeLLM(), ""))
    assert "The prompt is empty: the model needs a token." in p.problem.value
    p.temperature.value = 0.5  # nothing to draw, nothing breaks
    p.text.value = "word " * 200
    assert "has 201 tokens, and this playground takes up to 128" in p.problem.value
    assert p.bars.value == p.left.value == p.continuations.value == ""
    p.text.value = "<i>fine</i>"
    assert p.problem.value == "" and "<img" in p.bars.value
    assert "&lt;i&gt;fine&lt;/i&gt; 0.5/1 3" in p.continuations.value and "<i>" not in p.continuations.value


def test_a_model_that_breaks_down_is_said_in_place(quick):
    llm = FakeLLM()

    def stream(*_, **__):
        raise RuntimeError("out of memory")
        yield

    llm.stream = stream
    p = parts(widgets.sampling_playground(llm, "my prompt"))
    assert "⚠ Out of memory." in p.continuations.value and "<img" in p.bars.value


def test_in_a_running_kernel_bars_come_at_once_and_text_when_the_sliders_rest(quick):
    asked = []

    class Slow(FakeLLM):
        def stream(self, prompt, max_new_tokens, temperature, top_p, seed):
            for piece in super().stream(prompt, max_new_tokens, temperature, top_p, seed):
                asked.append(temperature)
                yield piece

    async def learner():
        p = parts(widgets.sampling_playground(Slow(), "my prompt"))
        assert "<img" in p.bars.value and p.continuations.value.count("…") == 3
        for step in range(1, 6):  # faster than the sliders rest
            p.temperature.value = 1 - 0.05 * step
            await asyncio.sleep(0)
        assert asked == []
        while len(asked) < 4:
            await asyncio.sleep(0.001)
        assert "my prompt 0.75/1 1" in p.continuations.value  # one is there, the others are to come
        assert p.continuations.value.count("…") == 2
        p.temperature.value = 2.0  # in the middle of the second
        assert "my prompt" not in p.continuations.value and p.continuations.value.count("…") == 3
        async with asyncio.timeout(300):
            while "…" in p.continuations.value:
                await asyncio.sleep(0.005)
        assert p.continuations.value.count("my prompt 2/1") == 3
        assert asked.count(0.75) < 9 and asked.count(2.0) == 9

    asyncio.run(learner())
