"""`python -m course_lib …`: what a person at a terminal sees."""

import io
import subprocess
import sys

import pytest

from course_lib import __main__ as main
from course_lib import assets


def course(monkeypatch, capsys, *arguments):
    """(exit status, stdout, stderr) of `python -m course_lib …`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["course_lib", *arguments])
    with pytest.raises(SystemExit) as excinfo:
        main.main()
    out, err = capsys.readouterr()
    return excinfo.value.code, out, err


def test_help_names_every_command(monkeypatch, capsys):
    _, out, _ = course(monkeypatch, capsys, "--help")
    for command in main.COMMANDS:
        assert command.__name__.replace("_", "-") in out


def test_fetch_takes_names_or_everything(monkeypatch, capsys, tmp_path):
    asked = []
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(2_000_000))
    monkeypatch.setattr(assets, "fetch", lambda names: asked.append(names) or [file])
    status, out, _ = course(monkeypatch, capsys, "fetch")
    assert status == 0 and "1 files (2 MB) present and verified" in out
    course(monkeypatch, capsys, "fetch", "smollm2-135m", "shakespeare")
    assert asked == [None, ["smollm2-135m", "shakespeare"]]


def test_an_error_is_one_line_on_stderr(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    status, out, err = course(monkeypatch, capsys, "fetch", "smolm2-135m")
    assert status == 1 and out == ""
    assert err.count("\n") == 1
    assert "no asset is named 'smolm2-135m', did you mean 'smollm2-135m'?" in err


@pytest.mark.parametrize("error", [RuntimeError, ValueError, OSError])
def test_errors_with_a_sentence_have_no_traceback(monkeypatch, capsys, error):
    def fail(names):
        raise error("top_p must be in (0, 1], got 1.5 [see /help]")

    monkeypatch.setattr(assets, "fetch", fail)
    status, _, err = course(monkeypatch, capsys, "fetch")
    assert (status, err) == (1, "top_p must be in (0, 1], got 1.5 [see /help]\n")


def test_what_a_pipe_cannot_hold_does_not_end_a_command(monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    monkeypatch.setattr(assets, "fetch", lambda names: print("✓ →") or [])
    monkeypatch.setattr(sys, "argv", ["course_lib", "fetch"])
    monkeypatch.setattr(sys, "stdout", pipe)
    with pytest.raises(SystemExit) as excinfo:
        main.main()
    assert excinfo.value.code == 0 and pipe.buffer.getvalue().startswith(b"? ?\n0 files")


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def fail(names):
        raise TypeError("a bug")

    monkeypatch.setattr(assets, "fetch", fail)
    monkeypatch.setattr(sys, "argv", ["course_lib", "fetch"])
    with pytest.raises(TypeError):
        main.main()


def test_without_typer_only_the_doctor_works(monkeypatch, capsys):
    monkeypatch.setattr(main, "typer", None)
    monkeypatch.setattr("course_lib.doctor.run", lambda: 0)
    assert course(monkeypatch, capsys, "doctor")[0] == 0
    assert "typer is not installed" in course(monkeypatch, capsys, "fetch")[0]


def test_it_runs_as_a_module_without_importing_torch():
    code = "import sys, runpy\nsys.argv = ['course_lib', '--help']\ntry:\n"
    code += "    runpy.run_module('course_lib', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip().endswith("False")


@pytest.fixture
def at_the_prompt(monkeypatch, capsys, smollm2):
    """`course`, on the model that is loaded already, with these lines typed."""
    monkeypatch.setattr("course_lib.load", lambda name: smollm2, raising=False)

    def run(*arguments, typed=()):
        lines = iter(typed)
        monkeypatch.setattr("builtins.input", lambda prompt: next(lines, ""))
        return course(monkeypatch, capsys, *arguments)

    return run


def test_trace_prints_the_three_phases(at_the_prompt):
    status, out, _ = at_the_prompt("trace", "The dog ran up the")
    assert status == 0
    for expected in ("1 · Input processing", "2 · Transformer block", "3 · Prediction and generation"):
        assert expected in out
    assert "18 bytes → 5 tokens → 5 vectors of 576 numbers" in out
    assert "' hill'      23.8%" in out and "← chosen" in out
    assert "30 blocks" in out and "The dog ran up the hill" in out


def test_trace_of_odd_text(at_the_prompt):
    status, out, _ = at_the_prompt("trace", "[bold]🐕\n\t[/nothing] " * 12)
    assert status == 0 and "(the last 16" in out
    status, _, err = at_the_prompt("trace", "")
    assert status == 1 and "the prompt is empty" in err


QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."


def test_chat_answers_and_remembers(at_the_prompt, smollm2, monkeypatch):
    heard, real = [], smollm2.stream_chat
    monkeypatch.setattr(
        smollm2, "stream_chat", lambda messages, **s: heard.append(len(messages)) or real(messages, **s)
    )
    status, out, _ = at_the_prompt("chat", typed=[QUESTION, QUESTION, "/new", QUESTION])
    assert status == 0 and out.count(ANSWER) >= 2
    assert heard == [1, 3, 1]


def test_chat_survives_what_cannot_be_answered(at_the_prompt):
    status, out, _ = at_the_prompt("chat", typed=["word " * 9000, QUESTION])
    assert status == 0 and "the model's context holds 8192" in out and ANSWER in out


def test_an_answer_cut_short_by_ctrl_c_is_not_the_end(at_the_prompt, smollm2, monkeypatch):
    def interrupted(messages, **settings):
        yield "The capital"
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "stream_chat", interrupted)
    status, out, _ = at_the_prompt("chat", typed=["one", "two"])
    assert status == 0 and out.count("The capital …") == 2
