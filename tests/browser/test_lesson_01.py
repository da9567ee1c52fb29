"""Lesson 01's token explorer, in a real browser: typed into, as a learner would."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELLS = [
    """from course_lib.pretrained.vocabularies import load_tokenizer
from course_lib.lessons.lesson_01.figures import token_explorer""",
    """names = ("gpt2", "cl100k", "o200k", "qwen", "smollm2")
token_explorer({name: load_tokenizer(name) for name in names}, "The dog ran up the hill")""",
]


def test_typing_changes_the_tokens(tmp_path):
    cells = list(map(nbformat.v4.new_code_cell, CELLS))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), tmp_path / "explorer.ipynb")
    with opened(tmp_path / "explorer.ipynb") as lesson:
        field = lesson.page.get_by_label("text", exact=True)
        field.wait_for(timeout=300_000)
        cell = lesson.cell(field)
        lesson.wait_until_still(cell)
        assert "23 characters, 23 bytes" in lesson.seen(cell).text
        assert cell.get_by_role("list", name="tokens of smollm2").get_by_role("listitem").count() == 6
        assert "2767" in lesson.seen(cell).text

        field.press("End")
        field.press_sequentially("<b>s</b>")  # key by key; markup stays text
        lesson.wait_until_still(cell)
        tokens = cell.get_by_role("list", name="tokens of gpt2").inner_text()
        assert "␣hill" in tokens and "</" in tokens
        assert "31 characters" in lesson.seen(cell).text

        field.fill("")
        lesson.wait_until_still(cell)
        assert "There is no text" in lesson.seen(cell).text
        field.fill("Strawberry 2026: 犬 runs\n" + "up " * 320)
        lesson.wait_until_still(cell)
        assert "The first 300 of" in lesson.seen(cell).text and "<0xE7>" in lesson.seen(cell).text

        field.fill("Strawberry 2026: 犬 runs")
        lesson.wait_until_still(cell)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "token_explorer.png")
