"""Lesson 07's chain of layers, in a real browser."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = ("from course_lib.lessons.lesson_07.figures import chain_playground\nchain_playground(depth=48)",)


def test_everything_on_the_chain_playground_can_be_used(tmp_path):
    """By its label and the keyboard; each step of a slider draws another picture."""
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "chain.ipynb")
    with opened(tmp_path / "chain.ipynb") as lesson:
        slider = lesson.handle("layers")
        cell = lesson.cell(slider)

        def shown():
            return lesson.wait_until_still(cell).text

        def alt():
            return cell.locator("img").get_attribute("alt")

        assert "Vanished: of a gradient of length 1" in shown()
        assert alt().startswith("48 layers without residual connections, no norm, weight scale 1.00.")
        took = [lesson.press(slider, cell, "ArrowRight") for _ in range(6)]
        print(f"layers: {sorted(took)[3]:.0f} ms from key to picture")
        shown()
        assert alt().startswith("54 layers")

        cell.get_by_label("weight scale").fill("1.4")
        cell.get_by_label("weight scale").blur()
        assert "Arrived" in shown() and "weight scale 1.40" in alt()
        cell.get_by_label("residual").select_option("on: add to the row")
        assert "Exploded" in shown()
        cell.get_by_label("norm").select_option("before each layer")
        assert "Arrived" in shown() and "a norm before each layer" in alt()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "chain_layers.png")
