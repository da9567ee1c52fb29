"""Widgets of the lessons as a learner meets them (tests/drawing/conftest.py)."""

from drawing.conftest import as_in_a_browser  # noqa: F401 - a fixture for every test here
