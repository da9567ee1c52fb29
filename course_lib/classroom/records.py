"""Which exercises are done: `progress()`, and the file `progress.json` in the learner's workspace."""

import json
from pathlib import Path

from course_lib.classroom.exercises import exercises
from course_lib.classroom.files import write_atomically
from course_lib.classroom.location import workspace_folder

HOMEWORK_NAMES = {"hw1": "homework: input processing", "hw2": "homework: the transformer block"}
done_here = set()  # in this session, for when there is no workspace


def progress() -> None:
    """Print the exercises of the course, lesson by lesson, then the homework's: ✓ done, ○ open."""
    from course_lib.visuals.journey import LESSON_NAMES

    done, sentences = _done()
    for sentence in sentences:
        print(sentence)
    known = exercises()
    print(f"{sum(name in done for name in known)} of {len(known)} exercises done")
    names, lesson = LESSON_NAMES | HOMEWORK_NAMES, None
    for exercise in known.values():
        if exercise.lesson != lesson:
            lesson = exercise.lesson
            print(f"{lesson} {names[lesson]}")
        print(f"   {'✓' if exercise.name in done else '○'} {exercise.name}: {exercise.title}")


def note(name: str) -> list[str]:
    """Note an exercise as done; sentences for the learner where something is in the way."""
    done_here.add(name)
    folder = workspace_folder()
    if folder is None:
        return []
    try:
        done, sentences = _done()
        write_atomically(folder / "progress.json", json.dumps({"done": sorted(done)}, indent=1) + "\n")
        return sentences
    except OSError as error:
        return [f"That it is done could not be noted in progress.json: {error.strerror}."]


def _done() -> tuple[set[str], list[str]]:
    """The names of what is done, and sentences about a damaged file, which is set aside."""
    folder = workspace_folder()
    file = folder / "progress.json" if folder else None
    if file is None or not file.exists():
        return set(done_here), []
    try:
        names = json.loads(file.read_text("utf-8"))["done"]
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("not a list of names")
        return done_here | set(names), []
    except OSError as error:
        return set(done_here), [f"progress.json cannot be read: {error.strerror}."]
    except (ValueError, KeyError, TypeError):
        aside = _free_name(file)
        file.replace(aside)
        return set(done_here), [
            f"progress.json was damaged: it is now {aside.name}. Run the checks again, and it is filled anew."
        ]


def _free_name(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.stem}.damaged-{number}{file.suffix}")).exists():
        number += 1
    return aside
