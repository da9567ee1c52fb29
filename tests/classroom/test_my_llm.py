"""Passed work is kept, in a file that loads on its own."""

import linecache
import subprocess
import sys

import pytest

from course_lib.classroom import check
from course_lib.classroom.checking import attempt
from course_lib.classroom.exercises import exercises

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
    assert [file.name for file in kept.parent.iterdir() if file.name.startswith(".")] == []
