"""The start page of the learner's workspace, `start.ipynb`: where one is, how much is left, and where to go on.

It is made anew at each `make lab` from what is there already: the lessons, their copies, and `progress.json`.

Of a lesson that was edited and has changed since there are several copies: the page leads to the newest, and names the
older ones, which have the learner's answers.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.classroom import records
from course_lib.classroom.location import LESSONS, copy_folder
from course_lib.classroom.workspace import WHATS_NEW, content_of, key_of, learners_copies, lesson_names, was_saved
from course_lib.drawing.journey import journey_map, on_the_map
from course_lib.drawing.style import PHASES
from course_lib.files import locked, write_atomically
from course_lib.lessons import course, exercises

PAGE, PAGE_CELL = "start.ipynb", "start-page"
READING = 0.6  # the part of a lesson's minutes that goes into reading; the rest is for its exercises
STEP = 5  # minutes: nothing finer is known
NOT_KNOWN = 60  # minutes of a notebook that is none of the course's
CODE = "# this page as it is now: run this cell\nfrom course_lib.classroom import start\n\nstart()"


@dataclass(frozen=True)
class Standing:
    """One lesson or homework, and how far the learner is with it."""

    name: str  # its path in notebooks/
    lesson: str  # its key; empty for a notebook that has none
    title: str
    minutes: int  # the whole of it
    exercises: tuple[str, ...]
    done: tuple[str, ...]  # of them, those that passed
    caught_up: tuple[str, ...]  # of them, those that `catch-up` filled in
    run: float  # the part of its code cells that was run in a copy of the learner's, 0 to 1
    saved: float  # when the learner last saved a copy, in seconds; 0 for never
    copy: str = ""  # the path of the newest copy in the workspace; without one it will be `name`
    older: tuple[str, ...] = ()  # and of those that the learner edited before the lesson changed

    @property
    def link(self) -> str:
        return f"[{self.title}]({self.copy or self.name})"

    @property
    def finished(self) -> bool:
        ready = len(self.done) + len(self.caught_up) == len(self.exercises)
        return ready and (bool(self.exercises) or self.run > 0.9)

    @property
    def minutes_left(self) -> int:
        """About; in steps of five. Exercises stand at the end: who has solved one has read the lesson."""
        if self.finished:
            return 0
        read = 1.0 if self.done else self.run
        solved = (len(self.done) + len(self.caught_up)) / max(1, len(self.exercises))
        left = self.minutes * (READING * (1 - read) + (1 - READING) * (1 - solved))
        return max(STEP, STEP * round(left / STEP))


def standings(lessons: Path = LESSONS, workspace: Path | None = None) -> list[Standing]:
    """Every lesson in order, then every homework."""
    workspace = workspace or copy_folder()
    done, filled = records.done(workspace), records.caught_up(workspace)
    copies, known, found = learners_copies(workspace), course(), []
    for name in lesson_names(lessons):
        cells = json.loads(content_of(lessons / name))["cells"]
        key = key_of(lessons / name)
        asked = tuple(exercise.name for exercise in exercises().values() if exercise.lesson == key)
        mine = copies.get(name, [])
        saved = {copy.file: at for copy in mine if (at := was_saved(copy.file, workspace))}
        found.append(
            Standing(
                name=name,
                lesson=key,
                title=_title(cells),
                minutes=known[key].minutes if key in known else NOT_KNOWN,
                exercises=asked,
                done=tuple(exercise for exercise in asked if exercise in done),
                caught_up=tuple(exercise for exercise in asked if exercise in filled - done),
                run=max((_run(workspace / file) for file in saved), default=0.0),
                saved=max(saved.values(), default=0.0),
                copy=mine[0].file if mine else "",
                older=tuple(copy.file for copy in mine if copy.older and copy.edited),
            )
        )
    return found


def next_up(found: list[Standing]) -> Standing | None:
    """Where to go on: what was saved last, if it is not finished; else the first unfinished lesson after it."""
    last = max(found, key=lambda standing: standing.saved)
    place = found.index(last) if last.saved else 0
    if last.saved and not last.finished:
        return last
    open_lessons = [standing for standing in found if not standing.finished and on_the_map(standing.lesson)]
    later = [standing for standing in open_lessons if found.index(standing) >= place]
    return (later or open_lessons or [None])[0]


def left_behind(lessons: Path = LESSONS, workspace: Path | None = None) -> list[str]:
    """The copies that the learner edited, of lessons that the course has no longer under that name."""
    here = lesson_names(lessons)
    every = learners_copies(workspace or copy_folder()).items()
    return [copy.file for name, copies in every for copy in copies if copy.edited and name not in here]


def page(found: list[Standing], news: bool = False, behind: Sequence[str] = ()) -> str:
    """The page as Markdown; `news` adds a link to what has changed in the lessons, `behind` those copies."""
    on = next_up(found)
    here = on.lesson if on and on_the_map(on.lesson) else "14"
    finished = [standing.lesson for standing in found if standing.finished]
    chart = journey_map(here, done=[lesson for lesson in finished if on_the_map(lesson)])
    n_done, n_all = (sum(len(getattr(standing, part)) for standing in found) for part in ("done", "exercises"))
    lines = ["# From prompt to response", "", f"![{chart.alt}]({chart.address})", ""]
    if on:
        begun = "Continue where you were" if on.saved else "Begin" if not finished else "Next"
        lines += [f"## {begun}: {on.link}", "", f"{_time(on.minutes_left).capitalize()} left in it.", ""]
        if on.older:
            lines += [f"The lesson has changed since you began. What you wrote is in {_links(on.older)}.", ""]
    else:
        lines += ["## You have finished the course", ""]
    left = sum(standing.minutes_left for standing in found)
    lines += [f"{n_done} of {n_all} exercises done; {_time(left)} left in all, homework included.", ""]
    if news:
        lines += [f"[What is new in the lessons]({WHATS_NEW})", ""]
    for heading, group in _groups(found):
        lines += [f"### {heading}", "", "| | | exercises | left |", "| --- | --- | --- | --- |"]
        lines += [_row(standing, standing is on) for standing in group] + [""]
    if any(standing.caught_up for standing in found):
        lines += ["↷ filled in by `catch-up`, with the course's own version", ""]
    if behind:
        lines += ["### Older than the course", "", "The course no longer has these lessons, or has them elsewhere.", ""]
        lines += [f"- {_links([file])}" for file in behind] + [""]
    return "\n".join(lines)


def start():
    """For a notebook: the page as it is now."""
    from IPython.display import Markdown

    return Markdown(_page_now())


def write_start_page(lessons: Path = LESSONS, workspace: Path | None = None) -> Path:
    """Write the page into `start.ipynb`; whatever else a learner keeps in that notebook stays."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    workspace = workspace or copy_folder()
    path = workspace / PAGE
    notebook = new_notebook(cells=[new_markdown_cell(id=PAGE_CELL), new_code_cell(CODE, id="start-again")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    with locked(workspace):
        try:
            old = nbformat.reads(content_of(path).decode(), 4)
            if any(cell.get("id") == PAGE_CELL for cell in old.cells):
                notebook = old
        except (OSError, ValueError):  # none yet, or damaged: there is nothing in it that is not made anew
            pass
        for cell in notebook.cells:
            if cell.get("id") == PAGE_CELL:
                cell.source = _page_now(lessons, workspace)
        write_atomically(path, nbformat.writes(notebook) + "\n")
    return path


def _page_now(lessons: Path = LESSONS, workspace: Path | None = None) -> str:
    workspace = workspace or copy_folder()
    news = (workspace / WHATS_NEW).is_file()
    return page(standings(lessons, workspace), news, left_behind(lessons, workspace))


def _groups(found: list[Standing]) -> Iterator[tuple[str, list[Standing]]]:
    """Lessons by phase, then the homework."""
    groups: dict[str, list[Standing]] = {}
    for standing in found:
        lesson = course().get(standing.lesson)
        phase = lesson.phase if lesson and not lesson.homework else 0
        heading = PHASES[phase].heading if phase else "The whole journey" if on_the_map(standing.lesson) else "Homework"
        groups.setdefault(heading, []).append(standing)
    yield from groups.items()


def _row(standing: Standing, is_next: bool) -> str:
    mark = "✓" if standing.finished else "▶" if is_next else ""
    ticks = "".join(
        "✓" if name in standing.done else "↷" if name in standing.caught_up else "○" for name in standing.exercises
    )
    left = "done" if standing.finished else _time(standing.minutes_left)
    yours = f"<br>yours, older than the course: {_links(standing.older)}" if standing.older else ""
    return f"| {mark} | {standing.link}{yours} | {ticks} | {left} |"


def _links(files: Sequence[str]) -> str:
    return ", ".join(f"[{Path(file).name}]({file})" for file in files)


def _time(minutes: int) -> str:
    if minutes < 120:
        return f"about {minutes} minutes"
    return f"about {round(minutes / 60)} hours"


def _title(cells: list[dict]) -> str:
    return next(line.lstrip("# ").strip() for cell in cells for line in cell["source"] if line.startswith("# "))


def _run(copy: Path) -> float:
    try:
        cells = json.loads(copy.read_bytes())["cells"]
        ran = [
            bool(cell["execution_count"]) for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"])
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    return sum(ran) / max(1, len(ran))
