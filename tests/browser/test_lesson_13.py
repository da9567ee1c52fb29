"""Lesson 13's runs, in a real browser: the widget alone, on a text that a model need not write first."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELL = """from course_lib.prediction.speculative import Round
from course_lib.lessons.lesson_13.figures import Story, run_stepper
prompt = ("The", " dog", " ran", " up", " the", " hill", ".", " The", " cat", " ran")
new = (" down", ".", " The", " dog", " ran", " up", " the", " hill", ".", " The")
rounds = [Round((1, 2, 3), 0, (1,)), Round((), 0, (1,)), Round((1, 2, 3), 1, (1, 2))]
rounds += [Round((1, 2, 3), 3, (1, 2, 3, 4)), Round((1,), 1, (1, 2))]
guesses = [(" up", " the", " hill"), (), (" The", " cat", " ran"), (" ran", " up", " the"), (".",)]
run_stepper(Story(prompt, new, tuple(rounds), tuple(guesses)), step=7)"""


def test_the_runs_can_be_stepped_through_by_keys_and_another_way_chosen(tmp_path):
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "runs.ipynb")
    with opened(tmp_path / "runs.ipynb") as lesson:
        stepped = lesson.drive("run", steps=6)
        assert "Run 7 of 10, cache: 1 row computed (“up”), 15 rows out of the cache" in stepped.before.text
        assert "Run 1 of 10, cache: 10 rows computed (“The” to “ran”)" in stepped.after.text
        assert stepped.before.pictures != stepped.after.pictures
        print(f"runs: {stepped.median:.0f} ms from key to picture")

        cell = lesson.cell(lesson.handle("run"))
        lesson.choose(cell, "way", "cache and draft")
        text = lesson.enter(cell, "run", "3").text
        assert "Run 3 of 5, cache and draft: 4 rows computed" in text and "Of 3 guesses 1 is accepted" in text
        assert "cache and draft 18 rows in 3 runs" in cell.get_by_role("img").get_attribute("alt")
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "runs_draft.png")
