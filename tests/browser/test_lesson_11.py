"""Lesson 11's valley, in a real browser: the widget alone, since the lesson trains its models first."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELL = """from course_lib.visuals.training import Descent, valley_playground
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
        field = cell.get_by_label("log10 rate", exact=True)
        field.fill("-1")
        field.press("Enter")
        cell.get_by_label("schedule").select_option("warm-up and cosine")
        cell.get_by_label("method").select_option("momentum")
        lesson.wait_until_still(cell)
        said = "momentum, learning rate 0.1, beta 0.9, warm-up and cosine, in a valley turned by 15 degrees"
        assert said in lesson.seen(cell).text
        assert said in cell.get_by_role("img").get_attribute("alt")
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "valley_momentum.png")
