"""Lesson 14's exchanged pieces, in a real browser: the widget alone, on the real model."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELL = """from course_lib import load
from course_lib.classroom.assembly import assemble
from course_lib.lessons.lesson_14.figures import exchange_playground
exchange_playground(assemble(load("smollm2-135m", on="cpu")), "The dog ran up the", "swiglu", "as it should be")"""


def test_a_piece_and_its_version_can_be_chosen_and_the_prompt_changed(tmp_path):
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "pieces.ipynb")
    with opened(tmp_path / "pieces.ipynb") as lesson:
        cell = lesson.cell(lesson.page.get_by_text("version", exact=True))

        def said(text):  # the model runs for a second or more: until then the cell stands still, too
            cell.get_by_role("status").filter(has_text=text).wait_for(timeout=300_000)
            return lesson.wait_until_still(cell)

        before = said("After “The dog ran up the”: ␣hill 23.8%")
        version = cell.get_by_label("version", exact=True)
        version.select_option("it bends by GELU: silu(z) is z · sigmoid(z)")
        broken = said("with a slip in swiglu (it bends by GELU")
        assert broken.pictures != before.pictures

        cell.get_by_label("piece", exact=True).select_option("causal_mask")
        said("After “The dog ran up the”: ␣hill 23.8%")
        version.select_option("a query sees one token too many, the one right after it")
        said("with a slip in causal_mask")
        field = cell.get_by_label("prompt", exact=True)
        field.fill("Once upon a")
        field.press("Enter")
        said("After “Once upon a” with a slip in causal_mask")
        assert "with a slip in causal_mask" in cell.get_by_role("img").get_attribute("alt")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "pieces.png")
