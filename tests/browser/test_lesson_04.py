"""Lesson 04's batch playground, in a real browser."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = (
    "from course_lib import load\nfrom course_lib.lessons.lesson_04.figures import batch_playground",
    "batch_playground(load('smollm2-135m').tokenizer, ['The dog ran up the hill', 'Hello', 'Two and two'], 2, 0)",
)


def test_everything_on_the_batch_playground_can_be_used(tmp_path):
    """By its label and the keyboard; and what is wrong with the prompts is said in place."""
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "batches.ipynb")
    with opened(tmp_path / "batches.ipynb") as lesson:
        slider = lesson.handle("context")
        cell = lesson.cell(slider)

        def shown():
            return lesson.wait_until_still(cell).text

        def table():
            return cell.get_by_role("img").get_attribute("aria-label")

        assert "3 rows of 6 positions: 8 of 18 hold padding (44.4%)" in shown()
        assert table().startswith("Row 1: 6 × text 1. Row 2: 1 × text 2, 5 × padding.")
        cell.get_by_label("arrange").select_option("pad left")
        shown()
        assert "Row 2: 5 × padding, 1 × text 2." in table()

        for _ in range(12):  # from 16 to 4
            slider.focus()
            lesson.page.keyboard.press("ArrowLeft")
        assert "3 rows of 4 positions" in shown() and "2 tokens did not fit and fell off" in shown()
        cell.get_by_label("arrange").select_option("pack")
        assert "4 rows of 4 positions" in shown() and "Nothing fell off" in shown()
        assert "end token" in table()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "batches_context.png")

        def write(prompts):
            field = cell.get_by_label("prompts")
            field.fill(prompts)
            field.blur()
            return shown()

        assert "There is no prompt" in write(" \n ") and cell.get_by_role("img").count() == 0
        assert "more than can be shown here" in write("dog\n" * 13)
        assert "⚠" not in write("<b>bold</b> & $x$\nHello") and "end token" in table()
