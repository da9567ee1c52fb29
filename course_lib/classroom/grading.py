"""A homework, or any lesson as one, through nbgrader. What an instructor does from here on: nbgrader_config.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from course_lib.classroom.workspace import LESSONS, ROOT, lesson_names


def release(lesson: str, lessons: Path = LESSONS, root: Path = ROOT) -> Path:
    """Make one nbgrader assignment of one lesson or homework, and release it: the notebook to hand out.

    Released again after a change of the lesson, it replaces what was released before. `root` has nbgrader_config.py.
    Raises ValueError for an unknown lesson, RuntimeError where nbgrader fails (its own messages come first).
    """
    by_name = {Path(name).stem: lessons / name for name in lesson_names(lessons)}
    if lesson not in by_name:
        raise ValueError(f"there is no lesson {lesson!r}: there are {', '.join(by_name)}")
    source = root / "grading/source" / lesson
    source.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(by_name[lesson], source / f"{lesson}.ipynb")
    # a new gradebook is made by the alembic script beside python, which is not found where .venv is not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", lesson, "--force"]
    done = subprocess.run(command, cwd=root, env=os.environ | {"PATH": path})
    if done.returncode:
        raise RuntimeError(f"nbgrader did not release {lesson}: what it says above is why")
    return root / "grading/release" / lesson / f"{lesson}.ipynb"
