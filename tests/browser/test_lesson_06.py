"""Lesson 06's head explorer, in a real browser."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = (
    "from course_lib import load\nfrom course_lib.lessons.lesson_06.figures import head_explorer",
    "head_explorer(load('smollm2-135m'), 'The dog ran up the hill', layer=16, head=0)",
)

REPEATED = "The dog ran up the hill. The dog ran up the"


def test_everything_on_the_head_explorer_can_be_used(tmp_path):
    """By its label and the keyboard; and what is wrong with the text is said in place."""
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "heads.ipynb")
    with opened(tmp_path / "heads.ipynb") as lesson:
        layer, head = lesson.handle("layer"), lesson.handle("head")
        cell = lesson.cell(layer)

        def shown():
            return lesson.wait_until_still(cell).text

        def alt():
            return cell.get_by_role("img").get_attribute("alt")

        assert "Layer 16, head 0: 88.1% of the weight goes to the token before" in shown()
        assert "␣ran → ␣dog" in alt()
        lesson.press(layer, cell, "ArrowRight")
        lesson.press(layer, cell, "ArrowRight")
        for _ in range(6):
            lesson.press(head, cell, "ArrowRight")
        assert "Layer 18, head 6" in shown() and "looks mostly at the first token" in shown()

        def write(text):
            return lesson.enter(cell, "text", text).text

        assert "looks mostly at what followed it earlier" in write(REPEATED)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "heads_layer.png")
        assert "needs at least two tokens" in write("") and cell.get_by_role("img").count() == 0
        assert "has room for 24" in write("dog " * 30)
        assert "⚠" not in write("<b>bold</b> & $x$") and "Where each token looks most" in alt()
