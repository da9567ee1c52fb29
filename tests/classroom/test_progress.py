"""progress() and its file."""

import json
import time
from types import SimpleNamespace

import filelock
import IPython
import pytest
from classroom.together import at_once
from lessons.proof import called

from course_lib import files
from course_lib.classroom import check, location, progress, records
from course_lib.classroom.location import ROOT, workspace_folder
from course_lib.lessons import exercises

RIGHT = called("greedy_choice", lambda logits: int(logits.argmax()))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(records, "done_here", set())
    return tmp_path


def shown(capsys):
    capsys.readouterr()
    progress()
    return capsys.readouterr().out


def test_what_passes_is_done_and_stays_so(workspace, capsys, monkeypatch):
    assert shown(capsys).startswith("0 of ") and "○ greedy_choice: " in shown(capsys)
    check(RIGHT)
    monkeypatch.setattr(records, "done_here", set())  # another day
    assert "✓ greedy_choice: " in shown(capsys)
    check(called("greedy_choice", lambda logits: 0))
    assert "✓ greedy_choice: " in shown(capsys)
    assert "00 from prompt to response" in shown(capsys)


def test_what_fails_is_not_noted(workspace):
    check(called("greedy_choice", lambda logits: 0))
    assert list(workspace.iterdir()) == []


def test_names_of_a_later_version_stay(workspace):
    (workspace / "progress.json").write_text('{"done": ["attention"]}')
    check(RIGHT)
    assert json.loads((workspace / "progress.json").read_text())["done"] == ["attention", "greedy_choice"]


@pytest.mark.parametrize("damage", [b'{"done": ["gre', b"[]", b"\xff\xfe", b"", b'{"done": [1]}', b"3"])
def test_a_damaged_file_is_set_aside(damage, workspace, capsys):
    (workspace / "progress.json").write_bytes(damage)
    (workspace / "progress.damaged-1.json").write_text("an earlier one")
    assert "progress.json was damaged: it is now progress.damaged-2.json" in shown(capsys)
    assert (workspace / "progress.damaged-2.json").read_bytes() == damage
    check(RIGHT)
    assert "✓ greedy_choice: " in shown(capsys)


def test_a_folder_in_its_place_is_said(workspace, capsys):
    (workspace / "progress.json").mkdir()
    check(RIGHT)
    out = capsys.readouterr().out
    assert "✓ greedy_choice: 5 of 5 checks" in out and "progress.json" in out


def test_without_a_workspace_the_session_remembers(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    monkeypatch.setattr(records, "done_here", set())
    monkeypatch.chdir(tmp_path)
    check(RIGHT)
    assert f"1 of {len(exercises())} exercises done" in shown(capsys) and list(tmp_path.iterdir()) == []


def test_where_the_workspace_is(monkeypatch, tmp_path):
    from course_lib.classroom import location

    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    monkeypatch.chdir(ROOT)
    assert workspace_folder() is None
    monkeypatch.setattr(location, "ROOT", tmp_path)
    inside = tmp_path / "workspace" / "deeper"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert workspace_folder() == tmp_path / "workspace"
    monkeypatch.chdir(tmp_path)
    assert workspace_folder() is None
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "mine"))
    assert workspace_folder() == tmp_path / "mine"


def test_entries_of_a_later_version_stay(workspace):
    (workspace / "progress.json").write_text('{"version": 2, "done": [], "caught_up": ["old"], "read": {"05": 3}}')
    check(RIGHT)
    kept = json.loads((workspace / "progress.json").read_text())
    assert kept == {"version": 2, "done": ["greedy_choice"], "caught_up": ["old"], "read": {"05": 3}}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_another_editor_saved_is_read(encoding, workspace, capsys):
    (workspace / "progress.json").write_text('{\r\n "done": ["top_k"]\r\n}', encoding)
    assert "✓ top_k: " in shown(capsys)
    check(RIGHT)
    assert json.loads((workspace / "progress.json").read_text("utf-8"))["done"] == ["greedy_choice", "top_k"]


def test_two_kernels_lose_no_tick(workspace, monkeypatch):
    names = [f"name_{number}" for number in range(16)]
    real = files.write_atomically
    monkeypatch.setattr(records, "write_atomically", lambda *what: (time.sleep(0.005), real(*what)))
    at_once(*(lambda name=name: records.note_caught_up({name}, workspace) for name in names))
    assert records.caught_up(workspace) == set(names)


def test_a_file_that_cannot_be_read_now_is_not_written_over(workspace, monkeypatch, capsys):
    (workspace / "progress.json").write_text('{"done": ["top_k"]}')

    def refuse(file):
        raise PermissionError(13, "Access is denied")

    with monkeypatch.context() as patch:
        patch.setattr(records, "_parsed", refuse)
        check(RIGHT)
        assert "could not be noted in progress.json: Access is denied." in capsys.readouterr().out
        assert "progress.json cannot be read: Access is denied." in shown(capsys)
    assert records.done(workspace) == {"greedy_choice", "top_k"}


def test_a_workspace_that_cannot_be_written_is_said(workspace, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    check(RIGHT)
    out = capsys.readouterr().out
    assert "✓ greedy_choice: 5 of 5 checks" in out and "could not be noted in progress.json: Permission denied." in out


def in_ipython(started, monkeypatch, **namespace):
    """As in a notebook that was started in a folder."""
    shell = SimpleNamespace(starting_dir=str(started), user_ns=namespace)
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)


@pytest.fixture
def course(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    monkeypatch.setattr(location, "ROOT", tmp_path)
    monkeypatch.setattr(location, "LESSONS", tmp_path / "notebooks")
    for folder in ("workspace/phase_2", "notebooks/phase_2", "grading"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_a_notebook_works_where_it_was_started(course, monkeypatch):
    in_ipython(course / "workspace/phase_2", monkeypatch)
    monkeypatch.chdir(course)  # as %cd does
    check(RIGHT)
    assert (course / "workspace/progress.json").exists()
    in_ipython(course, monkeypatch, __vsc_ipynb_file__=str(course / "workspace/phase_2/05.ipynb"))
    assert workspace_folder() == course / "workspace"


def test_a_workspace_on_another_disk_is_one(course, monkeypatch):
    (course / "workspace").rename(course / "elsewhere")
    (course / "workspace").symlink_to(course / "elsewhere")
    monkeypatch.chdir(course / "workspace/phase_2")
    assert workspace_folder() == course / "workspace"


def test_a_person_outside_of_the_workspace_is_told_that_nothing_is_kept(course, monkeypatch, capsys):
    for folder in (course, course / "grading"):
        in_ipython(folder, monkeypatch)
        monkeypatch.chdir(folder)
        check(RIGHT)
        assert f"It is not kept: this notebook runs in {folder}, outside your workspace." in capsys.readouterr().out
    assert not [path for path in course.rglob("*") if path.is_file()]


@pytest.mark.parametrize("folder, grading", [("notebooks/phase_2", ""), ("grading", "autograde")])
def test_a_solved_lesson_and_a_grader_print_nothing_of_it(folder, grading, course, monkeypatch, capsys):
    in_ipython(course / folder, monkeypatch)
    monkeypatch.chdir(course / folder)
    monkeypatch.setenv("NBGRADER_EXECUTION", grading)
    check(RIGHT)
    assert capsys.readouterr().out.endswith("✓ greedy_choice: 5 of 5 checks\n")
    assert not [path for path in course.rglob("*") if path.is_file()]
