"""The figures show the numbers they were given, and no text runs into another or off the page."""

import io
import itertools
import re
import warnings
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from course_lib.drawing import figures, labels, style
from course_lib.lessons.lesson_00.figures import stage_times, xray

TOKENS = ["The", " dog", " ran", " up", " the"]
ODD = ["漢", " 🐶", "\n", "\t", "\u200d", "\ufffd", "مرحبا", "$x$", "a$b", "\\frac", "e\u0301", " ", "", "\x00"]
TOP = [(" hill", 0.24), (" stairs", 0.07), (" street", 0.06), (" steps", 0.05), (" road", 0.04)]
TOP = [*TOP, (" side", 0.03), (" path", 0.02), (" mountain", 0.015), (" driveway", 0.01), (" $5", 0.0001)]


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def fake_trace(tokens=TOKENS, chosen=" hill", guess_tokens=("the", "<0xE4>", "_______", " hillside", "🐶")):
    """What `LLM.trace` returns, of SmolLM2's shape, with random insides."""
    random = torch.Generator().manual_seed(0)
    n = len(tokens)
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    scores = torch.randn(30, 9, n, n, generator=random).masked_fill(future, -torch.inf)
    guesses = [(guess_tokens[k % len(guess_tokens)], 0.03 * k) for k in range(25)] + [(" hill", 0.8)] * 6
    probabilities = torch.zeros(49152)
    probabilities[: len(TOP)] = torch.tensor([p for _, p in TOP])
    prompt = "".join(tokens)
    return SimpleNamespace(
        prompt=prompt,
        raw_bytes=prompt.encode("utf-8"),
        ids=list(range(40_000, 40_000 + n)),
        tokens=list(tokens),
        embeddings=torch.randn(n, 576, generator=random, dtype=torch.bfloat16),
        residual_stream=torch.randn(31, n, 576, generator=random) * torch.linspace(1, 40, 31)[:, None, None],
        attention=scores.softmax(-1),
        probabilities=probabilities,
        chosen_id=0,
        chosen_token=chosen,
        guesses=guesses,
        top=lambda k: TOP[:k],
    )


def rows_of_bars(axes):
    return [p for p in axes.patches if isinstance(p, Rectangle)]


def texts(figure) -> list[str]:
    return [t.get_text().replace(r"\$", "$") for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


def drawn_texts(figure) -> dict[Text, object]:
    """Every text that reaches the page, and its box there (ticks out of view never do)."""
    drawn = []
    draw = Text.draw

    def record(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            drawn.append(self)
        return draw(self, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.savefig(io.BytesIO(), format="png", dpi=figure.dpi)
    return {text: text.get_window_extent(figure._get_renderer()) for text in drawn}


def assert_texts_stand_apart(figure):
    """Every text lies on the page and no two share more than a hair of their boxes."""
    page, boxes = figure.bbox, drawn_texts(figure)
    assert boxes
    for text, box in boxes.items():
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (one, other)


# ---- tokens as text -----------------------------------------------------------------------------


def test_visible():
    shown = {
        " the": "␣the",
        "\n\t": "↵⇥",
        "漢": "<U+6F22>",
        "\u200d": "<U+200D>",
        "\xa0": "<U+00A0>",
        "": '""',
        "é": "é",
    }
    assert {token: labels.visible(token) for token in shown} == shown


@settings(deadline=None)
@given(st.text(), st.integers(2, 30))
def test_visible_keeps_to_its_limit_and_to_glyphs_of_the_font(token, limit):
    shown = labels.visible(token, limit)
    assert 1 <= len(shown) <= limit
    assert {ord(c) for c in shown} <= labels._glyphs()


# ---- token_strip --------------------------------------------------------------------------------


def test_token_strip_has_a_chip_a_token_and_id_for_each():
    figure = figures.token_strip(TOKENS, [504, 2767, 7674, 614, 260], "Where does a token end?")
    assert texts(figure) == [
        *("Where does a token end?", "The", "504", "␣dog", "2767", "␣ran", "7674", "␣up", "614", "␣the", "260")
    ]
    assert len(figure.axes[0].patches) == 5
    assert_texts_stand_apart(figure)


def test_token_strip_wraps_and_stays_on_the_page():
    tokens = [" token", " of", " internationalization", "x"] * 10
    figure = figures.token_strip(tokens, range(10_000, 10_040))
    assert len(figure.axes[0].patches) == 40
    assert figure.get_figheight() > 3 * figures.CHIP_PITCH
    assert_texts_stand_apart(figure)
    for chip in figure.axes[0].patches:
        assert chip.get_x() >= 0.1 and chip.get_x() + chip.get_width() <= figures.WIDTH


def test_token_strip_says_how_many_it_leaves_out():
    figure = figures.token_strip([" word"] * 1000, range(1000))
    chips = len(figure.axes[0].patches) - 1
    assert f"+{1000 - chips}" in texts(figure)
    assert figure.get_figheight() < 9
    assert_texts_stand_apart(figure)


# ---- heat maps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 60])
def test_embedding_strip_shows_the_first_64_numbers(n):
    vectors = torch.randn(n, 576, generator=torch.Generator().manual_seed(0))
    figure = figures.embedding_strip(vectors, (TOKENS * 12)[:n])
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(image.get_array(), vectors[:, :64].numpy())
    assert image.norm.vmin == -image.norm.vmax  # zero is white
    assert "the first 64 of 576 numbers in each vector: grey below zero, green above" in texts(figure)
    assert_texts_stand_apart(figure)


def test_attention_map_writes_the_weights_that_can_be():
    weights = fake_trace().attention[3, 2]
    figure = figures.attention_map(weights, TOKENS)
    cells = [text for text in figure.axes[0].texts if re.fullmatch(r"\d\.\d\d", text.get_text())]
    assert len(cells) == 15  # the lower triangle of 5 × 5
    for cell in cells:
        key, query = (round(c) for c in cell.get_position())
        assert float(cell.get_text()) == pytest.approx(float(weights[query, key]), abs=0.0051)
    assert "cannot look:\nthe future" in texts(figure)
    assert_texts_stand_apart(figure)


def test_the_future_is_hatched_cell_by_cell():
    (future,) = figures.attention_map(fake_trace().attention[0, 0], TOKENS).axes[0].patches
    for q, k in np.ndindex(5, 5):
        assert future.get_path().contains_point((k, q)) == (k > q)


def test_attention_map_without_a_mask_shows_all_cells():
    figure = figures.attention_map(np.full((3, 3), 1 / 3), TOKENS[:3], "No mask?")
    assert texts(figure).count("0.33") == 9
    assert "cannot look:\nthe future" not in texts(figure)
    assert_texts_stand_apart(figure)


@pytest.mark.parametrize("n", [1, 2, 8, 9, 30, 100])
def test_attention_map_stays_readable_at_any_length(n):
    figure = figures.attention_map(np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None], (TOKENS * 20)[:n])
    assert ("1.00" in texts(figure)) == (n <= 8)
    assert_texts_stand_apart(figure)


# ---- through the blocks -------------------------------------------------------------------------


def test_guess_by_layer():
    guesses = [(0, " the", 0.9), (1, " a", 0.3), (2, " a", 0.4), *((k, " hill", 0.5) for k in range(3, 31))]
    figure = figures.guess_by_layer(guesses)
    axes = figure.axes[0]
    assert [bar.get_height() for bar in rows_of_bars(axes)] == [p for _, _, p in guesses]
    assert [text.get_text() for text in axes.texts] == ["␣the", "␣a", "␣hill"]  # a guess that stays is written once
    assert_texts_stand_apart(figure)


def test_guess_by_layer_with_another_odd_token_in_every_block():
    figure = figures.guess_by_layer([(k, ODD[k % len(ODD)] + "abcdefghijkl", 1.0) for k in range(31)])
    assert len(figure.axes[0].texts) == 31
    assert_texts_stand_apart(figure)


# ---- prediction ---------------------------------------------------------------------------------


def test_probability_bars_are_as_long_as_the_probabilities():
    tokens, probabilities = zip(*TOP, strict=True)
    figure = figures.probability_bars(tokens, probabilities, chosen=" steps")
    bars = rows_of_bars(figure.axes[0])
    assert [bar.get_width() for bar in bars] == pytest.approx(probabilities)
    strong = [matplotlib.colors.to_hex(bar.get_facecolor()) == style.PHASES[3].strong for bar in bars]
    assert strong == [token == " steps" for token in tokens]
    assert {"24.0%", "5.0%  ← chosen", "<0.1%", "␣hill", "␣$5"} <= set(texts(figure))
    assert_texts_stand_apart(figure)


def test_probability_bars_beside_the_truth():
    figure = figures.probability_bars([" hill", " road", " yard"], [0.5, 0.3, 0.05], truth=[0.72, 0.08, 0.06])
    (diamonds,) = figure.axes[0].lines
    assert list(diamonds.get_xdata()) == [0.72, 0.08, 0.06]
    assert {"50.0%  (truth 72.0%)", "the truth"} <= set(texts(figure))
    assert_texts_stand_apart(figure)


def test_stage_times():
    names = ["text → ids", "30 blocks", "softmax"]
    figure = stage_times(names, [1, 2, 3], [4.2e-5, 1.5, 0.0031], [18, 2_980_000, 196_608])
    bars = rows_of_bars(figure.axes[0])
    assert [bar.get_width() for bar in bars] == [4.2e-5, 1.5, 0.0031]
    assert [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in bars] == [
        style.PHASES[n].strong for n in (1, 2, 3)
    ]
    assert {"42 µs · 18 bytes", "1.5 s · 2.98 MB", "3.1 ms · 197 kB"} <= set(texts(figure))
    assert {style.PHASES[n].heading for n in (1, 2, 3)} <= set(texts(figure))
    assert_texts_stand_apart(figure)


# ---- the x-ray ----------------------------------------------------------------------------------

LONG = [
    "Once",
    " upon",
    " internationalization",
    " 漢字",
    " Wolfgang",
    "\n",
    " $5",
    " up",
    " the",
    "_" * 30,
    " mountain",
]
TRACES = {
    "the sentence": fake_trace(),
    "one token": fake_trace(["The"]),
    "long, chosen outside the top 10": fake_trace(LONG, chosen=" Transformersen"),
    "odd characters": fake_trace(ODD, chosen="\u200d漢", guess_tokens=ODD),
    "long guesses": fake_trace(guess_tokens=("internationalization", "WWWWWWWWWWWWWW", "MMMMMM")),
}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
def test_no_text_of_the_xray_collides(trace):
    assert_texts_stand_apart(xray(trace, 12, 3))


def test_the_xray_shows_the_trace():
    trace = TRACES["the sentence"]
    figure = xray(trace, 12, 3)
    _, embeddings, attention, guesses, norms, bars = figure.axes
    seen = "\n".join(texts(figure))
    for expected in ("18 bytes → 5 tokens → 5 vectors of 576 numbers", "layer 12, head 3", "49,152 tokens", "× 30"):
        assert expected in seen
    assert [h for h in seen.splitlines() if h[:4] in ("1 · ", "2 · ", "3 · ")] == [
        *("1 · Input processing", "2 · Transformer block × 30", "3 · Prediction and generation")
    ]
    np.testing.assert_allclose(embeddings.images[0].get_array(), trace.embeddings[:, :64].double())
    np.testing.assert_allclose(attention.images[0].get_array(), trace.attention[12, 3], rtol=1e-6)
    assert len(rows_of_bars(guesses)) == 31 == len(norms.lines[0].get_ydata())
    assert [bar.get_width() for bar in rows_of_bars(bars)] == pytest.approx([p for _, p in TOP])
    assert "The dog ran up the hill" in seen.splitlines()


def test_a_chosen_token_outside_the_top_is_added():
    figure = xray(TRACES["long, chosen outside the top 10"], 0, 0)
    assert len(rows_of_bars(figure.axes[-1])) == 11
    assert any(text.endswith("← chosen") for text in texts(figure))


def test_the_xray_is_light_and_the_same_every_time():
    one, two = (style.png(xray(TRACES["the sentence"], 12, 3)) for _ in range(2))
    assert one == two
    assert len(one) < 150_000


# ---- everywhere ---------------------------------------------------------------------------------


def test_odd_characters_are_drawn_without_a_warning():
    n = len(ODD)
    weights = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    for figure in (
        figures.token_strip(ODD, range(n), "漢 $x$"),
        figures.embedding_strip(np.ones((n, 8)), ODD),
        figures.attention_map(weights, ODD, "漢 $x$?"),
        figures.probability_bars(ODD, [1 / n] * n),
    ):
        assert_texts_stand_apart(figure)


def test_the_readers_own_settings_change_nothing():
    tokens, probabilities = zip(*TOP, strict=True)
    plain = style.png(figures.probability_bars(tokens, probabilities))
    with matplotlib.rc_context(
        {"font.size": 20, "axes.facecolor": "black", "axes.grid": True, "axes.spines.top": True}
    ):
        assert style.png(figures.probability_bars(tokens, probabilities)) == plain


def test_nothing_reaches_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    xray(TRACES["the sentence"], 0, 0)
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.token_strip(TOKENS, [1, 2]), "tokens and ids must have the same length, got 5 and 2"),
        (lambda: figures.token_strip([], []), "tokens must hold at least one token, got none"),
        (
            lambda: figures.embedding_strip(torch.ones(4, 8), TOKENS),
            "vectors and tokens must have the same length, got 4 and 5",
        ),
        (
            lambda: figures.embedding_strip(torch.ones(8), TOKENS),
            r"vectors must have 2 dimensions \(position, d_model\), got shape \(8,\)",
        ),
        (
            lambda: figures.attention_map(np.ones((3, 4)), TOKENS),
            r"weights must be square \(query, key\), got shape \(3, 4\)",
        ),
        (
            lambda: figures.attention_map(np.eye(3), TOKENS),
            "weights and tokens must have the same length, got 3 and 5",
        ),
        (lambda: figures.attention_map(np.full((5, 5), np.nan), TOKENS), "weights must be finite numbers, got NaN"),
        (lambda: figures.guess_by_layer([]), "guesses must hold at least one"),
        (lambda: figures.guess_by_layer([(0, "a", 1.5)]), r"probabilities must be in \[0, 1\], got values from 1.5"),
        (
            lambda: figures.probability_bars(["a"], [0.1, 0.2]),
            "tokens and probabilities must have the same length, got 1 and 2",
        ),
        (
            lambda: figures.probability_bars(["a", "b"], [0.1, 0.2], truth=[1]),
            "tokens and truth must have the same length, got 2 and 1",
        ),
        (
            lambda: figures.probability_bars(["a"], [0.1], chosen="b"),
            "chosen must be one of the tokens shown, got 'b'",
        ),
        (
            lambda: stage_times(["a"], [1, 2], [1.0], [1]),
            "names and phases must have the same length, got 1 and 2",
        ),
        (lambda: stage_times(["a"], [9], [1.0], [1]), "phase must be 1, 2, 3 or 4, got 9"),
        (lambda: xray(fake_trace(), 30, 0), "layer must be from 0 to 29, got 30"),
        (lambda: xray(fake_trace(), 0, -1), "head must be from 0 to 8, got -1"),
    ],
)
def test_wrong_input_ends_in_a_sentence(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_xray_of_a_trace_whose_parts_disagree():
    trace = fake_trace()
    trace.ids = trace.ids[:-1]
    with pytest.raises(ValueError, match="tokens and ids must have the same length, got 5 and 4"):
        xray(trace, 0, 0)
