"""`python -m course_lib …`: what a person at a terminal sees."""

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
        assert command.__name__ in out


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
