"""Lesson 09's model builder, in a real browser."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = (
    "from course_lib.pretrained.zoo import ZOO\nfrom course_lib.lessons.lesson_09.figures import model_builder",
    "model_builder(ZOO)",
)


def test_everything_on_the_model_builder_can_be_used(tmp_path):
    """By its label and the keyboard; and sizes that do not fit are refused in place."""
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "builder.ipynb")
    with opened(tmp_path / "builder.ipynb") as lesson:
        blocks = lesson.handle("blocks")
        cell = lesson.cell(blocks)

        def shown():
            return lesson.wait_until_still(cell).text

        def enter(label, value):
            return lesson.enter(cell, label, value).text

        assert "134,515,008" in shown() and "smollm2-135m" in shown()
        for _ in range(6):  # from 30 to 24
            blocks.focus()
            lesson.page.keyboard.press("ArrowLeft")
        assert "113,274,432" in shown()
        assert cell.get_by_role("img").get_attribute("aria-label").startswith("24 blocks of width 576: 113 M")
        assert "9 heads cannot share 2 key heads evenly" in enter("key heads", "2")
        assert cell.get_by_role("img").count() == 0
        assert "15.4 kB" not in shown() and "6.14 kB" in enter("key heads", "1")

        enter("width", "16384")
        enter("blocks", "126")
        enter("heads", "128")
        seen = enter("key heads", "8")
        assert "llama-3.1-405b" in seen
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "builder_blocks.png")
        assert "128, 43712" in enter("vocabulary", "128000")
