import re
from itertools import pairwise

import pytest
from matplotlib.colors import to_hex

from course_lib.drawing.style import png
from course_lib.lessons.lesson_13.figures import (
    COLOURS,
    EARLIER,
    FUTURE,
    NOW,
    REFUSED,
    RunFigure,
    Story,
    cost_curves,
    in_words,
    moment,
    run_figure,
    run_stepper,
    runs_with_cache,
    runs_with_draft,
    runs_without_cache,
)
from course_lib.prediction.speculative import Round

PROMPT, NEW = ("The", " dog", " ran", " up"), (" the", " hill", ".", " The", " dog")
ROUNDS = (Round((7, 8), 0, (1,)), Round((), 0, (2,)), Round((3, 4), 1, (3, 5)), Round((6,), 0, (6,)))
STORY = Story(PROMPT, NEW, ROUNDS, ((" a", " road"), (), (".", " A"), (" cat",)))
LONG = Story(  # as long as the lesson's, with as many tokens as there may be
    tuple(f" w{i}" for i in range(13)),
    tuple(f" n{i}" for i in range(11)),
    tuple(Round((1,), 0, (1,)) for _ in range(11)),
    tuple((" x",) for _ in range(11)),
)


def test_rows_of_each_way_by_hand():
    assert [run.rows for run in runs_without_cache(4, 5)] == [4, 5, 6, 7, 8]
    assert [(run.cached, run.rows) for run in runs_with_cache(4, 5)] == [(0, 4), (4, 1), (5, 1), (6, 1), (7, 1)]
    drafted = [(run.cached, run.rows, run.refused, run.text) for run in runs_with_draft(4, ROUNDS)]
    assert drafted == [(0, 6, 2, 5), (4, 1, 0, 6), (5, 3, 1, 8), (7, 2, 1, 9)]
    assert all(runs[-1].text == 9 for runs in STORY.ways.values())


def test_with_a_cache_each_row_is_computed_once():
    for n_prompt, n_new in ((1, 1), (4, 5), (20, 100)):
        runs = runs_with_cache(n_prompt, n_new)
        assert sum(run.rows for run in runs) == n_prompt + n_new - 1
        assert all(run.cached == before.cached + before.rows for before, run in pairwise(runs))
    assert sum(run.rows for run in runs_without_cache(20, 100)) == 6950


def test_a_moment_says_how_far_each_way_has_come():
    now = moment(STORY, "cache and draft", 3)
    assert now.so_far == {"no cache": (22, 4), "cache": (7, 4), "cache and draft": (10, 3)}
    assert now.labels == [*PROMPT, *NEW[:2], ".", " A"]
    assert in_words(now) == (
        "Run 3 of 4, cache and draft: 3 rows computed (“hill” to “A”), 5 rows out of the cache. Of 2 guesses 1 is "
        "accepted. The text gains “. The”. A text of 8 tokens takes: no cache 22 rows in 4 runs; cache 7 rows in 4 "
        "runs; cache and draft 10 rows in 3 runs."
    )
    assert "4 rows computed (“The” to “up”), none out of a cache." in in_words(moment(STORY, "cache", 1))
    assert "1 row computed (“hill”), 5 rows out of the cache." in in_words(moment(STORY, "cache", 3))


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="way must be one of 'no cache', 'cache', 'cache and draft', got 'magic'"):
        moment(STORY, "magic", 1)
    for step in (0, 5):
        with pytest.raises(ValueError, match=f"step must be from 1 to 4, the runs of this way, got {step}"):
            moment(STORY, "cache and draft", step)
    with pytest.raises(ValueError, match="at most 24 tokens, got 25"):
        Story(PROMPT, NEW + 16 * (" a",), ROUNDS, STORY.guesses)
    with pytest.raises(ValueError, match="rounds must make as many tokens as new has"):
        Story(PROMPT, NEW[:4], ROUNDS, STORY.guesses)


def test_the_picture_shows_the_rows_of_the_run():
    figure = run_figure(STORY, "cache and draft", 3)
    table, strip, bars = figure.axes
    drawn = table.images[0].get_array()
    assert drawn.shape == (9, 9)  # as many rows as there ever are, the last guess among them
    assert [int(drawn[row, 0]) for row in range(9)] == [2] * 5 + [3] * 2 + [4] + [0]
    assert all(drawn[row, column] in (0, 1) for row in range(9) for column in range(row + 1, 9))
    assert strip.images[0].get_array()[0].tolist() == [1] * 5 + [2] * 2 + [3] + [0]
    assert [text.get_text().strip("␣") for text in table.texts][:8] == [
        "The",
        "dog",
        "ran",
        "up",
        "the",
        "hill",
        ".",
        "A",
    ]
    assert [bar.get_width() for bar in bars.patches] == [22, 7, 10]
    assert [text.get_text().strip() for text in bars.texts] == [
        "22 rows in 4 runs",
        "7 rows in 4 runs",
        "10 rows in 3 runs",
    ]
    assert png(figure) != png(run_figure(STORY, "cache and draft", 2))


def test_nothing_of_any_run_leaves_the_picture_and_each_colour_is_in_the_legend():
    live = RunFigure(LONG, "What does this run compute anew?")
    for way, runs in LONG.ways.items():
        now = moment(LONG, way, len(runs))  # the largest numbers
        live.png(now)
        for text in (*live.numbers, live.heading, live.said):
            assert text.get_window_extent().x1 < 0.985 * live.figure.bbox.width, (way, text.get_text())
        legend = {to_hex(key.get_facecolor()) for key in live.figure.legends[0].get_patches()}
        bars = {name: to_hex(bar.get_facecolor()) for name, bar in zip(LONG.ways, live.bars, strict=True)}
        others = {colour for name, colour in bars.items() if name != way}
        assert len(legend) == 5 and not others & legend and bars[way] in legend
        assert {to_hex(COLOURS[code]) for code in (FUTURE, EARLIER, NOW, REFUSED)} < legend


def test_cost_curves_are_the_numbers():
    lines = {"no cache": {16: 136, 64: 2080}, "cache": {16: 16, 64: 64}}
    figure = cost_curves({"rows": lines, "ms": lines}, "What does it cost?", "tokens")
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[136, 2080], [16, 64]]
    assert len(figure.axes) == 2 and png(figure)
    for panels in ({}, {"rows": {str(i): {1: 1} for i in range(4)}}):
        with pytest.raises(ValueError, match="panels must hold"):
            cost_curves(panels, "?", "tokens")


# ---- the widget ---------------------------------------------------------------------------------


def test_the_widget_answers_each_control():
    box = run_stepper(STORY)
    choice, row, picture, words = box.children
    number, slider = row.children
    pictures = [picture.value]
    assert "Run 1 of 5, cache: 4 rows computed" in words.value
    slider.value = 4
    pictures.append(picture.value)
    assert "Run 4 of 5, cache: 1 row computed" in words.value
    choice.value = "no cache"
    pictures.append(picture.value)
    assert "Run 4 of 5, no cache: 7 rows computed" in words.value
    slider.value = 5
    choice.value = "cache and draft"  # which has four runs
    pictures.append(picture.value)
    assert "Run 4 of 4, cache and draft" in words.value
    assert len(set(pictures)) == 4 and number.description == "run"
    assert re.search(r'<img alt="Run 4 of 4, cache and draft', picture.value)
