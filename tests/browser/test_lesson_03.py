"""Lesson 03's clocks, in a real browser: the widget alone, since the lesson trains five models first."""

import nbformat
from browser.lab import opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


def score(text):
    return text.split("Score ")[1].split(" of")[0]


def test_both_move_and_one_moves_alone(tmp_path):
    cell = nbformat.v4.new_code_cell("from course_lib.lessons.lesson_03.figures import turning_pairs\nturning_pairs()")
    small = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "clocks.ipynb")
    with opened(tmp_path / "clocks.ipynb") as lesson:
        together = lesson.drive("both move", steps=15)
        assert "Query at position 36, key at 20, distance 16" in together.before.text
        assert "Query at position 21, key at 5, distance 16" in together.after.text
        assert score(together.before.text) == score(together.after.text)
        assert together.before.pictures != together.after.pictures

        alone = lesson.drive("query alone", steps=15)
        assert "Query at position 6, key at 5, distance 1" in alone.after.text
        assert score(alone.before.text) != score(alone.after.text)
        print(f"clocks: {alone.median:.0f} ms from key to picture")

        cell = lesson.cell(lesson.handle("query alone"))
        assert "Score 4.00 of at most 4" in lesson.enter(cell, "query alone", "0").text
        assert "distance 0" in cell.get_by_role("img").get_attribute("alt")
