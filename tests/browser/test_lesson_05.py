"""Lesson 05's query, in a real browser: the widget alone, since the lesson trains thirteen heads first."""

import nbformat
from browser.lab import SCREENSHOTS, opened

PYTHON = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CELL = """from course_lib.lessons.lesson_05.figures import Scene, turning_query
keys = ((0, -1), (2, 0), (1, 1), (0, 2), (-1, -1), (-1, 1))
turning_query(Scene(tuple("The dog ran up the hill".split()), keys, (6, 2, 4, 8, 5, 11)))"""


def test_the_query_can_be_turned_and_stretched_by_keys_and_another_token_may_ask(tmp_path):
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": PYTHON})
    nbformat.write(small, tmp_path / "query.ipynb")
    with opened(tmp_path / "query.ipynb") as lesson:
        turned = lesson.drive("direction", steps=15)
        assert "“hill” asks with the query (1.00, 0.00), and takes: The 11%, dog 45%" in turned.before.text
        assert "“hill” asks with the query (-0.87, -0.50)" in turned.after.text
        assert turned.before.pictures != turned.after.pictures
        print(f"query: {turned.median:.0f} ms from key to picture")

        stretched = lesson.drive("length", steps=4)  # from 1 to 0
        assert "The mix of their values is 6.00" in stretched.after.text

        cell = lesson.cell(lesson.handle("length"))
        lesson.enter(cell, "length", "8")
        text = lesson.choose(cell, "who asks", "ran (position 2)").text
        assert "“ran” asks" in text and "3 later tokens cannot be seen" in text
        assert "3 later tokens cannot be seen" in cell.get_by_role("img").get_attribute("alt")
        cell.locator(".jp-Cell-outputArea").screenshot(path=SCREENSHOTS / "query_asks.png")
