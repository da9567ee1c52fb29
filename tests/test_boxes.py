"""The thirteen boxes of the picture are found at the library's first door."""

import pkgutil

import pytest

import course_lib
from course_lib import BOXES
from course_lib.drawing.journey import STAGES


def test_they_are_the_boxes_of_the_course_map():
    labels = {stage.label.removeprefix("+ ").split(":")[0] for stage in STAGES if stage.key != "text"}
    assert {"text", *labels} == set(BOXES) and len(BOXES) == 13


@pytest.mark.parametrize("box", BOXES)
def test_each_is_where_the_table_says(box):
    folder = BOXES[box].split(".")[0]
    assert folder in ("input_processing", "transformer_block", "prediction") and folder in course_lib.__doc__
    found = pkgutil.resolve_name(f"course_lib.{BOXES[box]}")
    assert callable(found) and found.__doc__
