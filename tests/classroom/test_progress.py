"""progress() and its file."""

import json

import pytest
from classroom.proofs import called

from course_lib.classroom import check, progress, records
from course_lib.classroom.exercises import exercises
from course_lib.classroom.location import REPOSITORY, workspace_folder

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
    monkeypatch.chdir(REPOSITORY)
    assert workspace_folder() is None
    monkeypatch.setattr(location, "REPOSITORY", tmp_path)
    inside = tmp_path / "workspace" / "deeper"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert workspace_folder() == tmp_path / "workspace"
    monkeypatch.chdir(tmp_path)
    assert workspace_folder() is None
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "mine"))
    assert workspace_folder() == tmp_path / "mine"
