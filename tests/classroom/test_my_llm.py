"""Passed work is kept, in a file that loads on its own."""

import linecache
import subprocess
import sys

import pytest

from course_lib.classroom import check

PREAMBLE = "import torch, math\nimport torch.nn.functional as F\nfrom torch import Tensor\n"
SIMPLE = "def greedy_choice(logits):\n    return int(logits.argmax())  # mine\n"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A function that runs cells as a kernel does, in one namespace, with sources that inspect finds."""
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    scope, count = {"__name__": "__main__", "check": check}, iter(range(1000))

    def run(source):
        name = f"<cell {next(count)} of {tmp_path.name}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), scope)

    run(PREAMBLE)
    return run


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
    assert [file.name for file in kept.parent.iterdir() if file.name.startswith(".")] == []
