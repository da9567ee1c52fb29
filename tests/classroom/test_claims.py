"""A verdict says the same as a box and as text, and is one of three."""

import pytest
from drawing.themes import faint

from course_lib.classroom import verdict
from course_lib.classroom.claims import VERDICTS


def test_the_box_and_the_text_say_the_same():
    one = verdict("1 < 2", "holds, but…", "2 − 1 = 1 & no more")
    assert repr(one).splitlines() == ["Claim:   “1 < 2”", "Verdict: holds, but…", "Because: 2 − 1 = 1 & no more"]
    assert all(piece in one._repr_html_() for piece in ("“1 &lt; 2”", "holds, but…", "2 − 1 = 1 &amp; no more"))


@pytest.mark.parametrize("said", VERDICTS)
def test_the_box_reads_in_both_themes(said):
    assert faint(verdict("1 < 2", said, "2 − 1 = 1")._repr_html_()) == []


@pytest.mark.parametrize(
    "verdict_said, claim, sentence",
    [("true", "x", "must be one of 'holds', 'holds, but…', 'does not hold', got 'true'"), ("holds", " ", "is empty")],
)
def test_what_is_no_verdict_is_refused(verdict_said, claim, sentence):
    with pytest.raises(ValueError, match=sentence):
        verdict(claim, verdict_said, "7")
