"""Lesson 02's neighbours, in a real browser."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = [
    "from course_lib import load\nfrom course_lib.lessons.lesson_02.figures import neighbours_playground",
    "neighbours_playground(load('smollm2-135m'), {'animal': ['dog', 'cat'], 'place': ['hill', 'road', 'city']})",
]


def test_a_word_its_neighbours_and_what_is_no_token(tmp_path):
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "near.ipynb")
    with opened(tmp_path / "near.ipynb") as lesson:
        driven = lesson.drive("neighbours", steps=5)
        assert driven.before.pictures != driven.after.pictures
        assert "␣Dog 0.80" in driven.after.text
        assert driven.before.text.count(" 0.") == 13 and driven.after.text.count(" 0.") == 8
        cell = lesson.cell(lesson.handle("neighbours"))

        def enter(value):
            return lesson.enter(cell, "word", value)

        assert "␣hills" in enter("hill").text
        assert cell.get_by_role("img").get_attribute("alt").startswith("The nearest tokens of ␣hill, by cosine")
        cell.get_by_label("take the mean of all rows off").press("Space")
        text = lesson.wait_until_still(cell).text
        assert "␣mountain" in text and "␣hillside" not in text
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "near_hill.png")
        cell.get_by_label("with a space before it").press("Space")
        assert "of hill, by cosine" in lesson.wait_until_still(cell).text
        seen = enter("unicorn")
        assert "“unicorn” has no row of its own" in seen.text and not seen.pictures
        assert "The field is empty" in enter("").text
        assert enter("<b>dog</b>").text.count("⚠") == 1
        assert len(enter("dog").pictures) == 1
