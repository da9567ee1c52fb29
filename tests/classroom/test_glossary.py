"""Every word of the glossary is explained where it says, and the page is what its source makes."""

import json

import pytest

from course_lib.classroom.glossary import PAGE, glossary, terms
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import key_of, lesson_names
from course_lib.drawing.journey import on_the_map

TEXTS = {
    key_of(LESSONS / name): "\n".join(
        "".join(cell["source"])
        for cell in json.loads((LESSONS / name).read_text("utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    ).casefold()
    for name in lesson_names()
}


def test_the_page_is_made_from_its_source():
    assert PAGE.read_text("utf-8") == glossary("../notebooks/"), "python -m course_lib.classroom.glossary"
    for link in (part.split(")")[0] for part in PAGE.read_text("utf-8").split("](")[1:]):
        assert (PAGE.parent / link).is_file(), link


@pytest.mark.parametrize("term", terms())
def test_a_word_stands_in_the_lesson_that_it_leads_to(term):
    lesson, meaning = terms()[term]
    assert (on_the_map(lesson) and meaning[0].isupper()) or meaning[0].isdigit() or meaning.startswith("e ")
    assert meaning.endswith(".") and len(meaning) < 200
    if lesson in TEXTS:
        words = term.casefold().removesuffix("s").replace("-", " ")
        assert words in TEXTS[lesson].replace("-", " ").replace("**", ""), f"{term} is not in lesson {lesson}"
