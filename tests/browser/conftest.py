"""Lesson 00 in a browser shows that the way there works; every other widget is for `make test-all`."""

from pathlib import Path

import pytest

QUICK = "test_lesson_00.py"


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name != QUICK:
            item.add_marker(pytest.mark.slow)
