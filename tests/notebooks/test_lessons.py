"""What nbval does not see: it compares the outputs that are there, so they must be there, and readable."""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from io import BytesIO

import nbformat
import pytest
from drawing.themes import faint
from PIL import Image

from notebooks import execute

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


def read(path):
    return json.loads(path.read_text("utf-8"))["cells"]


def code(path):
    return [cell for cell in read(path) if cell["cell_type"] == "code"]


@pytest.fixture(params=execute.LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return request.param


def test_there_are_lessons():
    assert [path.stem for path in execute.LESSONS][:1] == ["00_prompt_to_response"]


def test_every_cell_was_run_once_and_in_order(lesson):
    """nbval passes a notebook without outputs: it finds nothing to compare."""
    cells = code(lesson)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs, number = [output for cell in cells for output in cell["outputs"]], lesson.stem.split("_")[0]
    assert outputs and all(output["output_type"] != "error" for output in outputs)
    assert [cell["id"] for cell in read(lesson)] == [f"{number}-{i:02}" for i in range(len(read(lesson)))]
    assert execute.is_current(lesson), "a code cell was changed after the run: `make notebooks`"


def test_most_of_what_is_printed_is_compared(lesson):
    printing = [cell for cell in code(lesson) if cell["outputs"]]
    ignored = [cell for cell in printing if "nbval-ignore-output" in cell["metadata"].get("tags", [])]
    assert len(ignored) <= 0.15 * len(printing)
    for cell in ignored:
        assert "not compared" in cell["source"][0], "a cell whose output is not compared says why in its first line"


def test_every_picture_has_a_text_equivalent(lesson):
    for cell in code(lesson):
        for output in cell["outputs"]:
            data = output.get("data", {})
            for kind in set(PICTURES) & set(data):
                alt = output["metadata"][kind]["alt"]
                assert len(alt) > 30 and "".join(data["text/plain"]).strip()
            html = "".join(data.get("text/html", ""))
            assert html.count("<img") == html.count('<img alt="') and 'alt=""' not in html


def test_what_is_shown_reads_in_both_themes(lesson):
    for cell in code(lesson):
        for output in cell["outputs"]:
            data = output.get("data", {})
            assert faint("".join(data.get("text/html", ""))) == []
            if "image/png" in data:
                picture = Image.open(BytesIO(b64decode(data["image/png"])))
                assert "A" not in picture.mode and "transparency" not in picture.info, "it stands on the theme's ground"


def test_no_picture_comes_from_elsewhere(lesson):
    text = lesson.read_text("utf-8")
    assert "](http" not in text or "![" not in text
    assert 'src=\\"http' not in text and "url(http" not in text


def test_small_enough_to_read(lesson):
    assert lesson.stat().st_size < 2_000_000
    assert max(len(cell["source"]) for cell in code(lesson)) <= 30


def small(tmp_path, *sources):
    path = tmp_path / "07_small.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[-1].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"course": {"lesson": "07"}}), path)
    return path


def test_a_lesson_run_again_is_the_same_to_the_byte(tmp_path):
    path = small(tmp_path, "print(1)\nprint(2)", "import time\nprint(time.time())")
    assert not execute.is_current(path)
    execute.execute(path)
    once = path.read_bytes()
    assert execute.is_current(path)
    execute.execute(path)
    assert path.read_bytes() == once

    notebook = nbformat.read(path, 4)
    assert [cell.id for cell in notebook.cells] == ["07-00", "07-01"]
    assert [output.text for output in notebook.cells[0].outputs] == ["1\n2\n"]
    notebook.cells[0].source = "print(3)"
    nbformat.write(notebook, path)
    assert not execute.is_current(path)


def test_a_widgets_model_id_is_not_kept(tmp_path):
    path = small(tmp_path, "print(1)", "import ipywidgets\nipywidgets.IntSlider()")
    execute.execute(path)
    assert nbformat.read(path, 4).cells[1].outputs == []
    assert b"model_id" not in path.read_bytes()


OFFLINE = """
import fcntl, pathlib, socket, struct, sys
import nbformat
from nbclient import NotebookClient

UP, RUNNING, SET_FLAGS = 0x1, 0x40, 0x8914
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # a kernel and its client talk over loopback
    fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP | RUNNING))
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)  # an address that no one has, in a network that is not there
except OSError as error:
    print("network:", error.strerror)
path = pathlib.Path(sys.argv[1])
NotebookClient(nbformat.read(path, 4), timeout=900, resources={"metadata": {"path": path.parent}}).execute()
print("ran to its end")
"""


@pytest.mark.slow  # nbval runs it too
def test_lesson_00_runs_with_the_network_cut_off():
    """In a network namespace of its own, where nothing but loopback exists."""
    unshare = shutil.which("unshare")
    cut = [unshare or "unshare", "--map-root-user", "--net"]
    if not unshare or subprocess.run([*cut, "true"], capture_output=True).returncode:
        pytest.skip("this machine cannot cut the network off for one process (Linux's unshare)")
    done = subprocess.run(
        [*cut, sys.executable, "-c", OFFLINE, str(execute.LESSONS[0])],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["network: Network is unreachable", "ran to its end"]
