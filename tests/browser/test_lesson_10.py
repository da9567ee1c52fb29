"""Lesson 10's scores, in a real browser: the widget alone, since the lesson trains a model first."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELL = """from math import log
from course_lib.lessons.lesson_10.figures import moving_scores
parts = {"hill": 72, "road": 8, "yard": 6, "lane": 4, "stairs": 3, "bank": 3, "path": 2, "field": 2}
moving_scores(list(parts), [log(part) for part in parts.values()])"""


def test_the_scores_can_be_moved_by_keys_one_and_all(tmp_path):
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "scores.ipynb")
    with opened(tmp_path / "scores.ipynb") as lesson:
        lowered = lesson.drive("add to it", steps=8)  # hill: from 0 to −2
        assert "hill 4.28: 72.0%, " in lowered.before.text and "hill 2.28: 72.0% → 25.8%" in lowered.after.text
        assert lowered.before.pictures != lowered.after.pictures
        print(f"scores: {lowered.median:.0f} ms from key to picture")

        cell = lesson.cell(lesson.handle("add to it"))
        lesson.choose(cell, "one score", "lane")
        text = lesson.enter(cell, "add to all", "100").text
        assert "hill 104.28" in text and "lane 99.39" in text and "not a number, for ∞ / ∞" in text
        assert "lane 99.39" in cell.get_by_role("img").get_attribute("alt")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "scores_moved.png")
