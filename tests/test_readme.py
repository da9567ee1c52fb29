"""What the README shows and says must be what is there."""

import base64
import json
import re
from pathlib import Path

from course_lib.drawing.journey import journey_map

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_map_is_the_librarys_own():
    assert (ROOT / "docs/journey.svg").read_text("utf-8") == journey_map("00").svg + "\n"


def test_the_xray_is_lesson_00s_own():
    cells = json.loads((ROOT / "notebooks/00_prompt_to_response.ipynb").read_text("utf-8"))["cells"]
    [picture] = (
        output["data"]["image/png"]
        for cell in cells
        if "xray(trace" in "".join(cell["source"])
        for output in cell.get("outputs", [])
    )
    assert (ROOT / "docs/xray.png").read_bytes() == base64.b64decode("".join(picture))


def test_every_file_and_command_it_names_is_there():
    for link in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)\b", README)) - {"it"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    from course_lib.__main__ import COMMANDS

    names = {command.__name__.replace("_", "-") for command in COMMANDS}
    assert set(re.findall(r"python -m course_lib ([\w-]+)", README)) <= names


def test_it_names_the_pythons_and_the_torch_that_were_tried():
    from course_lib.doctor import TRIED

    *others, last = TRIED
    assert f"Python {', '.join(others)} or {last}" in README
    [torch] = re.findall("^torch==.*", (ROOT / "requirements.lock.txt").read_text("utf-8"), re.MULTILINE)
    assert f"--torch-backend=cpu {torch}\n" in README


def test_every_folder_of_the_library_is_in_its_picture():
    picture = README[README.index("## The library mirrors the journey") :]
    for path in (ROOT / "course_lib").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"{path.name}/" in picture
