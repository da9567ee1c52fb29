"""The doctor, on this machine and on machines that lack something."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

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
    assert finding.level == "fail" and "install Python 3.13" in finding.remedy


@pytest.mark.parametrize(("version", "level"), [((3, 12, 1), "ok"), ((3, 14, 0), "warn")])
def test_a_python_that_was_not_tried_is_told(monkeypatch, version, level):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    finding = only(doctor.python())
    assert finding.level == level
    assert ("tried were 3.11, 3.12, 3.13" in finding.found) == (level == "warn")


@pytest.mark.parametrize(("platform", "level"), [("linux", "ok"), ("win32", "warn"), ("darwin", "warn")])
def test_a_system_that_the_course_was_not_run_on_is_told(monkeypatch, platform, level):
    monkeypatch.setattr(doctor.sys, "platform", platform)
    finding = only(doctor.system())
    assert finding.level == level
    assert ("only been run on Linux" in finding.found) == (level == "warn")


def test_packages_are_held_against_their_ranges(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# a comment\n-r other.txt\n\nrich>=1,<2\nno-such-package>=1\ntorch\nnumpy>=2\n")
    lock = tmp_path / "requirements.lock.txt"
    lock.write_text(f"# made by\nnumpy==2.0.1 ; python_version < '4'\ntorch=={torch.__version__.partition('+')[0]}\n")
    summary, rich, absent = doctor.packages(requirements, lock)
    assert summary.found == f"2 of 4 as in requirements.txt; numpy {numpy.__version__} (tried: 2.0.1)"
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
    assert missing.remedy == damaged.remedy == f'run `"{sys.executable}" -m course_lib fetch`'
    monkeypatch.setattr(assets, "status", lambda: dict.fromkeys(states, "present"))
    assert only(doctor.data()).level == "ok"


def write_kernel(folder: Path, command: str) -> Path:
    """A folder of Jupyter's data whose kernel python3 starts `command`; gives the kernel's own folder."""
    kernel = folder / "kernels/python3"
    kernel.mkdir(parents=True)
    argv = [command, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    return kernel


@pytest.mark.parametrize("command", [sys.executable, "python"])
def test_a_kernel_that_starts_this_python_is_whole(tmp_path, monkeypatch, command):
    write_kernel(tmp_path, command)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert only(doctor.kernel()).level == "ok"


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("variable", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_another_environments_kernel_stands_aside_by_the_remedy(tmp_path, monkeypatch, variable, broken):
    kernel = write_kernel(tmp_path, "/opt/another/bin/python")
    if broken:
        (kernel / "kernel.json").write_text("{")
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")  # the user's folders first, as outside of a virtual environment
    finding = only(doctor.kernel())
    assert finding.level == "fail" and str(kernel) in finding.found
    assert "rename that folder, say to python3-other" in finding.remedy
    kernel.rename(kernel.with_name("python3-other"))
    assert only(doctor.kernel()).level == "ok"


def test_a_foreign_kernel_in_this_environment_is_written_anew_by_the_remedy(tmp_path, monkeypatch):
    from ipykernel.kernelspec import install
    from jupyter_client import kernelspec

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(kernelspec, "jupyter_path", lambda *_: [str(tmp_path / "share/jupyter/kernels")])
    write_kernel(tmp_path / "share/jupyter", "/opt/another/bin/python")
    finding = only(doctor.kernel())
    assert finding.level == "fail"
    assert finding.remedy == f'run `"{sys.executable}" -m ipykernel install --sys-prefix`'
    install(prefix=sys.prefix)
    assert only(doctor.kernel()).level == "ok"


def test_folders_that_stop_jupyterlab_are_told_and_the_remedy_mends_it(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("JUPYTER", "IPYTHON"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home").touch()  # nothing can be made in it, not even by root
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    finding = only(doctor.jupyter_folders())
    assert finding.level == "fail" and str(tmp_path / "home/.jupyter") in finding.found
    variables = re.findall("[A-Z_]{4,}", finding.remedy)
    assert len(variables) == 4
    for name in variables:
        monkeypatch.setenv(name, str(tmp_path / "elsewhere" / name))
    assert only(doctor.jupyter_folders()).level == "ok"
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_without_permission_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    finding = only(doctor.jupyter_folders())
    assert finding.level == "fail" and "JUPYTER_RUNTIME_DIR" in finding.remedy and "IPYTHONDIR" not in finding.remedy


def test_an_unusable_course_device(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "abacus")
    build, device = doctor.torch_and_device()
    assert (build.level, device.level) == ("ok", "fail")
    assert "abacus" in device.found


def test_a_check_that_breaks_does_not_end_the_report(monkeypatch):
    def broken():
        raise OSError("libtorch.so: cannot open shared object file\nand much more")

    monkeypatch.setattr(doctor, "torch_and_device", broken)
    [finding] = [f for f in doctor.diagnose() if "libtorch" in f.found]
    assert finding.level == "fail" and "delete .venv" in finding.remedy  # pip believes that it is installed
    assert "\n" not in finding.found


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(13, "no", "data/x"), "let this user read data/x"),
        (FileNotFoundError(2, "no", "data/x"), "restore data/x from git"),
    ],
)
def test_a_file_that_cannot_be_read_is_not_mended_by_installing(monkeypatch, error, remedy):
    def shut():
        raise error

    monkeypatch.setattr(doctor, "data", shut)
    assert remedy in [finding.remedy for finding in doctor.diagnose()]


@pytest.mark.parametrize(("cuda", "remedy"), [(None, "make install TORCH=auto"), ("13.0", "NVIDIA's driver")])
def test_a_gpu_that_stays_unused_is_told(monkeypatch, cuda, remedy):
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert remedy in doctor.torch_and_device()[-1].remedy


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
