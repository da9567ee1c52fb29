"""How a submission is run: tiny notebooks, whose graded cells ask for what the cells before them have made."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from course_lib.classroom.autograding import DIED, EXITED, LATER, PatientExecute

RIGHT = "assert answer == 42"


def run(*sources, **settings):
    """The cells after a run; those that begin with `assert` or `# graded` are graded."""
    cells = [new_code_cell(source) for source in sources]
    for number, cell in enumerate(cells):
        if cell.source.startswith(("assert", "# graded")):
            cell.metadata.nbgrader = {"grade": True, "grade_id": f"part_{number}", "points": 1}
    notebook, _ = PatientExecute(timeout=20, **settings).preprocess(new_notebook(cells=cells), {})
    nbformat.validate(notebook)
    return notebook.cells


def errors(cells):
    """What went wrong in each cell: the errors' names."""
    return [" ".join(output.ename for output in cell.outputs if output.output_type == "error") for cell in cells]


# ---- a cell is seen to have run, whatever its author calls his things ----------------------------------

OWN_NAMES = {
    "handles errors": "import sys\nget_ipython().set_custom_exc((Exception,), lambda *it: print(it, file=sys.stderr))",
    "print of rich": "from rich import print\nprint('[bold]42[/bold]')",
    "print is a text": "print = 'x'",
    "print of all": "import builtins\nbuiltins.print = None",
    "stdout in a file": "import os, sys\nsys.stdout = open(os.devnull, 'w')",
    "stdout closed": "import os, sys\nwith open(os.devnull, 'w') as sys.stdout:\n    print('into the file')",
    "stdout without flush": "import sys\nclass Tee:\n    def write(self, text): pass\nsys.stdout = sys.stderr = Tee()",
    "stdout is None": "import sys\nsys.stdout = sys.stderr = None",
    "tracebacks of rich": "from rich import traceback\ntraceback.install()",
    "names of builtins": "str = list = type = len = open = sys = KeyError = AssertionError = Exception = repr = 0",
    "a displayhook": "import sys\nsys.displayhook = None",
    "no results": "get_ipython().ast_node_interactivity = 'none'",
}


def test_marks_hang_on_no_name_that_a_student_can_give():
    cells = run("answer = 42", *(cell for source in OWN_NAMES.values() for cell in (source, RIGHT)))
    failed = dict(zip(OWN_NAMES, errors(cells)[2::2], strict=True))
    assert failed == dict.fromkeys(OWN_NAMES, "")
    assert all(not cell.outputs for cell in cells[2::2]), "the mark is still there"


def test_what_a_passing_test_shows_costs_nothing():
    noisy = "import warnings\ndef f():\n    display(99.0)\n    print('a')\n    warnings.warn('old')\n    return 42"
    _, cell = run(noisy, "# graded\nassert f() == 42")
    assert [output.output_type for output in cell.outputs] == ["display_data", "stream"]
    assert cell.outputs[1] == {"output_type": "stream", "name": "stdout", "text": "a\n"}


FORGED = "class Forged:\n    def __eq__(self, other): {}\nanswer = Forged()"
FORGERIES = {
    "drops the test": "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])",
    "drops the test's tree": """
import ast
class Empties(ast.NodeTransformer):
    def visit_Module(self, node): return ast.Module([], [])
get_ipython().ast_transformers.append(Empties())""",
    "another run_cell": """
from IPython.core.interactiveshell import ExecutionResult
async def run_cell_async(*arguments, **more): return ExecutionResult(None)
get_ipython().run_cell = lambda *arguments, **more: ExecutionResult(None)
get_ipython().run_cell_async = run_cell_async""",
    "an earlier mark": """
*_, mark = [value for name, value in globals().items() if isinstance(value, str) and len(name) == 33]
get_ipython().input_transformers_post.append(lambda lines: [f"{lines[-1].split(' =')[0]} = '{mark}'\\n"])""",
    "an answer to the question": """
def user_expressions(asked): return dict.fromkeys(asked, dict(status="error", ename="KeyError", evalue="'seen'"))
get_ipython().user_expressions = user_expressions
get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])""",
    "exit before the test": "exit()",
    "exit in the test": FORGED.format("exit()"),
    "SystemExit in the test": FORGED.format("raise SystemExit(0)"),
    "ends the kernel in the test": FORGED.format("__import__('os')._exit(0)"),
    "shows no errors": "get_ipython().showtraceback = lambda *arguments, **more: None",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_run_earns_nothing(name):
    cells = run("answer = 0", "# graded\npass", FORGERIES[name], RIGHT, seconds_to_die=0)
    _, honest, forgery, forged = errors(cells)
    assert forged and not honest and forgery in ("", EXITED)


# ---- a kernel's end costs the cell alone that ended it -------------------------------------------------


def test_exit_ends_nothing_and_is_said_where_it_stands():
    ends = ["exit()", "quit()", "exit(keep_kernel=True)", "exec('exit()')"]
    cells = run(
        "answer = 41", *(cell for end in ends for cell in (f"answer = 42\n{end}\nanswer += 0", RIGHT, "del answer"))
    )
    assert errors(cells) == ["", *[EXITED, "", ""] * len(ends)]


LATE = "__import__('threading').Timer({}, __import__('os')._exit, [1]).start()"


def test_a_death_that_comes_late_is_booked_to_its_own_cell(monkeypatch):
    start, starts = PatientExecute.start_new_kernel, []
    monkeypatch.setattr(
        PatientExecute, "start_new_kernel", lambda *one, **more: starts.append(1) or start(*one, **more)
    )
    sources = ["a = 1", LATE.format(0.3), "b = 2", "import time\ntime.sleep(0.8)\nanswer = 42", "c = 3", RIGHT]
    assert errors(run(*sources, seconds_to_die=0.8)) == ["", DIED, "", "", "", ""]
    assert len(starts) == 5  # of 2 cells before the one that it died in, each way, and one without the guilty one


def test_a_test_that_kills_late_costs_no_other_test():
    sleepy = "assert __import__('time').sleep(0.8) is None"
    cells = run(
        FORGED.format(LATE.format(0.3)), "# graded\nanswer == 1", sleepy, "answer = 42", RIGHT, seconds_to_die=0.5
    )
    assert errors(cells) == [""] * 5


def test_a_cell_that_the_kernel_dies_in_costs_itself():
    cells = run("answer = 42", "import os\nos._exit(1)", RIGHT, seconds_to_die=0)
    assert errors(cells) == ["", DIED, ""]


# ---- a test that fails where it stands is run after everything else ------------------------------------


def test_an_answer_counts_wherever_it_stands_and_the_last_one_does():
    cells = run("# graded\nassert late == 1", "answer = 0", RIGHT, "answer = 42\nlate = 1", RIGHT, "assert False")
    assert errors(cells) == [""] * 5 + ["AssertionError"]
    assert [cell.outputs[0].text for cell in cells[:3:2]] == [LATER, LATER] and not cells[4].outputs


def test_a_tag_skips_no_cell():
    cells = [new_code_cell(source, metadata={"tags": ["skip-execution"]}) for source in ("answer = 42", "answer")]
    notebook, _ = PatientExecute().preprocess(new_notebook(cells=cells), {})
    assert notebook.cells[1].outputs[0].data == {"text/plain": "42"}


def test_a_test_that_passes_where_it_stands_has_passed():
    assert errors(run("answer = 42", RIGHT, "answer = 0")) == [""] * 3
