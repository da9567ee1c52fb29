"""The learner's copy: what a learner wrote is never lost, whatever happens to the lessons, the copy or the process."""

import os
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks.copies import code_cells, names_in, where_a_solution_matters

from course_lib import __main__ as main
from course_lib.classroom import workspace as module
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import (
    WHATS_NEW,
    WorkspaceError,
    changed_cells,
    copy_lessons,
    learners_copies,
    learners_version,
    lesson_names,
    was_saved,
)

FIRST, SECOND = "00_first.ipynb", "1_phase/01_second.ipynb"
SOLUTION = """def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION"""
HIDDEN = """# graded: the double
### BEGIN HIDDEN TESTS
assert double(2) == 4
### END HIDDEN TESTS"""


def nbgrader(grade_id, *, grade):
    kind = dict(grade=grade, solution=not grade, locked=grade, task=False) | (dict(points=1) if grade else {})
    return {"nbgrader": {"grade_id": grade_id, "schema_version": 3, **kind}}


def write_lesson(path, version, points=1):
    graded = nbgrader("double_right", grade=True)
    graded["nbgrader"]["points"] = points
    cells = [
        new_markdown_cell(f"# Lesson, version {version}"),
        new_code_cell("print('hello')", outputs=[new_output("stream", name="stdout", text="hello\n")]),
        new_code_cell(SOLUTION, metadata=nbgrader("double", grade=False)),
        new_code_cell(HIDDEN, metadata=graded),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)


@pytest.fixture
def course(tmp_path):
    """A course of two lessons, its workspace, and what a learner and an author do to them."""
    return Course(tmp_path / "a folder with spaces")


class Course:
    def __init__(self, folder):
        self.lessons, self.workspace = folder / "notebooks", folder / "workspace"
        self.author(FIRST), self.author(SECOND)

    def author(self, name, version=1, points=1):
        write_lesson(self.lessons / name, version, points)

    def copy(self):
        return {change.file: change.what for change in copy_lessons(self.lessons, self.workspace)}

    def files(self):
        """Everything a learner sees, with its bytes."""
        return {
            path.relative_to(self.workspace).as_posix(): path.read_bytes()
            for path in sorted(self.workspace.rglob("*"))
            if path.is_file() and ".course" not in path.parts and path.name != WHATS_NEW
        }

    def version(self, name):
        return nbformat.read(self.workspace / name, 4).cells[0].source[-1]

    def edit(self, name, answer="return x + x"):
        notebook = nbformat.read(self.workspace / name, 4)
        notebook.cells[2].source = f"def double(x):\n    {answer}"
        nbformat.write(notebook, self.workspace / name)
        return (self.workspace / name).read_bytes()

    def run(self, name):
        """What JupyterLab saves after Run All and one Shift-Enter more: only no source has changed."""
        notebook = nbformat.read(self.workspace / name, 4)
        notebook.cells[1].execution_count = 7
        notebook.cells[1].outputs = [new_output("stream", name="stdout", text="hello\n")]
        notebook.cells[1].metadata["scrolled"] = True
        notebook.cells.append(new_code_cell(""))
        notebook.metadata["language_info"] = {"name": "python", "version": "3.13.1"}
        (self.workspace / name).write_text(nbformat.writes(notebook, indent=2) + "\n\n", "utf-8")


BESIDE = "00_first.updated.ipynb"


def test_first_copy_has_no_solution_no_hidden_test_and_no_output(course):
    assert course.copy() == {FIRST: "new", SECOND: "new"}
    assert list(course.files()) == [FIRST, SECOND]
    for content in course.files().values():
        assert b"SOLUTION" not in content and b"2 * x" not in content
        assert b"HIDDEN" not in content and b"== 4" not in content
        assert b"hello\\n" not in content
        assert b"raise NotImplementedError()" in content


def test_second_run_changes_nothing_and_needs_no_nbgrader(course, monkeypatch):
    course.copy()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in course.workspace.rglob("*.*n*")}
    monkeypatch.setattr(module, "learners_version", None)
    assert course.copy() == {}
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in course.workspace.rglob("*.*n*")}


def test_an_edit_is_kept(course):
    course.copy()
    mine = course.edit(FIRST)
    assert course.copy() == {} and course.files()[FIRST] == mine


def test_an_updated_lesson_replaces_a_copy_that_was_not_edited(course):
    course.copy()
    course.author(FIRST, 2)
    assert list(course.copy()) == [FIRST]
    assert course.version(FIRST) == "2" and list(course.files()) == [FIRST, SECOND]


def test_running_and_saving_is_no_edit(course):
    course.copy()
    course.run(FIRST)
    ran = course.files()[FIRST]
    assert course.copy() == {} and course.files()[FIRST] == ran
    course.author(FIRST, 2)
    assert "you had not edited" in course.copy()[FIRST]
    assert course.version(FIRST) == "2" and list(course.files()) == [FIRST, SECOND]


def test_an_updated_lesson_arrives_beside_an_edited_copy_once(course):
    course.copy()
    mine = course.edit(FIRST)
    course.author(FIRST, 2)
    assert course.copy() == {BESIDE: f"the new version of {FIRST}, beside yours, which you had edited"}
    assert course.files()[FIRST] == mine and course.version(BESIDE) == "2"
    assert course.copy() == {}


def test_a_second_update_replaces_the_one_beside_unless_that_was_edited_too(course):
    course.copy()
    mine = course.edit(FIRST)
    course.author(FIRST, 2)
    course.copy()
    course.author(FIRST, 3)
    assert list(course.copy()) == [BESIDE] and course.version(BESIDE) == "3"
    also_mine = course.edit(BESIDE)
    course.author(FIRST, 4)
    assert list(course.copy()) == ["00_first.updated-2.ipynb"]
    assert (course.files()[FIRST], course.files()[BESIDE]) == (mine, also_mine)
    assert course.version("00_first.updated-2.ipynb") == "4"
    assert course.copy() == {}


def test_a_deleted_copy_comes_back_as_new(course):
    course.copy()
    fresh = course.files()
    course.edit(FIRST)
    (course.workspace / FIRST).unlink()
    assert course.copy() == {FIRST: "written again: it was missing"}
    assert course.files() == fresh


def test_a_deleted_new_version_stays_away_until_there_is_a_newer_one(course):
    course.copy()
    course.edit(FIRST)
    course.author(FIRST, 2)
    course.copy()
    (course.workspace / BESIDE).unlink()
    assert course.copy() == {} and BESIDE not in course.files()
    course.author(FIRST, 3)
    assert list(course.copy()) == [BESIDE]


def test_taking_the_new_version_for_ones_own_works(course):
    course.copy()
    course.edit(FIRST)
    course.author(FIRST, 2)
    course.copy()
    os.replace(course.workspace / BESIDE, course.workspace / FIRST)
    assert course.copy() == {}
    course.author(FIRST, 3)
    assert list(course.copy()) == [FIRST] and course.version(FIRST) == "3"
    assert list(course.files()) == [FIRST, SECOND]


def test_a_lesson_of_which_only_outputs_changed_is_not_new(course):
    course.copy()
    course.edit(SECOND)
    before = course.files()
    for name in (FIRST, SECOND):
        notebook = nbformat.read(course.lessons / name, 4)
        notebook.cells[1].outputs[0].text = "another\n"
        nbformat.write(notebook, course.lessons / name)
    assert course.copy() == {} and course.files() == before


def test_what_changed_is_said_cell_by_cell(course):
    course.copy()
    course.edit(FIRST)
    course.author(FIRST, 2)
    [change] = copy_lessons(course.lessons, course.workspace)
    assert change.cells == ("changed under “Lesson, version 2”: Lesson, version 2",)
    course.author(FIRST, 3)
    copy_lessons(course.lessons, course.workspace)
    news = (course.workspace / WHATS_NEW).read_text()
    assert news.startswith("# What is new in the lessons\n") and news.count("# What is new") == 1
    assert news.index("Lesson, version 3") < news.index("Lesson, version 2"), "the newest first"
    assert f"[{BESIDE}]({BESIDE})" in news
    assert copy_lessons(course.lessons, course.workspace) == []


def test_new_cells_and_cells_that_are_gone():
    def digests(*sources):
        return module._each(nbformat.writes(notebook_of(*sources)).encode())

    def notebook_of(*sources):
        make = {"#": new_markdown_cell}
        return new_notebook(cells=[make.get(source[0], new_code_cell)(source) for source in sources])

    def said(before, *after):
        return list(changed_cells(digests(*before), nbformat.writes(notebook_of(*after)).encode()))

    before = ("# One", "a = 1", "## Two", "b = 2", "c = 3")
    assert said(before, *before) == []
    assert said(before, "# One", "a = 1", "x = 9", "## Two", "b = 2", "c = 3") == ["new under “One”: x = 9"]
    assert said(before, "# One", "a = 1", "## Two", "c = 3") == ["1 cell gone under “Two”"]
    assert said(before, "# One", "a = 1", "## Two", "b = 4", "c = 3") == ["changed under “Two”: b = 4"]
    assert said(before, "# One") == ["4 cells gone under “One”"]
    assert said(("a = 1",), "b = 2", "a = 1") == ["new at the beginning: b = 2"]


def test_whether_a_copy_was_saved(course):
    course.copy()
    assert was_saved(FIRST, course.workspace) == 0 and was_saved("99_none.ipynb", course.workspace) == 0
    course.run(FIRST)
    assert was_saved(FIRST, course.workspace) == (course.workspace / FIRST).stat().st_mtime


BOM = b"\xef\xbb\xbf"


def in_cells(path):
    """As an editor on Windows may leave it: the line ends inside of the cells."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
    nbformat.write(notebook, path)


CHANGED_BY_A_PROGRAM = {
    "line ends of the file": lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")),
    "line ends in the cells": in_cells,
    "a mark": lambda path: path.write_bytes(BOM + path.read_bytes()),
    "all of it": lambda path: (in_cells(path), path.write_bytes(BOM + path.read_bytes().replace(b"\n", b"\r\n"))),
}


@pytest.mark.parametrize("program", CHANGED_BY_A_PROGRAM.values(), ids=CHANGED_BY_A_PROGRAM)
def test_line_ends_and_a_byte_order_mark_are_no_edit(course, program):
    course.copy()
    program(course.workspace / FIRST)
    assert course.copy() == {}
    course.author(FIRST, 2)
    assert "you had not edited" in course.copy()[FIRST] and list(course.files()) == [FIRST, SECOND]


@pytest.mark.parametrize("program", ["line ends of the file", "a mark"])
def test_a_lesson_with_other_line_ends_is_no_new_version(course, program):
    course.copy()
    mine, fresh = course.edit(SECOND), course.files()[FIRST]
    for name in (FIRST, SECOND):
        CHANGED_BY_A_PROGRAM[program](course.lessons / name)
    assert course.copy() == {}
    assert course.files() == {FIRST: fresh, SECOND: mine}
    course.workspace = course.workspace.with_name("another")
    assert list(course.copy()) == [FIRST, SECOND]
    assert b"SOLUTION" not in course.files()[FIRST]


def test_a_file_with_other_line_ends_was_not_saved_by_the_learner(course):
    course.copy()
    for program in ("line ends of the file", "a mark"):
        CHANGED_BY_A_PROGRAM[program](course.workspace / FIRST)
        assert was_saved(FIRST, course.workspace) == 0


def test_digests_on_record_stay_valid():
    """They are in learners' workspaces: for a file with the line ends that the course writes they never change."""
    notebook = nbformat.writes(new_notebook(cells=[new_code_cell("a = 1\nb = 2"), new_code_cell("")])).encode()
    assert module._each(notebook) == "8f0b3641 e3b0c442"
    assert module._cells(notebook) == "2cf3d46c9b27598e49bcad71825452f48ba488d56c88c7696941760c0d375572"


def test_a_copy_that_is_open_elsewhere_for_a_moment(course, monkeypatch):
    course.copy()
    course.author(FIRST, 2)
    replace, refused = os.replace, []

    def refusing(source, target):
        if target not in refused:
            refused.append(target)
            raise PermissionError(13, "Access is denied", str(source), None, str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    assert list(course.copy()) == [FIRST] and course.version(FIRST) == "2"
    assert len(refused) == 3, "the copy, the list of copies, what is new"


def test_which_copy_is_the_newest(course):
    def copies():
        found = learners_copies(course.workspace)[FIRST]
        return [(copy.file, copy.edited, copy.older) for copy in found]

    course.copy()
    assert copies() == [(FIRST, False, False)]
    course.edit(FIRST)
    assert copies() == [(FIRST, True, False)]
    course.author(FIRST, 2), course.copy()
    assert copies() == [(BESIDE, False, False), (FIRST, True, True)]
    course.edit(BESIDE)
    course.author(FIRST, 3), course.copy()
    newest = "00_first.updated-2.ipynb"
    assert copies() == [(newest, False, False), (FIRST, True, True), (BESIDE, True, True)]
    os.replace(course.workspace / newest, course.workspace / FIRST)
    course.edit(FIRST, "return 2 * x")
    assert copies() == [(FIRST, True, False), (BESIDE, True, True)], "whatever the name, it is the third version"


def test_new_points_reach_a_copy_but_are_no_reason_for_a_second_one(course):
    course.copy()
    mine = course.edit(SECOND)
    course.author(FIRST, points=5), course.author(SECOND, points=5)
    assert list(course.copy()) == [FIRST]
    assert nbformat.read(course.workspace / FIRST, 4).cells[3].metadata.nbgrader.points == 5
    assert course.files() == course.files() | {SECOND: mine} and len(course.files()) == 2


def test_what_is_not_a_copy_is_never_touched(course):
    course.copy()
    (course.workspace / "my_llm.py").write_text("mine")
    (course.workspace / BESIDE).write_text("mine, and no notebook")
    (course.workspace / FIRST).write_text("")  # a disk that was full, say
    course.author(FIRST, 2)
    (course.lessons / SECOND).unlink()
    before = course.files()
    assert list(course.copy()) == ["00_first.updated-2.ipynb"]
    assert before.items() <= course.files().items()


def test_checkpoints_are_no_lessons(course):
    write_lesson(course.lessons / ".ipynb_checkpoints/00_first-checkpoint.ipynb", 1)
    assert list(course.copy()) == [FIRST, SECOND]


@pytest.mark.parametrize("damage", ["", "{", "[1]", "7", '{"a": 1}', '{"00_first.ipynb": {"of": "x"}}', "\xff"])
def test_a_damaged_list_loses_nothing(course, damage):
    course.copy()
    mine = course.edit(FIRST)
    (course.workspace / ".course/copies.json").write_text(damage, "latin-1")
    changes = course.copy()
    assert "damaged" in changes.pop(".course/copies.damaged.json")
    assert list(changes) == [BESIDE] and course.files()[FIRST] == mine
    assert course.copy() == {}
    course.author(SECOND, 2)
    assert list(course.copy()) == [SECOND]


# ---- stopped in the middle -----------------------------------------------------------------------


class Stopped(BaseException):
    """Like a kill: no `except Exception` sees it."""


def stop_at(monkeypatch, step):
    """Stop before the step-th change on disk; a write is stopped half way through. Returns the list of steps done."""
    done, replace, write = [], os.replace, module.Path.write_bytes

    def stopping_write(path, content):
        if len(done) == step:
            write(path, content[: len(content) // 2])
            raise Stopped
        done.append("write")
        return write(path, content)

    def stopping_replace(source, target):
        if len(done) == step:
            raise Stopped
        done.append("replace")
        return replace(source, target)

    monkeypatch.setattr(module.Path, "write_bytes", stopping_write)
    monkeypatch.setattr(module.os, "replace", stopping_replace)
    return done


@pytest.mark.parametrize("step", range(8))
def test_stopped_before_any_step_the_next_run_repairs(course, monkeypatch, step):
    """Two lessons, each with a copy and a list to write and to move into place: eight steps, first and on an update."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, step)
        course.copy()
    for content in course.files().values():
        nbformat.reads(content.decode(), 4)
    course.copy()
    assert list(course.files()) == [FIRST, SECOND] and course.copy() == {}

    mine = course.edit(FIRST)
    course.author(FIRST, 2), course.author(SECOND, 2)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, step)
        course.copy()
    course.copy()
    assert list(course.files()) == [FIRST, BESIDE, SECOND]
    assert (course.files()[FIRST], course.version(BESIDE), course.version(SECOND)) == (mine, "2", "2")
    assert course.copy() == {}
    assert len(list((course.workspace / ".course").iterdir())) == 2, "the list and its lock, nothing unfinished"


def test_eight_steps_are_all_there_are(course, monkeypatch):
    with monkeypatch.context() as patch:
        done = stop_at(patch, -1)
        course.copy()
    assert done == ["write", "replace"] * 4


KILLED = """
import pathlib, sys
from course_lib.classroom import workspace
workspace.learners_version = pathlib.Path.read_bytes  # quick, so that most kills come while files are written
workspace.copy_lessons(*map(pathlib.Path, sys.argv[1:]))
"""


def test_a_real_kill_leaves_whole_files_and_the_next_run_the_rest(course, monkeypatch):
    monkeypatch.setattr(module, "learners_version", module.Path.read_bytes)
    for number in range(2, 202):
        course.author(f"{number:03}_more.ipynb")
    for wanted in (1, 50, 100):  # files there at the time of the kill
        process = subprocess.Popen([sys.executable, "-c", KILLED, course.lessons, course.workspace])
        while process.poll() is None and len(list(course.workspace.rglob("*.ipynb"))) < wanted:
            time.sleep(0.001)
        process.kill()
        process.wait()
        copies = course.files()
        assert wanted <= len(copies)
        for content in copies.values():
            nbformat.reads(content.decode(), 4)
    changes = course.copy()
    assert len(course.files()) == 202 and course.copy() == {}
    assert set(changes.values()) <= {"new"}, "nothing was taken for an edit"


# ---- refusals ------------------------------------------------------------------------------------


def test_a_workspace_that_is_a_file(course):
    course.workspace.write_text("mine")
    with pytest.raises(WorkspaceError, match=r"workspace is a file, and the learner's copy needs a folder there"):
        course.copy()
    assert course.workspace.read_text() == "mine"


def test_a_workspace_that_cannot_be_written(course, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "Permission denied", str(source), None, str(target))

    with (
        monkeypatch.context() as patch,
        pytest.raises(WorkspaceError, match=r"00_first.ipynb: another program has it open"),
    ):
        patch.setattr(module.os, "replace", refuse)
        course.copy()
    course.workspace = course.lessons / FIRST / "workspace"  # below a file
    with pytest.raises(WorkspaceError):
        course.copy()


def test_a_folder_where_a_lesson_goes(course):
    (course.workspace / FIRST).mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"00_first\.ipynb"):
        course.copy()


def test_the_lessons_are_not_copied_among_themselves(course):
    course.workspace = course.lessons
    with pytest.raises(WorkspaceError, match="cannot be among the lessons themselves"):
        course.copy()


def test_no_lessons(course):
    course.lessons = course.lessons / "nowhere"
    with pytest.raises(WorkspaceError, match="there are no lessons in"):
        course.copy()


# ---- the course's own lessons --------------------------------------------------------------------


def test_the_command_says_what_changed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "mine"))
    main.workspace()
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "00_prompt_to_response.ipynb: new"
    assert nbformat.read(tmp_path / "mine/start.ipynb", 4).cells[0].source.startswith("# From prompt to response")
    assert last == f"Your copy of the lessons is up to date in {tmp_path / 'mine'}"
    main.workspace()
    assert capsys.readouterr().out.splitlines() == [last]


@pytest.fixture(scope="module")
def one_after_another(tmp_path_factory):
    """A function: runs a notebook in a kernel that has run others before, and has forgotten what they defined."""
    folder = tmp_path_factory.mktemp("copies")
    client = NotebookClient(new_notebook(), timeout=900, resources={"metadata": {"path": folder}})

    def execute(notebook):
        client.nb = notebook
        notebook.cells.insert(0, new_code_cell("%reset -f"))
        client.execute(cleanup_kc=False)

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COURSE_WORKSPACE", str(folder))
        with client.setup_kernel(cleanup_kc=True):
            yield execute


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("homework") else []) for name in lesson_names()],
)
def test_the_unsolved_copy_runs_where_a_solution_makes_a_difference(lesson, one_after_another):
    """All other cells do what they do in the lesson, which nbval runs: so Run All reaches the end of the copy, too."""
    text = learners_version(LESSONS / lesson).decode()
    assert "BEGIN SOLUTION" not in text and "BEGIN HIDDEN" not in text
    notebook = nbformat.reads(text, 4)
    cells = code_cells(notebook)
    assert all(not cell.outputs for cell in cells)
    wanted = where_a_solution_matters(cells, code_cells(nbformat.read(LESSONS / lesson, 4)))
    names, needed = [names_in(cell.source) for cell in cells], set()
    for i in reversed(range(len(cells))):  # and all cells that bind what these read
        if i in wanted or names[i][0] & needed:
            wanted.add(i)
            needed |= names[i][1]
    notebook.cells = [cell for i, cell in enumerate(cells) if i in wanted]
    one_after_another(notebook)
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    assert ("not done yet" in printed) == ("raise NotImplementedError" in text)
