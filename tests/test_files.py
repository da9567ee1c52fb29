"""A learner's files: one process at a time, whole or not at all."""

import os
import time

import pytest
from classroom.together import at_once

from course_lib import files
from course_lib.files import locked, write_atomically


def test_what_two_add_at_once_is_all_there(tmp_path):
    file = tmp_path / "count"
    file.write_text("0")

    def add():
        for _ in range(20):
            with locked(tmp_path):
                count = int(file.read_text())
                time.sleep(0.0005)
                file.write_text(str(count + 1))

    at_once(add, add)
    assert file.read_text() == "40"
    assert [path.name for path in tmp_path.iterdir() if path != file] == [".course"]


def test_it_may_stand_inside_itself(tmp_path):
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_lock_left_by_a_crash_is_no_lock(tmp_path):
    (tmp_path / ".course").mkdir()
    (tmp_path / ".course/lock").write_text("whoever wrote this is gone")
    with locked(tmp_path):
        pass


def test_waiting_ends_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)

    def second():
        with locked(tmp_path):
            pass

    with locked(tmp_path), pytest.raises(TimeoutError) as raised:
        at_once(second)
    assert raised.value.strerror.startswith("another process has been writing there")


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    for content in ("a\r\né\n", b"\xef\xbb\xbfa\r\n"):
        write_atomically(tmp_path / "deeper" / "file", content)
        there = (tmp_path / "deeper" / "file").read_bytes()
        assert there == (content.encode() if isinstance(content, str) else content)


def refusing(times, monkeypatch):
    """As Windows does while another program has the file open."""
    real, left = os.replace, iter(range(times))

    def replace(*arguments):
        if next(left, None) is not None:
            raise PermissionError(13, "Access is denied")
        real(*arguments)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_refusal_for_a_moment_is_waited_out(tmp_path, monkeypatch):
    refusing(2, monkeypatch)
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_refusal_for_good_is_said_and_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    refusing(100, monkeypatch)
    with pytest.raises(PermissionError) as raised:
        write_atomically(tmp_path / "file", "new")
    assert raised.value.strerror.startswith("another program has it open")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"
