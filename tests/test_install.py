"""`make install`, as far as it goes without a network, and what it installs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
INPUTS = ("Makefile", "requirements.txt", "requirements.lock.txt", "pyproject.toml")


def write_python(path: Path, version: str) -> Path:
    """A stand-in that knows its version, and no more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a folder whose .venv is whole and was made by Python 3.11.7."""
    if not shutil.which("make"):
        pytest.skip("no make here")
    for name in INPUTS:
        shutil.copy(ROOT / name, tmp_path)
    write_python(tmp_path / ".venv/bin/python", "3.11.7")
    for stamp in ("bin/pip", "installed"):
        (tmp_path / ".venv" / stamp).touch()

    def run(*arguments):
        # not as a part of the `make test` that runs this, with its PYTHON
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "PYTHON"
        }
        result = subprocess.run(["make", *arguments], cwd=tmp_path, env=outside, capture_output=True, text=True)
        return result.returncode == 0, result.stdout + result.stderr

    return run


def test_another_python_than_that_of_the_environment_is_refused(make, tmp_path):
    other = write_python(tmp_path / "python3.12", "3.12.1")
    went_well, said = make("install", f"PYTHON={other}")
    assert not went_well
    assert "PYTHON is Python 3.12.1, and .venv was made by Python 3.11.7: delete .venv, or leave PYTHON out." in said


def test_the_python_of_the_environment_is_not_refused_and_need_not_be_named(make, tmp_path):
    same = write_python(tmp_path / "python3.11", "3.11.7")
    assert make("install", f"PYTHON={same}") == (True, "")
    assert make("install") == (True, "")


def test_an_environment_whose_python_is_gone_is_refused(make, tmp_path):
    other = write_python(tmp_path / "python3.12", "3.12.1")
    (tmp_path / ".venv/bin/python").unlink()
    went_well, said = make("install", f"PYTHON={other}")
    assert not went_well and ".venv was made by Python that is gone: delete .venv" in said


def test_a_python_that_does_not_run_is_refused(make):
    went_well, said = make("install", "PYTHON=/nowhere/python3")
    assert not went_well and "PYTHON=/nowhere/python3 does not run: name a Python 3.11 or newer" in said


def test_the_lock_holds_a_version_within_each_range():
    lines = (ROOT / "requirements.lock.txt").read_text("utf-8").splitlines()
    locked = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") for pin in locked)
    for name in ("requirements.txt", "requirements-test.txt", "deploy/hub/requirements.txt"):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        for wanted in (Requirement(line) for line in lines if line and not line.startswith(("#", "-"))):
            [version] = (str(pin.specifier)[2:] for pin in locked if pin.name == wanted.name.lower())
            assert wanted.specifier.contains(version), f"{wanted}, and the lock has {version}: run `make lock`"


def test_the_lock_says_nothing_of_where_the_packages_came_from():
    assert not re.search("://|--", (ROOT / "requirements.lock.txt").read_text("utf-8"))


def test_a_notebook_is_read_without_a_grammar_that_takes_seconds_to_compile():
    script = "import sys, nbformat; print([name for name in ('lark', 'rfc3987_syntax') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_jupyterlab_finds_the_courses_settings_in_the_environment(tmp_path, monkeypatch):
    from jupyterlab_server.config import get_static_page_config
    from jupyterlab_server.settings_utils import _get_overrides

    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    assert get_static_page_config()["disabledExtensions"]["@jupyter/nbgrader"] is True
    news = "@jupyterlab/apputils-extension:notification"
    assert _get_overrides(str(tmp_path))[0][news] == {"fetchNews": "false"}

    monkeypatch.setenv(
        "JUPYTER_CONFIG_PATH", str(ROOT / "deploy/hub/jupyter")
    )  # a class hands in through nbgrader's list
    disabled = get_static_page_config()["disabledExtensions"]
    assert disabled["@jupyter/nbgrader"] is False and disabled["@jupyter/nbgrader:validate-assignment"] is True
