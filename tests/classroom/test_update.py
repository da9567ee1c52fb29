"""An update loses nothing: workspaces as commit b028e90 wrote them, brought to the lessons of today and of later days.

workspaces/make.py says how they were made. Whoever changes lessons runs this with the new ones.
"""

import json
import re
import shutil
import tarfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from course_lib.classroom import records
from course_lib.classroom.catch_up import catch_up
from course_lib.classroom.grading import marks, release
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.start_page import PAGE, next_up, standings, write_start_page
from course_lib.classroom.workspace import cell_digest, copy_lessons, learners_version, lesson_names
from course_lib.lessons import exercises

ARCHIVE = Path(__file__).parent / "workspaces/b028e90.tar.xz"
KINDS = ("all", "half", "none")
OLDER = "older than the course"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(ARCHIVE) as file:
        file.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def today(tmp_path_factory):
    """The lessons as learners get them, which is quicker to copy from: a class's server has them so."""
    folder = tmp_path_factory.mktemp("today")
    for name in lesson_names():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(learners_version(LESSONS / name))
    return folder


@pytest.fixture
def lessons(today, tmp_path):
    return Path(shutil.copytree(today, tmp_path / "notebooks"))


@pytest.fixture
def workspace(archive, tmp_path, monkeypatch):
    """A function: the workspace of one kind of learner, set up as theirs."""

    def unpack(kind):
        folder = Path(shutil.copytree(archive / kind, tmp_path / "a learner's"))
        monkeypatch.setenv("COURSE_WORKSPACE", str(folder))
        monkeypatch.setattr(records, "done_here", set())
        return folder

    return unpack


def sources(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.source]


def notebooks(folder):
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.ipynb")))
    return [name for name in found if name != PAGE]


def edited(folder, archive):
    """What the learner wrote in: name → bytes."""
    names = [name for name in notebooks(folder) if sources(folder / name) != sources(archive / "none" / name)]
    return {name: (folder / name).read_bytes() for name in names}


# ---- what may happen to lessons ------------------------------------------------------------------


def change(path, edit):
    notebook = nbformat.read(path, 4)
    edit(notebook.cells)
    nbformat.write(notebook, path)


def nothing(lessons):
    pass


def a_cell_in_each(lessons):
    def edit(cells):
        cells[3].source += "\n\n(said better)" if cells[3].cell_type == "markdown" else "\n# done better"

    for name in lesson_names(lessons):
        change(lessons / name, edit)


def exercises_gone(lessons):
    """Of each lesson, and in the others there are cells before and after what is left."""

    def edit(cells):
        first = next(cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata)
        cells[:] = [cell for cell in cells if first not in cell.source]
        cells.insert(2, new_markdown_cell("A new beginning.", id="new-beginning"))
        cells.append(new_code_cell("print('a new end')", id="new-end"))

    for name in lesson_names(lessons):
        change(lessons / name, edit)


def exercises_renamed(lessons):
    def edit(cells):
        names = [cell.metadata.nbgrader.grade_id for cell in cells if cell.metadata.get("nbgrader", {}).get("solution")]
        for cell in cells:
            for name in names:
                cell.source = cell.source.replace(name, f"{name}_anew")
            if "nbgrader" in cell.metadata:
                cell.metadata.nbgrader.grade_id += "_anew"

    for name in lesson_names(lessons):
        change(lessons / name, edit)


def files_renamed_split_added_and_dropped(lessons):
    names = lesson_names(lessons)
    for number, name in enumerate(names):
        path = lessons / name
        if number % 4 == 0:
            path.rename(path.with_stem(f"{path.stem}_anew"))
        elif number % 4 == 1:
            (lessons / "elsewhere").mkdir(exist_ok=True)
            path.rename(lessons / "elsewhere" / path.name)
        elif number % 4 == 2:
            second = path.with_stem(f"{path.stem}_2")
            shutil.copyfile(path, second)
            change(path, lambda cells: cells.__delitem__(slice(len(cells) // 2, None)))
            change(second, lambda cells: cells.__delitem__(slice(len(cells) // 2, -5)))
        elif number > 12:
            path.unlink()


UPDATES = (nothing, a_cell_in_each, exercises_gone, exercises_renamed, files_renamed_split_added_and_dropped)


# ---- and what must be so after it ----------------------------------------------------------------


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_an_update_loses_nothing(kind, update, workspace, lessons, archive):
    mine, files = workspace(kind), ("my_llm.py", "progress.json")
    written, kept = (
        edited(mine, archive),
        {name: (mine / name).read_bytes() for name in files if (mine / name).exists()},
    )
    assert bool(written) == bool(kept) == (kind != "none")
    was = {standing.name: standing for standing in standings(workspace=archive / kind)}

    update(lessons)
    copy_lessons(lessons, mine)
    write_start_page(lessons, mine)

    after = {name: (mine / name).read_bytes() for name in (*written, *kept)}
    assert after == written | kept
    check_start_page(mine, lessons, written)
    done = set(json.loads(kept.get("progress.json", b'{"done": []}'))["done"])
    for standing in standings(lessons, mine):
        assert set(standing.done) == done & set(standing.exercises)
        if standing.name in was:
            assert standing.minutes_left <= was[standing.name].minutes_left
    page = (mine / PAGE).read_bytes()
    assert copy_lessons(lessons, mine) == []
    write_start_page(lessons, mine)
    assert (mine / PAGE).read_bytes() == page


def check_start_page(mine, lessons, written):
    """A row for each lesson leads to its newest copy; the learner's own are named, and marked where they are older."""
    text = nbformat.read(mine / PAGE, 4).cells[0].source
    assert all((mine / link).is_file() for link in re.findall(r"\]\(([^:)]+)\)", text))
    rows = {}
    for line in text.splitlines():
        if re.match(r"\|.*\]\(", line):
            first, *others = re.findall(r"\]\(([^)]+)\)", line)
            rows[re.sub(r"\.updated(-\d+)?", "", first)] = first, others, line
    assert sorted(rows) == sorted(lesson_names(lessons))
    for name, (first, others, line) in rows.items():
        new = sources(lessons / name)
        if name in written and unchanged(mine, name, new):
            assert (first, others) == (name, []), "still the newest"
        else:
            assert sources(mine / first) == new and first not in written
            assert others == [name] * (name in written)
        assert (OLDER in line) == bool(others)
    on = next_up(standings(lessons, mine))
    assert all(f"({file})" in text.split("### ")[0] for file in (on.older if on else ()))
    *_, section = text.split("### Older than the course")
    for name in set(written) - set(lesson_names(lessons)):
        assert f"({name})" in section


def unchanged(mine, name, new):
    """Whether the lesson is as the copy was before the learner wrote in it."""
    versions = json.loads((mine / ".course/copies.json").read_text())
    return versions[name]["each"] == " ".join(cell_digest(source) for source in new)


@pytest.mark.parametrize("kind", KINDS)
def test_one_update_after_another(kind, workspace, lessons, archive):
    """And in between the learner goes on in what came beside, or takes it for their own."""
    mine = workspace(kind)
    written = edited(mine, archive)
    a_cell_in_each(lessons)
    copy_lessons(lessons, mine)
    beside = sorted(set(notebooks(mine)) - set(notebooks(archive / kind)))
    assert beside == sorted(name.replace(".ipynb", ".updated.ipynb") for name in written)
    for name in beside[:-1]:
        change(mine / name, lambda cells: cells.append(new_code_cell("print('more of mine')", id="more")))
        written[name] = (mine / name).read_bytes()
    if beside:
        taken = beside[-1].replace(".updated", "")
        (mine / beside[-1]).replace(mine / taken)
        change(mine / taken, lambda cells: cells.append(new_code_cell("print('mine, in the new one')", id="more")))
        written[taken] = (mine / taken).read_bytes()
        write_start_page(lessons, mine)
        text = nbformat.read(mine / PAGE, 4).cells[0].source
        assert not any(OLDER in line for line in text.splitlines() if f"]({taken})" in line)
        assert f"]({taken})" in text

    exercises_gone(lessons)
    copy_lessons(lessons, mine)
    write_start_page(lessons, mine)
    assert {name: (mine / name).read_bytes() for name in written} == written
    text = nbformat.read(mine / PAGE, 4).cells[0].source
    for name in written:
        assert f"[{Path(name).name}]({name})" in text, "older, and named"
    for name in lesson_names(lessons):
        link = re.search(rf"\| \[[^]]*\]\(({re.escape(name.removesuffix('.ipynb'))}[^)]*)\)", text)[1]
        assert sources(mine / link) == sources(lessons / name)


@pytest.mark.parametrize("kind", KINDS)
def test_from_the_lessons_themselves(kind, workspace, archive):
    mine = workspace(kind)
    written = edited(mine, archive)
    copy_lessons(LESSONS, mine)
    assert {name: (mine / name).read_bytes() for name in written} == written


def test_catching_up_overwrites_nothing_of_theirs(workspace, archive):
    mine = workspace("half")
    written = {
        name: set(sources(mine / name)) - set(sources(archive / "none" / name)) for name in edited(mine, archive)
    }
    done = records.done(mine)
    copy_lessons(LESSONS, mine)
    filled = {exercise for _, names in catch_up("14", workspace=mine) for exercise in names}
    for name, cells in written.items():
        assert cells <= set(sources(mine / name))
    asked = {exercise.name for exercise in exercises().values() if exercise.lesson < "14"}
    assert records.done(mine) == done and filled == asked - done


# ---- homework of the release before --------------------------------------------------------------


def grading_folder(root):
    shutil.copy(ROOT / "nbgrader_config.py", root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", [Path(name).stem for name in lesson_names() if Path(name).name.startswith("hw")])
def test_homework_of_that_release_is_graded_or_says_which_it_needs(name, archive, tmp_path):
    [path] = (archive / "all").rglob(f"{name}.ipynb")
    folder = grading_folder(tmp_path) / "grading/submitted/learner1" / name
    folder.mkdir(parents=True)
    shutil.copyfile(path, folder / path.name)
    release(name, root=tmp_path)
    [one] = marks(name, tmp_path)
    made = nbformat.read(path, 4).metadata.course.executed
    assert one.graded and (one.score == one.highest or made in one.to_read[0])


BEFORE, NOW = "b" * 16, "a" * 16
NAME = "hw1_input_processing"


def homework(mark, parts=("byte_words", "best_pair", "decode_ids")):
    """The homework with a few of its exercises, from one release."""
    notebook = nbformat.read(LESSONS / "homework" / NAME / f"{NAME}.ipynb", 4)
    notebook.metadata.course.executed = mark
    imports = next(cell for cell in notebook.cells if cell.source.startswith("import "))
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id", "") for cell in notebook.cells]
    notebook.cells = [imports, *(cell for cell, id in zip(notebook.cells, ids, strict=True) if id.startswith(parts))]
    return notebook


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(the folder, student → marks): today's homework, and submissions from another one."""
    root = grading_folder(tmp_path_factory.mktemp("an instructor's"))
    today = root / "notebooks" / f"{NAME}.ipynb"
    today.parent.mkdir()
    nbformat.write(homework(NOW), today)
    release(NAME, today.parent, root)

    def hand_in(student, notebook, *replaced):
        solved = {cell.id: cell.source for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")}
        text = nbformat.writes(notebook)
        for old, new in replaced:
            text = text.replace(old, new)
        draft = root / "draft.ipynb"
        draft.write_text(text, "utf-8")
        handed_in = nbformat.reads(learners_version(draft).decode(), 4)
        for cell in handed_in.cells:
            if cell.id in solved:
                lines = solved[cell.id].splitlines()
                cell.source = "\n".join(line for line in lines if "SOLUTION" not in line)
                for old, new in replaced:
                    cell.source = cell.source.replace(old, new)
        folder = root / "grading/submitted" / student / NAME
        folder.mkdir(parents=True)
        nbformat.write(handed_in, folder / f"{NAME}.ipynb")

    then = homework(BEFORE, ("byte_words", "decode_ids", "move_keys"))
    hand_in("other exercises then", then, ("decode_ids", "text_of_ids"))
    hand_in("another task then", homework(BEFORE), ("decode_ids(ids, tokens)", "decode_ids(tokens, ids)"))
    gone = ("BYTES_BY_ID", "BYTE_BY_ID"), ("bytes([value])", "BYTE_BY_ID[value]")
    hand_in("imports what is gone", homework(BEFORE), *gone)
    hand_in("wrong", homework(BEFORE), ('errors="replace"', ""))
    return root, {one.student: one for one in marks(NAME, root, today.parent)}


@pytest.mark.slow  # nbgrader grades four submissions
@pytest.mark.parametrize(
    "student, score, said",
    [
        ("other exercises then", 8, ["best_pair_counts has changed", "decode_ids_text has changed"]),
        ("another task then", 23, ["decode_ids_text has changed"]),
        ("imports what is gone", 21, ["cannot import name 'BYTE_BY_ID' from 'course_lib"]),
        ("wrong", 23, []),
    ],
)
def test_marks_are_right_or_say_which_release_they_need(graded, student, score, said):
    _, found = graded
    one = found[student]
    assert one.graded and one.score == score
    assert all(part in one.to_read[0] for part in said) and (BEFORE in "".join(one.to_read)) == bool(said)


@pytest.mark.slow
def test_the_table_of_marks_says_so_too(graded):
    root, _ = graded
    assert (root / f"grading/{NAME}.csv").read_text("utf-8").count(BEFORE) == 3 * 2


@pytest.mark.slow
def test_a_release_with_other_parts_does_not_take_the_place_of_one_with_marks(graded):
    root, _ = graded
    before = (root / "grading/release" / NAME / f"{NAME}.ipynb").read_bytes()
    other = root / "later" / f"{NAME}.ipynb"
    other.parent.mkdir()
    nbformat.write(homework("c" * 16, ("byte_words",)), other)
    with pytest.raises(RuntimeError, match="has other parts than when the submissions in grading/ were graded"):
        release(NAME, other.parent, root)
    assert (root / "grading/release" / NAME / f"{NAME}.ipynb").read_bytes() == before
