"""A learner's way through the course, in one process; `test_other_systems.py` runs it, in a copy of the repository."""

import contextlib
import io
import linecache
import os
import signal
import sys
from pathlib import Path

from nbgrader.preprocessors import Execute

from course_lib import assets
from course_lib.__main__ import main
from course_lib.classroom import autograding
from course_lib.files import replacing

workspace = Path(os.environ["COURSE_WORKSPACE"])


def course(*arguments: str) -> str:
    """What `python -m course_lib …` prints; it must go well."""
    sys.argv = ["course_lib", *arguments]
    printed = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    with contextlib.redirect_stdout(printed):
        try:
            main()
        except SystemExit as end:
            assert not end.code, f"{arguments}: {end.code}"
    return printed.buffer.getvalue().decode("cp1252")


def cell(source: str) -> str:
    """What a cell of a notebook in the workspace prints."""
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, name, "exec"), notebook)
    return printed.getvalue()


assert not hasattr(signal, "setitimer") and Path(__file__).parent == Path(assets.__file__).parents[1]

# fetch: what is missing, then what is damaged, over a file that another program has open
assert "2 files" in course("fetch")
assets.path("plays/hamlet").write_bytes(b"short")
assert "2 files" in course("fetch")

# workspace: a first copy, then a newer lesson over it
assert "Your copy of the lessons is up to date" in course("workspace")
lesson = Path("notebooks/00_prompt_to_response.ipynb")
copy = workspace / lesson.name
assert b'"output_type"' not in copy.read_bytes(), "a copy without outputs"
lesson.write_bytes(lesson.read_bytes().replace(b"From prompt to response", "From prompt — to response".encode(), 1))
assert lesson.name in course("workspace")
assert "prompt — to" in copy.read_text("utf-8")

# check and keep
notebook = {"__name__": "__main__"}
os.chdir(workspace)
cell("from course_lib.classroom import check, grade\nimport torch\n")
right = "def greedy_choice(logits):\n    return int(logits.argmax())  # mein Größtes → ✓\n"
assert "It is kept in my_llm.py." in (said := cell(right + "check(greedy_choice)")), said
kept = workspace / "my_llm.py"
kept.write_bytes(b"\xef\xbb\xbf" + kept.read_bytes().replace(b"\n", b"\r\n"))  # as an editor there saves it
again = right.replace("logits.argmax()", "torch.argmax(logits)")
assert "It is kept in my_llm.py." in (said := cell(again + "check(greedy_choice)")), said
assert "torch.argmax(logits))  # mein Größtes → ✓" in kept.read_text("utf-8")
assert "stopped" in (said := cell("def greedy_choice(logits):\n    while True: pass\ncheck(greedy_choice)")), said

# grade
cell(right + 'grade(greedy_choice, "largest")')
try:
    cell('def greedy_choice(logits):\n    return 0\ngrade(greedy_choice, "largest")')
except AssertionError as error:
    assert "greedy_choice" in str(error), error
else:
    raise SystemExit("a wrong answer was graded as right")

# grading thirty: a kernel without a limit of memory
Execute.start_new_kernel = lambda self, **settings: None
autograding.PatientExecute().start_new_kernel()

# a checkpoint in the place of an older one that another program has open
for content in ("old", "new"):
    with replacing(workspace / "checkpoint") as beside:
        beside.write_text(content)
assert (workspace / "checkpoint").read_text() == "new"

# catch-up: what the lesson before has open is filled in
os.chdir(Path(__file__).parent)
said = course("catch-up", "02")
assert "01_text_to_tokens.ipynb: " in said, said

assert "all 2 files present" in (said := course("doctor")), said
