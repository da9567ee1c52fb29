"""Passed work is kept, in a file that loads on its own."""

import ast
import dataclasses
import linecache
import os
import subprocess
import sys
import time
from types import ModuleType

import pytest
import torch
from classroom.together import at_once

from course_lib import files
from course_lib.classroom import check, location, my_llm
from course_lib.classroom.judging import attempt
from course_lib.lessons import exercises

PREAMBLE = "import torch, math\nimport torch.nn.functional as F\nfrom torch import Tensor\n"
SIMPLE = "def greedy_choice(logits):\n    return int(logits.argmax())  # mine\n"


@pytest.fixture
def new_notebook(tmp_path, monkeypatch):
    """A function that begins a notebook: a function that runs cells as a kernel does, with sources that inspect finds.

    A notebook has a namespace of its own.
    """
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    count = iter(range(1000))

    def begin():
        scope = {"__name__": "__main__", "check": check}

        def run(source):
            name = f"<cell {next(count)} of {tmp_path.name}>"
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), scope)
            return scope

        run(PREAMBLE)
        return run

    return begin


@pytest.fixture
def notebook(new_notebook):
    return new_notebook()


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "my_llm.py"


def answers_alone(file):
    code = "import torch, my_llm; print(my_llm.greedy_choice(torch.tensor([1.0, 3, 3])))"
    done = subprocess.run([sys.executable, "-c", code], cwd=file.parent, capture_output=True, text=True)
    return done.stdout + done.stderr[-300:]


def test_a_passed_function_is_kept_in_the_learners_words(notebook, kept, capsys):
    notebook(SIMPLE + "check(greedy_choice)")
    assert capsys.readouterr().out.endswith("It is kept in my_llm.py.\n")
    assert SIMPLE in kept.read_text() and "import" not in kept.read_text()
    assert answers_alone(kept) == "1\n"


def test_what_it_needs_is_kept_too(notebook, kept):
    notebook("START = -math.inf\nLIMIT = [1, 2]\ndef is_best(scores):\n    return scores == top(scores)\n")
    notebook(
        "def top(scores: Tensor) -> Tensor:\n"
        "    best = torch.amax(scores, LIMIT[0] - 1)\n    return F.relu(best) - F.relu(-best)"
    )
    notebook(
        "def greedy_choice(logits):\n    if logits.max() == math.inf:\n        return 0\n"
        "    return int(is_best(logits).nonzero()[0])\ncheck(greedy_choice)"
    )
    text = kept.read_text()
    for line in ("import math", "import torch", "import torch.nn.functional as F", "from torch import Tensor"):
        assert f"\n{line}\n" in text
    assert "LIMIT = [1, 2]\n" in text and "START" not in text
    assert answers_alone(kept) == "1\n"


def test_a_parameter_is_no_global_of_the_notebook(notebook, kept):
    notebook("from math import inf\nlogits, best = [1, 2], 3\nbig = [5, 6]")
    notebook(
        "def greedy_choice(logits):\n    best = [score if score < inf else 9e9 for score in logits.tolist()]\n"
        "    return best.index(max(best)) + 0 * len(big)\ncheck(greedy_choice)"
    )
    text = kept.read_text()
    assert "\nfrom math import inf\n" in text and "big = [5, 6]" in text
    assert "logits = " not in text and "best = 3" not in text and answers_alone(kept) == "1\n"


def test_the_latest_passing_version_stays(notebook, kept, capsys):
    notebook(SIMPLE + "check(greedy_choice)")
    notebook(SIMPLE.replace("mine", "second") + "check(greedy_choice)")
    second = kept.read_text()
    assert "# second" in second and "# mine" not in second and second.count(">>> greedy_choice") == 1
    notebook("def greedy_choice(logits):\n    return 0  # third\ncheck(greedy_choice)")
    assert kept.read_text() == second
    capsys.readouterr()
    notebook(SIMPLE.replace("mine", "second") + "check(greedy_choice)")
    assert kept.read_text() == second and "kept" not in capsys.readouterr().out


def test_what_is_written_by_hand_stays(notebook, kept):
    notebook(SIMPLE + "check(greedy_choice)")
    before, section, after = kept.read_text().partition("# >>> greedy_choice")
    kept.write_bytes((before + "mine = 1\r\n" + section + after + "\n# the end\n  \n").encode())
    notebook("def greedy_choice(logits):\n    return int(torch.argmax(logits))\ncheck(greedy_choice)")
    text = kept.read_bytes().decode()
    assert text.startswith(before.rstrip("\n")) and "mine = 1\r\n" in text and text.endswith("\n# the end\n  \n")
    assert "torch.argmax" in text and answers_alone(kept) == "1\n"


LESSON_05 = (
    """
def causal_mask(n_query, n_key):
    return torch.arange(n_key) <= torch.arange(n_key - n_query, n_key)[:, None]
check(causal_mask)
""",
    """
def scaled_dot_product_attention(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights @ value
check(scaled_dot_product_attention)
""",
)
LESSON_06 = (
    """
from course_lib.transformer_block.attention import causal_mask, scaled_dot_product_attention
""",
    """
def split(x, n_heads):  # a helper may be written on the line of its def
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)
def look(query, key, value): return scaled_dot_product_attention(query, key, value, causal_mask(query.shape[-2]))[0]
def multi_head_attention(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    \'\'\'In heads.\'\'\'
    assert causal_mask(1).all()
    query, key, value = (split(x @ weight.T, n_heads) for weight in (query_weight, key_weight, value_weight))
    return look(query, key, value).transpose(1, 2).flatten(2) @ output_weight.T
check(multi_head_attention)
""",
)


@pytest.mark.parametrize("order", [(LESSON_05, LESSON_06), (LESSON_06, LESSON_05), (LESSON_05, LESSON_06, LESSON_05)])
def test_my_function_takes_no_import_away_from_another(new_notebook, kept, capsys, order):
    for lesson in order:
        notebook = new_notebook()
        for cell in lesson:
            notebook(cell)
    assert "not kept" not in capsys.readouterr().out
    text = kept.read_text()
    imported = "import causal_mask  # the one that this was written with"
    assert (
        text.count("import causal_mask")
        == text.count(f"    from course_lib.transformer_block.attention {imported}")
        == 2
    )
    assert "import torch\n" in text.split("# <<< imports")[0] and "course_lib" not in text.split("# <<< imports")[0]
    exec(text, alone := {})
    for name in ("causal_mask", "scaled_dot_product_attention", "multi_head_attention"):
        assert not any(wrong for _, wrong, _ in attempt(exercises()[name], alone[name], seed=1))
    for cell in lesson:
        notebook(cell)
    assert kept.read_text() == text, "what is kept already is left as it is"


def test_two_imports_under_one_name_get_along(new_notebook, kept):
    notebook = new_notebook()
    notebook("from math import exp\ndef greedy_choice(logits):\n    return int(exp(0)) * int(logits.argmax())")
    notebook("check(greedy_choice)")
    notebook = new_notebook()
    notebook(
        "from torch import exp\ndef gelu(x):\n    return x * (torch.erf(x / 2**0.5) + exp(0 * x)) / 2\ncheck(gelu)"
    )
    text = kept.read_text()
    assert "\nfrom math import exp\n" in text and "\n    from torch import exp  #" in text
    assert answers_alone(kept) == "1\n"


def test_what_cannot_be_kept_is_said(notebook, kept, capsys):
    notebook("class Model:\n    pass\nmodel = Model()\nmodel.best = lambda logits: int(logits.argmax())")
    notebook("def greedy_choice(logits):\n    return model.best(logits)\ncheck(greedy_choice)")
    out = capsys.readouterr().out
    assert "✓ greedy_choice: 5 of 5 checks\nIt is not kept in my_llm.py: on its own it stops with NameError" in out
    assert "(model cannot be kept)" in out and not kept.exists()


def test_a_source_that_is_gone_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    scope = {"__name__": "__main__"}
    exec(SIMPLE, scope)
    check(scope["greedy_choice"])
    assert "It is not kept in my_llm.py: its source cannot be had." in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda text: text.replace("# <<< greedy_choice\n", ""), "has been lost"),
        (lambda text: text + "# >>> greedy_choice\n", "stands where it should not"),
        (lambda text: text + "what?\n", "would not be Python"),
        (lambda text: text + "# >>> other\nwhat?\n# <<< other\n", "is not Python any more"),
        (lambda text: text + "1 / 0\n", "would not load on its own, it stops with ZeroDivisionError"),
        (lambda text: text + "import sys; sys.exit()\n", "would not load on its own, it calls exit()"),
        (lambda text: text + "greedy_choice = 3\n", "on its own"),
    ],
)
def test_a_file_that_cannot_be_kept_up_is_left_alone(damage, sentence, notebook, kept, capsys):
    notebook(SIMPLE + "check(greedy_choice)")
    kept.write_text(damaged := damage(kept.read_text()))
    notebook(SIMPLE.replace("mine", "second") + "check(greedy_choice)")
    assert sentence in capsys.readouterr().out and kept.read_text() == damaged


def test_other_encodings_and_folders_are_said(notebook, kept, capsys):
    kept.write_bytes(b"# \xe9\n")
    notebook(SIMPLE + "check(greedy_choice)")
    assert "is not UTF-8" in capsys.readouterr().out and kept.read_bytes() == b"# \xe9\n"
    kept.unlink()
    kept.mkdir()
    notebook(SIMPLE + "check(greedy_choice)")
    assert "It is not kept in my_llm.py: " in capsys.readouterr().out
    assert [file.name for file in kept.parent.iterdir() if file.name.startswith(".")] == [".course"]


# ---- two kernels ---------------------------------------------------------------------------------

GELU = "def gelu(x):\n    return x * (1 + torch.erf(x / 2**0.5)) / 2\n"


def test_what_another_kernel_keeps_during_the_trial_stays(notebook, kept, monkeypatch):
    real, other = my_llm._try_out, iter([GELU + "check(gelu)"])

    def slow(*arguments):
        real(*arguments)
        for cell in other:
            notebook(cell)

    monkeypatch.setattr(my_llm, "_try_out", slow)
    notebook(SIMPLE + "check(greedy_choice)")
    assert SIMPLE in kept.read_text() and GELU in kept.read_text()


def test_two_kernels_that_write_at_once_lose_nothing(new_notebook, kept, monkeypatch):
    real = files.write_atomically
    monkeypatch.setattr(my_llm, "write_atomically", lambda *what: (time.sleep(0.005), real(*what)))
    monkeypatch.setattr(my_llm, "_try_out", lambda *_: None)  # it redirects the output of all threads
    monkeypatch.setattr(my_llm, "_failing", lambda lines: set())
    works = []
    for number in range(8):
        exercise = dataclasses.replace(exercises()["greedy_choice"], name=f"function_{number}")
        scope = new_notebook()(f"def {exercise.name}(logits):\n    return {number}")
        works.append(lambda exercise=exercise, scope=scope: my_llm.keep(exercise, scope[exercise.name]))
    at_once(*works)
    assert sorted(ast.literal_eval(kept.read_text().split("return ")[i][0]) for i in range(1, 9)) == list(range(8))


# ---- editors, folders, kernels -------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_another_editor_changes_nothing_by_saving(mark, end, notebook, kept, capsys):
    cell = "from math import exp\ndef greedy_choice(logits):\n    return int(logits.argmax()) * int(exp(0))  # mine\n"
    notebook(cell + "check(greedy_choice)")
    saved = (mark + kept.read_text().replace("\n", end)).encode()
    kept.write_bytes(saved)
    capsys.readouterr()
    notebook(cell + "check(greedy_choice)")
    assert kept.read_bytes() == saved and "kept" not in capsys.readouterr().out
    notebook(cell.replace("mine", "second") + "check(greedy_choice)")
    notebook(GELU + "check(gelu)")
    text = kept.read_bytes().decode("utf-8-sig")
    assert "# second" in text and "# <<< gelu" in text and "not kept" not in capsys.readouterr().out
    assert text.count("\n") == text.count(end)
    exec(kept.read_bytes(), alone := {})
    assert alone["greedy_choice"](torch.tensor([1, 2])) == 1


def test_a_function_of_the_file_may_be_used_in_a_phases_folder(notebook, kept, tmp_path, monkeypatch, capsys):
    (tmp_path / "phase_2").mkdir()
    monkeypatch.chdir(tmp_path / "phase_2")
    monkeypatch.setattr(sys, "path", [*sys.path])
    location.find_my_llm(tmp_path)
    monkeypatch.delitem(sys.modules, "my_llm", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    real = files.write_atomically  # another version, of as many bytes, in the same second
    monkeypatch.setattr(my_llm, "write_atomically", lambda *what: (real(*what), os.utime(kept, (1, 1))))
    cell = "def greedy_choice(logits):\n    'mine'\n    return int(logits.argmax())\n"
    notebook(cell + "check(greedy_choice)")
    notebook("import my_llm\nfrom my_llm import greedy_choice as chosen\nassert chosen.__doc__ == 'mine'")
    notebook(cell.replace("mine", "ours") + "check(greedy_choice)")
    notebook("assert my_llm.greedy_choice.__doc__ == 'ours'")
    notebook("from my_llm import greedy_choice\nrandom = torch.Generator().manual_seed(1)")
    notebook(
        "def temperature(logits, temperature):\n"
        "    assert greedy_choice(torch.zeros(1)) == 0\n    return logits / temperature\ncheck(temperature)"
    )
    assert "not kept" not in capsys.readouterr().out
    assert kept.read_text().count("def greedy_choice") == 1 and "import greedy_choice" not in kept.read_text()


def test_a_kernel_of_a_phases_folder_finds_the_file(tmp_path):
    (tmp_path / "my_llm.py").write_text("answer = 42")
    (tmp_path / "phase_2").mkdir()
    code = "import course_lib.drawing.journey, my_llm; print(my_llm.answer)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "phase_2",
        env=os.environ | {"COURSE_WORKSPACE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "42\n", done.stderr


# ---- an older course -----------------------------------------------------------------------------


@pytest.fixture
def older_course(monkeypatch):
    """A module that the course had, with a function and a class; a function that takes it away."""
    module = ModuleType("course_lib.older")
    exec("def best(logits):\n    return int(logits.argmax())\nclass Settings: ...", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return lambda: monkeypatch.delitem(sys.modules, module.__name__)


OLD = """from course_lib.older import Settings, best
def greedy_choice(logits, settings: Settings | None = None):
    return best(logits)
"""
SENTENCE = "greedy_choice stays in my_llm.py, but needs `from course_lib.older import"


def test_a_function_whose_import_is_gone_stays_and_is_named(new_notebook, older_course, kept, capsys):
    new_notebook()(OLD + "check(greedy_choice)")
    section = kept.read_text().split("# <<< imports")[1]
    older_course()
    capsys.readouterr()
    new_notebook()(GELU + "check(gelu)")
    out = capsys.readouterr().out
    assert "It is kept in my_llm.py." in out and SENTENCE in out and out.endswith("run its check again.\n")
    assert section.rstrip() in kept.read_text() and GELU in kept.read_text()
    exec(kept.read_text(), alone := {})
    assert alone["gelu"](torch.tensor(0.0)) == 0
    again = kept.read_text()
    new_notebook()(GELU + "check(gelu)")
    assert kept.read_text() == again and SENTENCE in capsys.readouterr().out, "until it is mended"
    new_notebook()(SIMPLE + "check(greedy_choice)")
    assert "older" not in kept.read_text() and "stays" not in capsys.readouterr().out


def test_what_came_back_is_imported_as_before(new_notebook, older_course, kept, monkeypatch):
    module = sys.modules["course_lib.older"]
    new_notebook()(OLD + "check(greedy_choice)")
    before = kept.read_text()
    older_course()
    new_notebook()(GELU + "check(gelu)")
    monkeypatch.setitem(sys.modules, "course_lib.older", module)
    new_notebook()(GELU.replace("1 +", "1.0 +") + "check(gelu)")
    assert "try:" not in kept.read_text()
    assert {*before.splitlines()} < {*kept.read_text().splitlines()}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_update_lets_the_file_load_and_names_what_does_not_work(end, new_notebook, older_course, kept):
    new_notebook()(OLD + "check(greedy_choice)")
    kept.write_text(kept.read_text(), newline=end)
    before = kept.read_bytes()
    assert my_llm.after_update(kept.parent) == [] and kept.read_bytes() == before
    older_course()
    [sentence] = my_llm.after_update(kept.parent)
    assert sentence.startswith(SENTENCE)
    exec(kept.read_text(), {})
    text = kept.read_bytes().decode()
    assert text.count(end) == text.count("\n") and f"    return best(logits){end}" in text
    assert my_llm.after_update(kept.parent / "nothing there") == []


def test_an_import_inside_a_function_and_a_helpers_import_are_named_too(new_notebook, older_course, kept, capsys):
    notebook = new_notebook()
    notebook("def helper(logits):\n    from course_lib.older import best\n    return best(logits)")
    notebook("def greedy_choice(logits):\n    return helper(logits)\ncheck(greedy_choice)")
    older_course()
    new_notebook()(GELU + "check(gelu)")
    out = capsys.readouterr().out
    assert "helper, greedy_choice stay in my_llm.py, but need `from course_lib.older import best`" in out
    assert "run their checks again." in out


def test_what_a_file_does_when_it_loads_is_held_back(notebook, kept, capsys, monkeypatch):
    notebook(SIMPLE + "check(greedy_choice)")
    kept.write_text(kept.read_text() + "print('loud' * 1000)\n")
    notebook(GELU + "check(gelu)")
    assert "loud" not in capsys.readouterr().out and "# >>> gelu" in kept.read_text()
    kept.write_text(hangs := kept.read_text() + "while True:\n    pass\n")
    monkeypatch.setattr(my_llm, "SECONDS", 0.3)
    notebook(SIMPLE.replace("mine", "second") + "check(greedy_choice)")
    assert "would not load on its own, it did not finish in time" in capsys.readouterr().out
    assert kept.read_text() == hangs
    kept.write_bytes(b"\0")
    notebook(SIMPLE + "check(greedy_choice)")
    assert "It is not kept in my_llm.py: " in capsys.readouterr().out and kept.read_bytes() == b"\0"
