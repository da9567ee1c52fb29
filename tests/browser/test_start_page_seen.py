"""The start page in a real browser: the map is seen, and a click opens the lesson."""

import json

from browser.lab import SCREENSHOTS, opened

from course_lib.classroom import records
from course_lib.classroom.start_page import write_start_page

EMPTY = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_the_map_is_there_and_a_click_leads_to_the_lesson(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "done_here", set())
    (tmp_path / "progress.json").write_text(json.dumps({"done": ["count_pairs"], "caught_up": ["greedy_choice"]}))
    path = write_start_page(workspace=tmp_path)
    with opened(path) as lesson:
        page = lesson.page
        # nbgrader's says "Success!" of a blank exercise
        assert page.get_by_role("button", name="Validate").count() == page.get_by_text("Nbgrader").count() == 0
        assert page.get_by_text("Jupyter news").count() == 0, "a question stands in the way"
        chart = page.get_by_role("img", name="Course map, you are here").first
        assert chart.evaluate("image => image.naturalWidth") == 960
        assert page.get_by_text("↷").count() and "Done: lessons 00." in chart.get_attribute("alt")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        chart.scroll_into_view_if_needed()
        page.screenshot(path=SCREENSHOTS / "start_page.png")
        page.request.put(f"{lesson.address}/api/contents/phase_1_input_processing", data={"type": "directory"})
        there = "phase_1_input_processing/01_text_to_tokens.ipynb"
        page.request.put(f"{lesson.address}/api/contents/{there}", data={"type": "notebook", "content": EMPTY})
        page.get_by_role("link", name="01 · Text to tokens").first.click()
        page.get_by_role("tab", name="01_text_to_tokens.ipynb").first.wait_for(timeout=300_000)
