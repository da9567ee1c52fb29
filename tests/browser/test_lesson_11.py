"""Lesson 11's valley, in a real browser: the widget alone, since the lesson trains its models first."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELL = """from course_lib.lessons.lesson_11.figures import Descent, valley_playground
valley_playground(Descent("AdamW", learning_rate=0.3, turn=30))"""


def test_the_valley_can_be_turned_and_walked_by_each_method(tmp_path):
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "valley.ipynb")
    with opened(tmp_path / "valley.ipynb") as lesson:
        turned = lesson.drive("turn", steps=15)
        assert "AdamW, learning rate 0.32, beta 0.9, in a valley turned by 30 degrees" in turned.before.text
        assert "in a valley turned by 15 degrees" in turned.after.text
        assert turned.before.pictures != turned.after.pictures
        print(f"valley: {turned.median:.0f} ms from key to picture")

        cell = lesson.cell(lesson.handle("beta"))
        lesson.enter(cell, "log10 rate", "-1")
        lesson.choose(cell, "schedule", "warm-up and cosine")
        text = lesson.choose(cell, "method", "momentum").text
        said = "momentum, learning rate 0.1, beta 0.9, warm-up and cosine, in a valley turned by 15 degrees"
        assert said in text
        assert said in cell.get_by_role("img").get_attribute("alt")
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "valley_momentum.png")
