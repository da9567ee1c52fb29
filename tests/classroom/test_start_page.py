"""The start page: where one is, how much is left, where to go on. And catch-up, for whoever has fallen behind."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from nbclient import NotebookClient

from course_lib import __main__ as main
from course_lib import files
from course_lib.classroom import records, start
from course_lib.classroom.catch_up import catch_up
from course_lib.classroom.location import LESSONS
from course_lib.classroom.start_page import PAGE, Standing, next_up, page, standings, write_start_page
from course_lib.classroom.workspace import WHATS_NEW, WorkspaceError, copy_lessons, lesson_names
from course_lib.lessons import exercises


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    copy_lessons(workspace=folder)
    return folder


@pytest.fixture
def workspace(fresh, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(fresh, tmp_path / "mine"))
    monkeypatch.setenv("COURSE_WORKSPACE", str(folder))
    monkeypatch.setattr(records, "done_here", set())
    return folder


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
    assert next_up(found).lesson == "00" and "## Begin: [00 · " in page(found)


def test_where_one_was_is_what_was_saved_last(workspace):
    save(workspace, lesson("03"), at=2_000_000_000)
    save(workspace, lesson("05"), at=2_000_000_500, run=0.5)
    save(workspace, lesson("02"), at=2_000_000_100)
    found = standings()
    assert next_up(found).lesson == "05" and "## Continue where you were: [05 · " in page(found)
    pass_all("05")
    assert next_up(standings()).lesson == "06", "finished: the next one that is open"
    for name in exercises():
        records.note(name)
    assert next_up(standings()) is None and "You have finished the course" in page(standings())


def test_minutes_left_go_down_with_what_was_run_and_what_was_solved(workspace):
    def left():
        return next(standing for standing in standings() if standing.lesson == "06").minutes_left

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
    bare = dict(name="x", lesson="", title="x", minutes=60, exercises=(), done=(), caught_up=(), saved=1.0)
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
    assert next_up(standings()).lesson in ("05", "06") and "↷" in page(standings())


def stub_of(path, name):
    notebook = nbformat.read(path, 4)
    return notebook, next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name)


def filled_in(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.source.startswith("# filled in by catch-up")]


BEGUN = {
    "above the line": lambda source: source.replace("    # YOUR CODE", "    best = logits.max()\n    # YOUR CODE"),
    "below the line": lambda source: f"{source}\n    return best",
    "another docstring": lambda source: source.replace('"""', '"""To do on Monday. ', 1),
    "a note before it": lambda source: f"# what is asked here?\n{source}",
}


@pytest.mark.parametrize("begin", BEGUN.values(), ids=BEGUN)
def test_what_was_begun_is_kept_wherever_it_stands(workspace, begin):
    path = workspace / lesson("00")
    notebook, cell = stub_of(path, "greedy_choice")
    mine = cell.source = begin(cell.source)
    assert "raise NotImplementedError()" in mine
    nbformat.write(notebook, path)
    catch_up("01")
    sources = [cell.source for cell in nbformat.read(path, 4).cells]
    assert sources[sources.index(mine) + 1].startswith("# filled in by catch-up")


def test_a_stub_with_other_line_ends_is_not_begun_and_without_a_list_it_is(workspace):
    path = workspace / lesson("00")
    notebook, cell = stub_of(path, "greedy_choice")
    cell.source = cell.source.replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + nbformat.writes(notebook).replace("\n", "\r\n").encode())
    catch_up("01")
    assert stub_of(path, "greedy_choice")[1].source == filled_in(path)[0]

    (workspace / ".course/copies.json").unlink()
    path = workspace / lesson("01")
    stub = stub_of(path, "count_pairs")[1].source
    catch_up("02")
    assert stub_of(path, "count_pairs")[1].source == stub and len(filled_in(path)) == len(of_lesson("01"))


def test_a_stub_of_an_earlier_version_is_not_begun_and_the_newest_copy_is_filled(workspace, tmp_path):
    """A lesson that changed in another cell, and one whose stub changed: in a copy beside the edited one, or in it."""
    name = lesson("00")
    notebook = nbformat.read(workspace / name, 4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("mine"))
    nbformat.write(notebook, workspace / name)
    before = (workspace / name).read_bytes()
    lessons = tmp_path / "lessons"
    (lessons / name).parent.mkdir(parents=True)
    changed = nbformat.read(LESSONS / name, 4)
    changed.cells[2].source += " (changed)"
    nbformat.write(changed, lessons / name)
    copy_lessons(lessons, workspace)
    beside = name.replace(".ipynb", ".updated.ipynb")
    assert catch_up("01", lessons, workspace) == [(beside, of_lesson("00"))]
    assert (workspace / name).read_bytes() == before and len(filled_in(workspace / beside)) == 1

    (workspace / "progress.json").unlink()
    (workspace / beside).unlink()
    assert catch_up("01", lessons, workspace) == [(name, of_lesson("00"))]
    assert stub_of(workspace / name, "greedy_choice")[1].source == filled_in(workspace / name)[0]


def test_a_copy_is_not_filled_in_while_another_process_writes_the_workspace(workspace, monkeypatch):
    """Nor is the start page written."""
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    held = FileLock(workspace / ".course/lock")
    with held:
        for write in (lambda: catch_up("01"), write_start_page, copy_lessons):
            with pytest.raises((OSError, WorkspaceError), match="another process has been writing there"):
                write()


def test_what_a_learner_adds_to_the_page_survives_a_byte_order_mark(workspace):
    path = write_start_page()
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("mine"))
    path.write_bytes(b"\xef\xbb\xbf" + nbformat.writes(notebook).encode())
    write_start_page()
    assert [cell.source for cell in nbformat.read(path, 4).cells[2:]] == ["mine"]


def test_what_was_filled_in_passes_but_does_not_count_as_ones_own(workspace, capsys):
    catch_up("01")
    path = workspace / lesson("00")
    cells = nbformat.read(path, 4).cells
    wanted = [cell for cell in cells if "greedy_choice" in cell.source and cell.cell_type == "code"][:2]
    wanted.append(nbformat.v4.new_code_cell("check(greedy_choice)"))
    notebook = nbformat.v4.new_notebook(cells=wanted)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": workspace}}).execute()
    said = "".join(out.get("text", "") for cell in notebook.cells for out in cell.outputs)
    assert "✓ greedy_choice: " in said and "filled in by catch-up" in said
    assert records.done(workspace) == set() and not (workspace / "my_llm.py").exists()
    records.progress()
    assert "↷ greedy_choice" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{}", "[]", "3", "null", '{"cells": 3}', '{"cells": [3]}', "[" * 100_000])
def test_catch_up_refuses_what_is_json_and_no_notebook(workspace, content):
    (workspace / lesson("00")).write_text(content)
    with pytest.raises(WorkspaceError, match="is not a notebook that can be read: move it away"):
        catch_up("01")
    assert (workspace / lesson("00")).read_text() == content


@pytest.mark.parametrize("about", [None, 3, {"grade_id": ["x"]}, {"grade_id": None}])
def test_catch_up_passes_over_a_cell_that_nbgrader_would_not_know(workspace, about):
    path = workspace / lesson("00")
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("mine", metadata={"nbgrader": about}))
    path.write_text(json.dumps(notebook))
    assert catch_up("01") == [(lesson("00"), of_lesson("00"))]
    assert nbformat.read(path, 4).cells[-1].source == "mine"


def test_a_pipe_in_the_place_of_a_copy_is_said_and_not_waited_for(workspace):
    (workspace / lesson("00")).unlink()
    os.mkfifo(workspace / lesson("00"))
    copy_lessons()  # nothing is new
    (workspace / ".course/copies.json").unlink()
    with pytest.raises(WorkspaceError, match="it is not a file but a pipe"):
        copy_lessons()
    with pytest.raises(WorkspaceError, match="is not a notebook that can be read"):
        catch_up("01")


@pytest.mark.parametrize("instead", ["loop", "gone", "pipe", "folder", "damaged"])
def test_where_what_is_done_cannot_be_read_catch_up_fills_nothing_in(workspace, instead):
    file, before = workspace / "progress.json", (workspace / lesson("00")).read_bytes()
    file.unlink(missing_ok=True)
    {
        "loop": lambda: file.symlink_to(file),
        "gone": lambda: file.symlink_to(workspace / "not" / "there.json"),
        "pipe": lambda: os.mkfifo(file),
        "folder": file.mkdir,
        "damaged": lambda: file.write_text("[" * 100_000),
    }[instead]()
    with pytest.raises(WorkspaceError, match=r"nothing was filled in, for progress\.json cannot say"):
        catch_up("01")
    assert (workspace / lesson("00")).read_bytes() == before
    if instead != "damaged":
        kind = file.lstat()
        said = records.note("greedy_choice")
        assert said and said[0].startswith("That it is done could not be noted in progress.json: ")
        assert file.lstat() == kind


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
