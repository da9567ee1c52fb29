"""Copy the course without its solutions to a place that learners can read: a class's server, an image of a container.

    .venv/bin/python deploy/for_learners.py /srv/course

The lessons and homework in it are what `python -m course_lib workspace` gives a learner. The tests stay behind: they
have right answers. Run it again after an update of the course.
"""

import compileall
import shutil
import sys
from pathlib import Path

from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import learners_version, lesson_names

FOLDERS = ("course_lib", "deploy")
REQUIREMENTS = ("requirements.txt", "requirements.lock.txt")
FILES = (*REQUIREMENTS, "pyproject.toml", "README.md", "LICENSE", "Makefile", "data/manifest.toml")


def copy_course(target: Path) -> None:
    for folder in (*FOLDERS, "notebooks"):
        shutil.rmtree(target / folder, ignore_errors=True)  # what the course no longer has must not stay
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    contents = {name: (ROOT / name).read_bytes() for name in FILES}
    contents |= {f"notebooks/{name}": learners_version(LESSONS / name) for name in lesson_names()}
    for name, content in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    compileall.compile_dir(target / "course_lib", quiet=1)  # learners cannot write there
    for path in (target, *(path for path in target.rglob("*") if ".venv" not in path.parts)):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)  # whatever umask was in force


if __name__ == "__main__":
    there = Path(sys.argv[1]).resolve()
    copy_course(there)
    print(f"The course without its solutions is in {there}")
