"""Every notebook is a lesson of lessons.toml, by the key in its metadata, and what stands there is what it says."""

import json
import re
from statistics import mean

import pytest

import course_lib.lessons
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import key_of, lesson_names
from course_lib.lessons import course, exercises

NAMES = lesson_names()


def test_each_lesson_has_one_notebook_and_they_come_in_its_order():
    assert [key_of(LESSONS / name) for name in NAMES] == list(course())


def test_each_exercise_is_one_of_its_lesson():
    for exercise in exercises().values():
        assert f"lesson={exercise.lesson!r}".replace("'", '"') in source(exercise.lesson)


def source(key):
    folder = course_lib.lessons.__path__[0]
    paths = sorted((LESSONS.parent / folder / course()[key].folder).glob("*.py"))
    return "".join(path.read_text("utf-8") for path in paths)


@pytest.mark.parametrize("name", NAMES)
def test_the_banner_says_its_minutes_and_the_folder_its_phase(name):
    lesson = course()[key_of(LESSONS / name)]
    cells = json.loads((LESSONS / name).read_text("utf-8"))["cells"]
    row = next(line for cell in cells for line in cell["source"] if line.startswith("| **Time**"))
    first, last, unit = re.search(r"(?:(\d+) to )?(\d+) (minutes|hours)", row).groups()
    assert lesson.minutes == mean([int(first or last), int(last)]) * (60 if unit == "hours" else 1)
    if folder := re.match(r"phase_(\d)", name):
        assert lesson.phase == int(folder[1])
