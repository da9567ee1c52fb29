"""A learner's functions in the library's places: no exercise done, half of them, all, one wrongly; broken files."""

import ast
import linecache

import nbformat
import pytest
import torch
from drawing.themes import faint

from course_lib.classroom import assembly, my_llm
from course_lib.classroom.assembly import PIECES, assemble
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import lesson_names
from course_lib.lessons import exercises

NAMES = [piece.name for piece in PIECES]
WRITTEN = {path.split("/")[-1][:2] for path in lesson_names()}
SOLVED = [name for name in NAMES if exercises()[name].lesson in WRITTEN]  # their lessons are there
SENTENCE = "The dog ran up the"


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch):
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)


def solution(name):
    """The lesson's solution of an exercise, as a learner's kernel has it: with a source, and the notebook's imports."""
    lesson = next(path for path in lesson_names() if path.split("/")[-1].startswith(exercises()[name].lesson))
    scope = {"__name__": "__main__"}
    for cell in nbformat.read(LESSONS / lesson, 4).cells:
        own = cell.metadata.get("nbgrader", {}).get("grade_id") == name
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        tree.body = [node for node in tree.body if own or isinstance(node, ast.Import | ast.ImportFrom)]
        file = f"<{name}>"
        linecache.cache[file] = (len(cell.source), None, cell.source.splitlines(keepends=True), file)
        exec(compile(tree, file, "exec"), scope)
        if own:
            return scope[name]
    raise LookupError(f"no lesson has a solution of {name}")


@pytest.fixture(scope="module")
def written():
    """A function that makes the text of my_llm.py with these exercises solved."""
    parts = {name: my_llm.collect(solution(name)) for name in SOLVED}

    def text(names):
        kept = my_llm.HEADER
        for name in names:
            kept, _ = my_llm.merge(kept, exercises()[name], parts[name])
        return kept

    return text


@pytest.fixture
def assembled(smollm2, tmp_path, monkeypatch):
    """A function that puts a text into a workspace's my_llm.py and assembles."""
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))

    def make(text):
        (tmp_path / my_llm.FILE).write_text(text)
        return assemble(smollm2)

    return make


def why(made):
    return {choice.piece.name: choice.why for choice in made.choices if choice.why}


def assert_runs(made, smollm2):
    """The real weights, the library's scores within 1e-3 both ways, both sentences."""
    ids = made.encode(SENTENCE)
    assert ids == smollm2.tokenizer.encode(SENTENCE)
    with torch.no_grad():
        right = smollm2.transformer(torch.tensor([ids]))[0]
    assert (made.scores(ids) - right).abs().max() < 1e-3
    cache = []
    piecewise = torch.cat([made.read(ids[:3], cache), made.read(ids[3:4], cache), made.read(ids[4:], cache)])
    assert (piecewise - right).abs().max() < 1e-3
    assert made.chat("What is the capital of France?") == "The capital of France is Paris."
    assert made.write(SENTENCE, 3) == smollm2.generate(SENTENCE, 3, temperature=0) == " hill, and"


# ---- none, half, all, one wrong ------------------------------------------------------------------


def test_without_a_workspace_everything_is_the_librarys(smollm2):
    made = assemble(smollm2)
    assert made.yours == [] and why(made) == {} and made.summary() == f"0 of {len(NAMES)} pieces are yours."
    assert_runs(made, smollm2)


def test_a_workspace_in_which_nothing_is_done_yet(smollm2, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    made = assemble(smollm2)
    assert made.yours == [] and why(made) == {} and made.trouble == ""


@pytest.mark.parametrize("names", [SOLVED[::2], SOLVED], ids=["half", "all"])
def test_what_is_done_is_used(names, smollm2, written, assembled):
    made = assembled(written(names))
    assert why(made) == {} and made.yours == names
    assert all(made.functions[name] is not exercises()[name].oracle for name in names)
    assert made.summary() == f"{len(names)} of {len(NAMES)} pieces are yours."
    assert_runs(made, smollm2)


def test_one_that_is_wrong_is_left_out_and_the_table_says_why(smollm2, written, assembled):
    text = written(SOLVED)
    assert "(mean_square + eps).sqrt()" in text
    made = assembled(text.replace("(mean_square + eps).sqrt()", "(mean_square.sqrt() + eps)"))
    assert made.yours == [name for name in SOLVED if name != "rms_norm"]
    said = (
        "yours does not pass its check any more: eps is added after the root: it belongs under it, to the mean square"
    )
    assert why(made) == {"rms_norm": said}
    html = made._repr_html_()
    assert said in repr(made) and "eps is added after the root" in html and faint(html) == []
    assert_runs(made, smollm2)


# ---- files and functions that do not behave ------------------------------------------------------

GOOD = "def look_up(ids, table):\n    return table[ids]\n"


@pytest.mark.parametrize(
    "text, sentence",
    [
        (GOOD + "def rms_norm(x, weight, eps:\n", "line 3 is not Python"),
        (GOOD + "1 / 0\n", "it stops with ZeroDivisionError"),
        (GOOD + "import sys\nsys.exit()\n", "it calls exit()"),
        (GOOD + "while True:\n    pass\n", "it did not finish in time"),
        (GOOD + "\0", "null bytes"),
        (GOOD + "raise NotImplementedError()", "it raises NotImplementedError"),
    ],
)
def test_a_file_that_does_not_load_stops_nothing(text, sentence, smollm2, assembled, monkeypatch):
    monkeypatch.setattr(my_llm, "SECONDS", 0.3)
    made = assembled(text)
    assert made.yours == [] and why(made) == {}
    assert made.trouble.startswith("my_llm.py does not load, so nothing of it is used: ") and sentence in made.trouble
    assert made.trouble in repr(made) and made.write(SENTENCE, 1) == " hill"


@pytest.mark.parametrize(
    "text, name, sentence",
    [
        ("def look_up(ids, table):\n    ...", "look_up", "yours is not written yet"),
        ("look_up = 3", "look_up", "my_llm.py has something else under this name"),
        ("def look_up(ids, table):\n    return table[ids + 1]", "look_up", "does not pass its check any more"),
        ("def look_up(ids, table):\n    while True: pass", "look_up", "did not finish in time"),
        ("def look_up(ids, table):\n    raise SystemExit", "look_up", "it calls exit()"),
        (
            "def look_up(ids, table):\n    if len(table) > 1000: raise MemoryError\n    return table[ids]",
            "look_up",
            "with SmolLM2's sizes yours fails: it asks for more memory than there is",
        ),
        (
            "def look_up(ids, table):\n    return table[ids] if len(table) < 1000 else 0.999 * table[ids]",
            "look_up",
            "with SmolLM2's numbers yours gives another answer than the library's",
        ),
        (
            "import time\ndef rms_norm(x, weight, eps):\n    end = time.thread_time() + 0.3 * (len(weight) > 500)\n"
            "    while time.thread_time() < end: pass\n"
            "    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight",
            "rms_norm",
            "yours is right and too slow here: it would take over 3 s to read a question of 37 tokens",
        ),
    ],
)
def test_a_function_that_cannot_be_used_is_left_out(text, name, sentence, assembled, monkeypatch):
    monkeypatch.setattr(assembly, "CHECKING", 0.5)
    made = assembled(f"{text}\ndef greedy_choice(logits):\n    return int(logits.argmax())\n")
    assert made.yours == ["greedy_choice"]
    assert list(why(made)) == [name] and sentence in why(made)[name]
    assert made.write(SENTENCE, 1) == " hill"


def test_a_function_whose_import_is_gone_is_named_and_the_rest_is_used(assembled):
    section = "# >>> {0} (lesson 00)\n{1}\n# <<< {0}\n"
    text = (
        section.format("imports", "from course_lib.older import best")
        + section.format("greedy_choice", "def greedy_choice(logits):\n    return best(logits)")
        + section.format("look_up", GOOD.strip())
    )
    made = assembled(text)
    assert made.yours == ["look_up"] and made.trouble == ""
    said = "yours needs `from course_lib.older import best`, which no longer works: run its check again"
    assert why(made) == {"greedy_choice": said}


def test_a_byte_order_mark_is_none_of_the_text(assembled):
    assert assembled("\ufeff" + GOOD.replace("\n", "\r\n")).yours == ["look_up"]


def test_it_draws_and_stops_as_the_library_does(smollm2):
    made = assemble(smollm2)
    settings = dict(temperature=0.8, top_k=50, top_p=0.95, min_p=0.02, repetition_penalty=1.2, seed=3)
    for some in (settings, settings | dict(temperature=0)):
        assert made.write("Once upon a", 8, **some) == smollm2.generate("Once upon a", 8, **some)
    for stop in ("and the", "hill, but"):
        right = smollm2.generate(SENTENCE, 5, temperature=0, stop=stop)
        assert made.write(SENTENCE, 5, stop=stop) == right


def test_scores_that_rule_tokens_out_can_be_compared(assembled):
    text = (
        "import torch\ndef top_k(logits, k):\n    kept = logits.topk(min(k, logits.shape[-1])).values[..., -1:]\n"
        "    return logits.masked_fill(logits < kept, -torch.inf)\n"
    )
    assert assembled(text).yours == ["top_k"]


# ---- other functions, and the table --------------------------------------------------------------


def test_other_functions_change_a_copy(smollm2):
    made = assemble(smollm2)
    broken = made.with_functions(causal_mask=lambda n_query, n_key: torch.ones(n_query, n_key, dtype=torch.bool))
    ids = made.encode(SENTENCE)
    assert not torch.equal(broken.read(ids, []), made.read(ids, []))
    assert torch.equal(broken.scores(ids), made.scores(ids))  # another way, which that piece is not part of


def test_every_piece_is_an_exercise_and_is_called(smollm2):
    made, called = assemble(smollm2), set()

    def watched(name, function):
        def call(*arguments):
            called.add(name)
            return function(*arguments)

        return call

    watching = made.with_functions(**{name: watched(name, function) for name, function in made.functions.items()})
    watching.chat("Hi", 2)
    watching.scores([1, 2])
    watching.write("A", 1, 0.7, "x", top_k=9, top_p=0.9, min_p=0.1, repetition_penalty=1.1)
    assert called == set(NAMES) and len(NAMES) == len(set(NAMES))


def test_the_table_has_a_row_for_each_piece_with_its_lesson(smollm2):
    made = assemble(smollm2)
    assert [(row[0], row[2]) for row in made.rows()] == [(name, exercises()[name].lesson) for name in NAMES]
    html = made._repr_html_()
    assert html.count("<tr>") == 1 + len(NAMES) and "0 of" in html and "✓" not in html
    assert repr(made).splitlines()[-1] == made.summary()


def test_any_text_is_encoded_as_the_tokenizer_does(smollm2):
    made = assemble(smollm2)
    for text in ("", "a", "  Ünïcödé 日本語 🙂\n\n1234", smollm2.render_chat("Hi <|im_end|>"), "\x04\x06 odd bytes"):
        assert made.encode(text) == smollm2.tokenizer.encode(text)
