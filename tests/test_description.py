"""What a file may say, and the sentence where it says something else."""

import pytest

from course_lib.description import Description, Ids, Positive, Size, read_json


class Settings(Description):
    size: Size
    theta: Positive = 1.0
    tied: bool = False
    ends: Ids = None


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({}, "a.json lacks size"),
        ({"size": None}, "a.json: size is None, it must be a valid integer"),
        ({"size": "3"}, "a.json: size is '3', it must be a valid integer"),
        ({"size": True}, "a.json: size is True, it must be a valid integer"),
        ({"size": 3.0}, "a.json: size is 3.0, it must be a valid integer"),
        ({"size": 0}, "a.json: size is 0, it must be greater than or equal to 1"),
        ({"size": 10**12}, "a.json: size is 1000000000000, it must be less than or equal to 16777216"),
        ({"size": 3, "theta": float("nan")}, "a.json: theta is nan, it must be"),
        ({"size": 3, "theta": float("inf")}, "a.json: theta is inf, it must be"),
        ({"size": 3, "theta": 10**400}, "a.json: theta is 1000"),
        ({"size": 3, "theta": -1}, "a.json: theta is -1, it must be greater than 0"),
        ({"size": 3, "tied": "x"}, "a.json: tied is 'x', it must be a valid boolean"),
        ({"size": 3, "ends": "x"}, "a.json: ends.0 is 'x', it must be a valid integer"),
        ({"size": 3, "ends": [2, 1.5]}, "a.json: ends.1 is 1.5, it must be a valid integer"),
        ({"theta": "y"}, "a.json: theta is 'y'"),  # what is wrong is said before what is missing
    ],
)
def test_what_does_not_fit_is_a_sentence_with_the_entry(entries, sentence):
    with pytest.raises(ValueError) as refused:
        Settings.of("a.json", entries)
    assert str(refused.value).startswith(sentence) and len(str(refused.value)) < 160


def test_what_fits_is_taken_and_the_rest_passed_over():
    assert Settings.of("a.json", {"size": 3, "theta": 2, "other": object()}) == Settings(size=3, theta=2.0)
    assert [Settings(size=1, ends=ends).ends for ends in (None, 3, [3, 4])] == [[], [3], [3, 4]]


@pytest.mark.parametrize("content", [b"[1]", b"null", b"3", b"{", b"", b"[" * 100_000, b"\xff\xfe{}", b"9" * 5000])
def test_a_file_that_holds_no_object_is_a_sentence(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.json (cannot be read as JSON|must hold a JSON object)"):
        read_json(tmp_path / "a.json")
