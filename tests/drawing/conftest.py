"""Widgets as a learner meets them, in all tests here: sliders as a browser moves them, and text that must be readable.

So whoever tests a widget has tested this, too.
"""

import math
import re

import ipywidgets
import pytest
from drawing.themes import faint
from traitlets import observe, validate


@pytest.fixture(autouse=True)
def as_in_a_browser(monkeypatch):
    shown = []

    class HTML(ipywidgets.HTML):
        @observe("value")
        def _keep(self, change):
            shown.append(change.new)

    class FloatSlider(ipywidgets.FloatSlider):
        @validate("value")
        def _validate_value(self, proposal):
            """A step of a slider in a browser ends at 17.999999999999996, not at 18."""
            return math.nextafter(super()._validate_value(proposal), 0)

    monkeypatch.setattr(ipywidgets, "HTML", HTML)
    monkeypatch.setattr(ipywidgets, "FloatSlider", FloatSlider)
    yield
    for html in shown:
        assert faint(html) == []
        said = re.sub(r'(src|style)="[^"]*"', "", html)
        assert not re.search(r"\d\.\d{6}", said), f"a number with too many digits: {said}"
