"""Windows and macOS, as far as Linux can imitate them: `other_systems/sitecustomize.py` takes away what they lack."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from test_assets import TEXTS, archive_table, write_sdist

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent / "other_systems"
LESSONS = ("00_prompt_to_response.ipynb", "phase_1_input_processing/01_text_to_tokens.ipynb")
COPIED = ("nbgrader_config.py", "requirements.txt", "requirements.lock.txt", *(f"notebooks/{name}" for name in LESSONS))
TEXT = {".py", ".ipynb", ".toml", ".txt", ".json"}


def copy_with_crlf(target: Path) -> None:
    """The course as git may check it out on Windows, with two of its lessons."""
    files = [path for path in (ROOT / "course_lib").rglob("*") if path.suffix in TEXT]
    for path in (*files, *(ROOT / name for name in COPIED)):
        there = target / path.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def test_a_learners_way_without_what_other_systems_lack(tmp_path):
    course = tmp_path / "My Course"
    copy_with_crlf(course)
    shutil.copy(HERE / "journey.py", course)
    archive = tmp_path / "tiny-texts-0.6.tar.gz"
    write_sdist(archive, tmp_path / "executed")
    files = {
        f"plays/{name}": (f"plays/{name}.txt", f"tiny-texts-0.6/texts/{name}_gut.txt", text)
        for name, text in TEXTS.items()
    }
    (course / "data").mkdir()
    manifest = archive_table("tiny-texts", "0.6", "sdist", archive, files)
    (course / "data/manifest.toml").write_bytes(manifest.replace("\n", "\r\n").encode())

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "COURSE_"))}
    environment |= {
        "PYTHONPATH": str(HERE),
        "OTHER_SYSTEM_COURSE": str(course),
        "COURSE_WORKSPACE": str(course / "workspace"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": tmp_path.as_uri(),
        "PIP_NO_INDEX": "1",
    }
    command = [sys.executable, "journey.py"]
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
