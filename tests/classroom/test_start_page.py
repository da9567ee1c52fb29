"""The start page: where one is, how much is left, where to go on. And catch-up, for whoever has fallen behind."""

import json
import os

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib import __main__ as main
from course_lib.classroom import records, start
from course_lib.classroom.catch_up import catch_up
from course_lib.classroom.exercises import exercises
from course_lib.classroom.start_page import PAGE, Standing, next_up, page, standings, write_start_page
from course_lib.classroom.workspace import LESSONS, WHATS_NEW, copy_lessons, lesson_names


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(records, "done_here", set())
    copy_lessons()
    return tmp_path


def save(workspace, name, at, run=1.0):
    """What JupyterLab does when the first part of the cells was run, at a moment in seconds."""
    notebook = nbformat.read(workspace / name, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code[: round(run * len(code))]):
        cell.execution_count = number + 1
    nbformat.write(notebook, workspace / name)
    os.utime(workspace / name, (at, at))


def of_lesson(number):
    return [exercise.name for exercise in exercises().values() if exercise.lesson == number]


def lesson(number):
    return next(name for name in lesson_names() if f"/{name}".split("/")[-1].startswith(number))


def pass_all(number):
    for name in of_lesson(number):
        records.note(name)


def test_a_new_workspace_begins_at_the_beginning(workspace):
    found = standings()
    assert [standing.name for standing in found] == lesson_names()
    assert all(standing.minutes_left == 5 * round(standing.minutes / 5) for standing in found)
    assert next_up(found).number == "00" and "## Begin: [00 · " in page(found)


def test_where_one_was_is_what_was_saved_last(workspace):
    save(workspace, lesson("03"), at=2_000_000_000)
    save(workspace, lesson("05"), at=2_000_000_500, run=0.5)
    save(workspace, lesson("02"), at=2_000_000_100)
    found = standings()
    assert next_up(found).number == "05" and "## Continue where you were: [05 · " in page(found)
    pass_all("05")
    assert next_up(standings()).number == "06", "finished: the next one that is open"
    for name in exercises():
        records.note(name)
    assert next_up(standings()) is None and "You have finished the course" in page(standings())


def test_minutes_left_go_down_with_what_was_run_and_what_was_solved(workspace):
    def left():
        return next(standing for standing in standings() if standing.number == "06").minutes_left

    whole, steps = left(), []
    for run in (0.5, 1.0):
        save(workspace, lesson("06"), at=2_000_000_000, run=run)
        steps.append(left())
    for name in of_lesson("06"):
        records.note(name)
        steps.append(left())
    assert whole == 60 and steps == sorted(steps, reverse=True) and steps[0] < whole and steps[-1] == 0
    assert steps[1] == 25 == left() + 25, "read, nothing solved: the part for the exercises"


def test_every_lesson_says_how_long_it_takes():
    for standing in standings():
        assert 30 <= standing.minutes <= 300 and standing.exercises, standing.name


def test_its_links_lead_somewhere_and_a_title_with_a_bar_would_break_the_table(workspace):
    text = page(standings(), news=True)
    links = [part.split(")")[0] for part in text.split("](")[2:]]
    assert set(links) - {WHATS_NEW} == set(lesson_names())
    assert all((workspace / link).exists() for link in set(links) - {WHATS_NEW})
    assert all(line.count("|") == 5 for line in text.splitlines() if line.startswith("|"))


def test_the_page_is_made_anew_and_what_a_learner_adds_to_it_stays(workspace):
    path = write_start_page()
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("mine"))
    notebook.cells[0].source = "old"
    nbformat.write(notebook, path)
    pass_all("00")
    write_start_page()
    cells = nbformat.read(path, 4).cells
    assert cells[0].source == page(standings()) and [cell.source for cell in cells[2:]] == ["mine"]
    path.write_text("half a noteb")
    write_start_page()
    assert len(nbformat.read(path, 4).cells) == 2
    assert start().data == page(standings())


def test_an_update_keeps_progress_and_says_that_there_is_news(workspace):
    pass_all("01")
    (workspace / WHATS_NEW).write_text("# news\n")
    main.workspace()
    text = nbformat.read(workspace / PAGE, 4).cells[0].source
    assert f"({WHATS_NEW})" in text and "✓✓✓✓" in text
    assert json.loads((workspace / "progress.json").read_text())["done"] == sorted(of_lesson("01"))


def test_a_lesson_without_exercises_is_finished_when_it_was_run():
    bare = dict(name="x", title="x", minutes=60, exercises=(), done=(), caught_up=(), saved=1.0)
    assert not Standing(run=0.5, **bare).finished and Standing(run=1.0, **bare).finished


# ---- catch-up ------------------------------------------------------------------------------------


def test_catch_up_fills_in_what_is_open_and_nothing_else(workspace):
    path = workspace / lesson("05")
    notebook = nbformat.read(path, 4)
    mask, attention = (
        next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == name)
        for name in ("causal_mask", "scaled_dot_product_attention")
    )
    mask.source = "def causal_mask(n_query, n_key):\n    return 'mine, and it passed'"
    attention.source = "def scaled_dot_product_attention(query, key, value, mask):\n    return 'begun'"
    nbformat.write(notebook, path)
    records.note("causal_mask")

    report = dict(catch_up("06"))
    assert list(report) == [lesson(number) for number in ("00", "01", "02", "03", "04", "05")]
    assert report[lesson("05")] == ["scaled_dot_product_attention", "read_row"]
    sources = [cell.source for cell in nbformat.read(path, 4).cells]
    assert mask.source in sources, "what passed stays"
    place = sources.index(attention.source)
    assert sources[place + 1].startswith("# filled in by catch-up"), "what was begun stays, with the course's below it"
    assert not any("SOLUTION" in source for source in sources)
    assert records.caught_up(workspace) >= {"read_row", "count_pairs"}
    assert records.done(workspace) == {"causal_mask"}
    assert catch_up("06") == [], "a second time there is nothing to do"
    assert next_up(standings()).number in ("05", "06") and "↷" in page(standings())


def test_what_was_filled_in_passes_but_does_not_count_as_ones_own(workspace, capsys):
    catch_up("01")
    path = workspace / lesson("00")
    cells = nbformat.read(path, 4).cells
    wanted = [cell for cell in cells if "greedy_choice" in cell.source and cell.cell_type == "code"][:2]
    wanted.append(nbformat.v4.new_code_cell("check(greedy_choice)"))
    notebook = nbformat.v4.new_notebook(cells=wanted)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": workspace}}).execute()
    said = "".join(out.get("text", "") for cell in notebook.cells for out in cell.outputs)
    assert "✓ greedy_choice: " in said and "filled in by catch-up" in said
    assert records.done(workspace) == set() and not (workspace / "my_llm.py").exists()
    records.progress()
    assert "↷ greedy_choice" in capsys.readouterr().out


def test_catch_up_refuses_in_a_sentence(workspace):
    with pytest.raises(ValueError, match="there is no lesson '7': give a number from 00 to 14"):
        catch_up("7")
    (workspace / lesson("00")).write_text("no notebook")
    with pytest.raises(RuntimeError, match="is not a notebook that can be read: move it away"):
        catch_up("01")


def test_the_lessons_folder_is_never_touched(workspace):
    before = {name: (LESSONS / name).read_bytes() for name in lesson_names()}
    main.catch_up("03")
    assert before == {name: (LESSONS / name).read_bytes() for name in lesson_names()}
