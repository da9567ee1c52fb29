"""Lesson 12's sampling lab, in a real browser: the widget alone, since the lesson generates for half a minute first."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = (
    "from course_lib import load\nfrom course_lib.lessons.lesson_12.figures import sampling_lab",
    "sampling_lab(load('smollm2-135m'), 'The dog ran up the', max_new_tokens=4)",
)


def test_each_setting_can_be_used_by_its_label_and_the_keyboard(tmp_path):
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "lab.ipynb")
    with opened(tmp_path / "lab.ipynb") as lesson:
        driven = lesson.drive("temperature", steps=5)  # from 1 to 0.75
        assert driven.before.pictures != driven.after.pictures
        assert "49,152 tokens → temperature 0.75: 49,152" in driven.after.text
        print(f"sampling lab: {driven.median:.0f} ms from key to picture")
        cell = lesson.cell(lesson.handle("temperature"))
        lesson.enter(cell, "temperature", "1")
        assert "49,152 tokens → top-k 40: 40" in lesson.enter(cell, "top-k", "40").text
        assert "top-k 40: 40 → top-p 0.5: " in lesson.enter(cell, "top-p", "0.5").text
        text = lesson.enter(cell, "min-p", "0.3").text
        assert "→ min-p 0.3: " in text
        assert "repetition penalty 1.5: 49,152" in lesson.enter(cell, "penalty", "1.5").text
        assert "min-p 0.3" in cell.get_by_role("img").get_attribute("alt")
        assert text.count("seed ") == 3
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "sampling_lab.png")
