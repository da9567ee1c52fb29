"""Slides out of lessons: nothing of a lesson is lost, no solution is shown, and the page needs nothing but itself."""

import re
from xml.sax.saxutils import quoteattr

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.classroom.location import LESSONS
from course_lib.classroom.slides import as_page, as_slides, drawn
from course_lib.classroom.workspace import lesson_names

LESSON = new_notebook(
    cells=[
        new_markdown_cell("# 05 · A lesson\n\nIts first paragraph.\n\nIts second paragraph."),
        new_code_cell("one = 1\nprint(one)", outputs=[new_output("stream", name="stdout", text="1\n")]),
        new_markdown_cell("What that means, with $e^{-x}$."),
        new_markdown_cell(
            "---\n# Part\n\n## Section\n\n" + "Short enough. " + "Long. " * 120 + "\n\n* a list\n* of two"
        ),
        new_code_cell(
            "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION\n",
            metadata={"nbgrader": {"solution": True}},
        ),
        new_code_cell("check(double)", outputs=[new_output("stream", name="stdout", text="✓\n")]),
        new_code_cell("### BEGIN HIDDEN TESTS\ngrade(double)", metadata={"nbgrader": {"grade": True}}),
        new_code_cell("\n".join(f"print({n})" for n in range(25)), outputs=[new_output("stream", text="n\n" * 25)]),
        new_code_cell("hidden = 1", metadata={"slideshow": {"slide_type": "skip"}}),
    ]
)


def typed(slides):
    return [(cell.metadata.slideshow.slide_type, cell.source) for cell in slides.cells]


def test_headings_begin_slides_prose_becomes_notes_code_follows():
    made = typed(as_slides(LESSON))
    assert made[0] == ("slide", "# 05 · A lesson\n\nIts first paragraph.")
    assert made[1] == ("notes", "Its second paragraph.")
    assert made[2] == ("subslide", "one = 1\nprint(one)")
    assert made[3][0] == "notes" and '<img class="formula" alt="e^{-x}"' in made[3][1]
    assert made[4] == ("slide", "# Part")
    kind, section = made[5]
    assert kind == "slide" and section.startswith("## Section\n\nShort enough. Long. ") and len(section) < 600
    assert section.endswith("* a list\n* of two") and made[6][0] == "notes" and made[6][1].startswith("Long. ")
    assert made[-1] == ("skip", "hidden = 1")


def test_an_exercise_is_blank_and_its_marks_are_left_out():
    sources = [source for _, source in typed(as_slides(LESSON))]
    assert "def double(x):\n    ..." in sources
    assert not any("2 * x" in source or "check(" in source or "HIDDEN" in source for source in sources)


def test_long_code_and_its_long_output_are_two_slides():
    cells = [cell for cell in as_slides(LESSON).cells if "print(24)" in cell.source]
    assert [bool(cell.outputs) for cell in cells] == [False, True]
    assert "print(24)" not in re.sub(r"<[^>]+>", "", as_page(new_notebook(cells=cells[1:]), "05_x").split("<main>")[1])


@pytest.mark.parametrize("name", [name for name in lesson_names() if "hw" not in name])
def test_no_word_and_no_picture_of_a_lesson_is_lost(name):
    lesson = nbformat.read(LESSONS / name, 4)
    before = nbformat.from_dict(lesson)
    slides = as_slides(lesson)
    text = "\n".join(cell.source for cell in slides.cells if cell.cell_type == "markdown")
    for cell in before.cells:
        if cell.cell_type == "markdown":
            words = re.sub(r"\$[^$]*\$|[-#]", " ", cell.source).split()
            assert all(word in text for word in words), cell.id
    assert "### BEGIN" not in "".join(cell.source for cell in slides.cells)

    def pictures(notebook):
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]

    page = "".join(
        output.get("data", {}).get("text/html", "") for cell in slides.cells for output in cell.get("outputs", [])
    )
    assert all(f"alt={quoteattr(alt)} " in page for alt in pictures(before)) and pictures(slides) == []


def test_a_formula_is_a_picture_with_its_source_as_alt_text():
    assert drawn(r"\frac{a}{b}").startswith(r'<img class="formula" alt="\frac{a}{b}" src="data:image/svg+xml;base64,')
