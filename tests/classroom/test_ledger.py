"""The claim ledger says what the lessons say, and every claim that the course set out to test is in it."""

import json

import pytest

from course_lib.classroom import ledger, verdict
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import key_of, lesson_names

# What the course set out to test, lesson by lesson: a piece of each claim.
EXPECTED = {
    "01": ("token boundaries", "text becomes words"),
    "02": ("rich vector representations",),
    "03": ("binary vectors", "dog in position 2", "word order is meaningless"),
    "04": ("quality",),
    "05": ("every other word",),
    "06": ("context understanding", "all tokens simultaneously"),
    "07": ("vanishing", "flow of information"),
    "08": ("extract patterns", "actual reasoning"),
    "09": ("120 layers", "semantics", "100 billion"),
    "10": ("probability distribution", "determine the quality"),
    "12": ("greedy", "creative", "top-p", "same logits"),
    "13": ("previous tokens",),
}
WRITTEN = {key_of(LESSONS / name) for name in lesson_names()}


@pytest.fixture(scope="module")
def found():
    return ledger.entries()


def test_the_course_set_out_to_test_24_claims():
    assert sum(map(len, EXPECTED.values())) == 24


@pytest.mark.parametrize("lesson", sorted(EXPECTED.keys() & WRITTEN))
def test_a_lessons_claims_are_all_decided(lesson, found):
    claims = [one.claim.lower() for one in found if one.lesson == lesson]
    assert len(claims) == len(EXPECTED[lesson])
    for piece in EXPECTED[lesson]:
        assert sum(piece in claim for claim in claims) == 1, piece


def test_once_all_lessons_are_there_so_are_all_claims(found):
    assert not EXPECTED.keys() <= WRITTEN or len(found) == 24


def test_the_page_and_the_readme_are_up_to_date(found):
    assert ledger.PAGE.read_text("utf-8") == ledger.page(found), "`make claims`"
    readme = ledger.README.read_text("utf-8")
    assert readme == ledger.with_table(readme, found), "`make claims`"


def lesson_with(tmp_path, *outputs):
    cell = dict(cell_type="code", id="07-00", metadata={"tags": ["claim"]}, source="", outputs=list(outputs))
    notebook = {"cells": [cell], "metadata": {"course": {"lesson": "07"}}}
    (tmp_path / "07_small.ipynb").write_text(json.dumps(notebook), "utf-8")
    return tmp_path


def test_a_verdict_is_read_as_it_was_given(tmp_path):
    given = verdict("All is | one.", "holds, but…", "of 7, 6\nare “so”.")
    lesson = lesson_with(tmp_path, {"output_type": "execute_result", "data": {"text/plain": repr(given)}})
    [one] = ledger.entries(lesson)
    assert (one.claim, one.verdict, one.because) == ("All is | one", "holds, but…", "of 7, 6\nare “so”")
    assert one.path == f"{tmp_path.name}/07_small.ipynb" and one.lesson == "07"
    row = ledger.table([one], "../").splitlines()[-1]
    assert row == rf"| All is \| one | [07](../{one.path}) | **holds, but…** | Of 7, 6 are “so” |"


@pytest.mark.parametrize("outputs", [[], [{"output_type": "stream", "text": "7"}], [{"data": {"text/plain": "7"}}]])
def test_a_claim_cell_without_a_verdict_is_an_error(tmp_path, outputs):
    with pytest.raises(ValueError, match=r"07_small\.ipynb, cell 07-00"):
        ledger.entries(lesson_with(tmp_path, *outputs))


@pytest.mark.parametrize("readme", ["", ledger.BEGIN, f"{ledger.END}{ledger.BEGIN}", 2 * (ledger.BEGIN + ledger.END)])
def test_a_readme_without_its_two_markers_is_an_error(readme):
    with pytest.raises(ValueError, match="each once"):
        ledger.with_table(readme, [])
