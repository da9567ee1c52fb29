"""The doctor, on this machine and on machines that lack something."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import assets, doctor

REPOSITORY = Path(__file__).resolve().parent.parent


def only(findings):
    [finding] = findings
    return finding


def run_doctor(*, blocked=(), arguments=("doctor",), **environment):
    """`python -m course_lib …` where importing any of the `blocked` packages fails."""
    code = f"""
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(blocked)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["course_lib", *{list(arguments)!r}]
runpy.run_module("course_lib", run_name="__main__", alter_sys=True)
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )


def test_every_line_is_told_and_each_complaint_has_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    findings = doctor.diagnose()
    names = {finding.name for finding in findings}
    assert {"Python", "torch", "device", "memory", "disk", "assets", "Jupyter kernel"} <= names
    for finding in findings:
        assert finding.level in ("ok", "warn", "fail")
        assert bool(finding.remedy) == (finding.level != "ok")
    assert not list(tmp_path.iterdir())  # nothing was fetched or written


def test_an_old_python_is_told_first_and_alone(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 13))
    finding = only(doctor.diagnose())
    assert finding.level == "fail" and "3.11 or newer" in finding.remedy


def test_packages_are_held_against_their_ranges(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# a comment\n-r other.txt\n\nrich>=1,<2\nno-such-package>=1\ntorch\n")
    summary, rich, absent = doctor.packages(requirements)
    assert summary.found == "1 of 3 as in requirements.txt"
    assert (rich.level, rich.name) == ("warn", "rich") and "<2,>=1" in rich.found
    assert (absent.level, absent.name, absent.found) == ("fail", "no-such-package", "not installed")


def test_memory_and_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "not" / "yet"))
    assert only(doctor.disk()).level == "ok"
    monkeypatch.setattr(doctor, "DISK", 1e18)
    assert "COURSE_DATA" in only(doctor.disk()).remedy
    monkeypatch.setattr(doctor, "MEMORY", 1e18)
    assert only(doctor.memory()).level == "warn"


def test_assets_missing_damaged_and_present(monkeypatch):
    states = {"model": "missing", "vocabulary": "damaged", "text": "present"}
    monkeypatch.setattr(assets, "status", lambda: states)
    missing, damaged = doctor.data()
    assert missing.found == "1 of 3 files missing: model"
    assert damaged.found == "1 of 3 files damaged: vocabulary"
    assert missing.remedy == "run `python -m course_lib fetch`"
    monkeypatch.setattr(assets, "status", lambda: dict.fromkeys(states, "present"))
    assert only(doctor.data()).level == "ok"


@pytest.mark.parametrize(
    ("command", "level"),
    [(sys.executable, "ok"), ("python", "ok"), ("/opt/another/bin/python", "fail")],
)
def test_the_kernel_must_start_this_python(tmp_path, monkeypatch, command, level):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [command, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    finding = only(doctor.kernel())
    assert finding.level == level
    if level == "fail":
        assert f"{sys.executable} -m ipykernel install" in finding.remedy


def test_an_unusable_course_device(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "abacus")
    torch, device = doctor.torch_and_device()
    assert (torch.level, device.level) == ("ok", "fail")
    assert "abacus" in device.found


def test_a_check_that_breaks_does_not_end_the_report(monkeypatch):
    def broken():
        raise OSError("libtorch.so: cannot open shared object file\nand much more")

    monkeypatch.setattr(doctor, "torch_and_device", broken)
    [finding] = [f for f in doctor.diagnose() if "libtorch" in f.found]
    assert finding.level == "fail"
    assert "\n" not in finding.found


def test_it_speaks_without_any_third_party_package(tmp_path):
    blocked = ("torch", "rich", "typer", "psutil", "packaging", "ipykernel", "unearth", "tqdm")
    result = run_doctor(blocked=(*blocked, "filelock"), COURSE_DATA=str(tmp_path))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    for line in ("No module named 'torch'", "packaging is not installed", "files missing"):
        assert line in result.stdout


def test_the_exit_status_follows_the_findings(monkeypatch, capsys):
    warning = doctor.Finding("warn", "memory", "little", "close other programs")
    monkeypatch.setattr(doctor, "diagnose", lambda: [warning])
    assert doctor.run() == 0
    failure = doctor.Finding("fail", "torch", "No module named [torch]", "install it")
    monkeypatch.setattr(doctor, "diagnose", lambda: [warning, failure])
    assert doctor.run() == 1
    out = capsys.readouterr().out
    assert "fail  torch   No module named [torch]\n              install it\n" in out
