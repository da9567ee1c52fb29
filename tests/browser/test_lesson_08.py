"""Lesson 08's neuron playground, in a real browser."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = (
    "from course_lib import load\nfrom course_lib.lessons.lesson_08.figures import neuron_playground",
    "neuron_playground(load('smollm2-135m'), 'The dog ran up the hill.', 26, 205)",
)


def test_everything_on_the_neuron_playground_can_be_used(tmp_path):
    """By its label and the keyboard; and what is wrong with the text is said in place."""
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "neurons.ipynb")
    with opened(tmp_path / "neurons.ipynb") as lesson:
        slider = lesson.handle("neuron")
        cell = lesson.cell(slider)

        def shown():
            return lesson.wait_until_still(cell).text

        first = shown()
        assert "Layer 26, neuron 205: it fires most at token 4 of 7, ␣up" in first and "␣the" in first
        assert cell.get_by_role("listitem").count() == 7
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "neurons_neuron.png")

        slider.focus()
        lesson.page.keyboard.press("ArrowLeft")
        assert "neuron 204:" in shown()
        lesson.enter(cell, "layer", "29")
        assert "Layer 29, neuron 204" in shown()
        cell.get_by_role("button", name="the neuron that fires most in this layer").click()
        assert "Layer 29, neuron 204" not in shown()

        def write(text):
            return lesson.enter(cell, "text", text).text

        assert "2 to 64 can be shown" in write("dog") and cell.get_by_role("listitem").count() == 0
        assert "⚠" not in write("<b>bold</b> & $x$ again") and cell.get_by_role("listitem").count() > 4
