"""Lesson 00's sampling playground, in a real browser."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from browser.lab import drive, opened

LESSON = Path(__file__).parents[2] / "notebooks/00_prompt_to_response.ipynb"
PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


def continuations(text):
    return [line for line in text.splitlines() if line.startswith("seed ")]


def test_the_learners_copy_answers_its_slider(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "course_lib", "workspace"],
        env=os.environ | {"COURSE_WORKSPACE": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    driven = drive(tmp_path / LESSON.name, "temperature")
    assert driven.before.pictures != driven.after.pictures
    before, after = continuations(driven.before.text), continuations(driven.after.text)
    assert len(before) == len(after) == 3 and before != after
    assert driven.screenshot.stat().st_size > 10_000


def test_everything_on_the_playground_can_be_used(tmp_path):
    """By its label and the keyboard; and what is wrong with a prompt is said in place."""
    cells = [
        "from course_lib import load\nfrom course_lib.drawing.widgets import sampling_playground",
        "sampling_playground(load('smollm2-135m'), 'The dog ran up the')",
    ]
    small = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)), metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "playground.ipynb")
    with opened(tmp_path / "playground.ipynb") as lesson:
        cell = lesson.cell(lesson.handle("top-p"))

        def enter(label, value):
            lesson.enter(cell, label, value)
            return lesson.wait_until_still(cell, unfinished="…")

        def alt():
            return cell.get_by_role("img").get_attribute("alt")

        assert "All 49,152 tokens can be drawn" in lesson.wait_until_still(cell).text
        assert "temperature 1.00 and top-p 1.00: ␣hill 23.8%" in alt()

        seen = enter("top-p", "0.5")
        assert "4 of 49,152 tokens can be drawn" in seen.text and "top-p 0.50" in alt()
        seen = enter("temperature", "0")
        assert "Greedy" in seen.text and len({line[7:] for line in continuations(seen.text)}) == 1

        seen = enter("prompt", "")
        assert "The prompt is empty" in seen.text and not seen.pictures and not continuations(seen.text)
        assert "takes up to 128" in enter("prompt", "dog " * 200).text
        lesson.handle("temperature").press("ArrowRight")
        seen = enter("prompt", "<b>Two</b> & $x$ make")
        assert "⚠" not in seen.text and len(seen.pictures) == 1 and len(continuations(seen.text)) == 3

        enter("top-p", "1")
        # a slider that moves while the continuations come: they start again, and end with the last settings
        handle = lesson.handle("temperature")
        for _ in range(4):
            lesson.press(handle, cell, "ArrowRight")
            lesson.page.wait_for_timeout(700)
        lesson.wait_until_still(cell, unfinished="…")
