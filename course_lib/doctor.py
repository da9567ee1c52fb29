"""`python -m course_lib doctor`: what is missing or wrong on this machine, and what to do about it.

Each check stands alone and looks before it imports, so that the doctor also answers where torch, or any
other package, is missing or broken, and where Python is too old for the rest of the library.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS, LOCK = ROOT / "requirements.txt", ROOT / "requirements.lock.txt"
# not `make install`: what it has installed once it does not look for again
INSTALL = f'run `"{sys.executable}" -m pip install -r "{REQUIREMENTS}" -c "{LOCK}"`'
ANEW = "delete .venv, then install again: `make install`, or without make as in README.md"
TRIED = ("3.11", "3.12", "3.13")  # Pythons
MEMORY = 2.5e9  # bytes: what the hungriest lesson may take
DISK = 0.5e9  # bytes: the model while it is fetched, twice over, and the learner's own files


@dataclass(frozen=True)
class Finding:
    """One line of the report: `level` is "ok", "warn" or "fail"; `remedy` is empty where it is ok."""

    level: str
    name: str
    found: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Every check on this machine, none of which changes or downloads anything."""
    findings = python()
    if findings[0].level == "fail":
        return findings  # an older Python cannot even read the rest of the library
    for check in (system, packages, torch_and_device, memory, disk, data, jupyter_folders, kernel):
        try:
            findings += check()
        except (PermissionError, FileNotFoundError) as error:
            shut = isinstance(error, PermissionError)
            remedy = f"let this user read {error.filename}" if shut else f"restore {error.filename} from git"
            findings.append(Finding("fail", check.__name__, _brief(error), remedy))
        except Exception as error:  # a broken package may raise anything: report it, and go on
            findings.append(Finding("fail", check.__name__, _brief(error), ANEW))
    return findings


def run() -> int:
    """Print the report; the exit status is 1 where something fails, else 0."""
    findings = diagnose()
    _print(findings)
    return int(any(finding.level == "fail" for finding in findings))


# ---- the checks ----------------------------------------------------------------------------------


def python() -> list[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is what this looks for
        remedy = f"install Python {TRIED[-1]}, delete .venv, then run `make install PYTHON=python{TRIED[-1]}`"
        return [Finding("fail", "Python", found, remedy)]
    if sys.prefix == sys.base_prefix:
        remedy = "use the course's own environment: `make install`, then .venv/bin/python"
        return [Finding("warn", "Python", f"{found}, not a virtual environment", remedy)]
    if f"{sys.version_info[0]}.{sys.version_info[1]}" not in TRIED:
        remedy = f"should something fail: delete .venv, then run `make install PYTHON=python{TRIED[-1]}`"
        return [Finding("warn", "Python", f"{found}; tried were {', '.join(TRIED)}", remedy)]
    return [Finding("ok", "Python", found)]


def system() -> list[Finding]:
    found = f"{platform.system()} {platform.machine()}"
    if sys.platform == "linux":
        return [Finding("ok", "system", found)]
    found += "; the course has only been run on Linux, and what is different here only imitated"
    return [Finding("warn", "system", found, "should something fail: use Linux, on Windows in WSL")]


def packages(requirements: Path = REQUIREMENTS, lock: Path = LOCK) -> list[Finding]:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [Finding("fail", "packages", "packaging is not installed", INSTALL)]

    lines = requirements.read_text(encoding="utf-8").splitlines()
    ranges = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    wrong, untried = [], []
    tried = _versions(lock)
    for wanted in ranges:
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(Finding("fail", wanted.name, "not installed", INSTALL))
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found = f"{version}, the course needs {wanted.specifier}"
            wrong.append(Finding("warn", wanted.name, found, INSTALL))
        elif version.partition("+")[0] != tried.get(wanted.name, version):
            untried.append(f"{wanted.name} {version} (tried: {tried[wanted.name]})")
    whole = f"{len(ranges) - len(wrong)} of {len(ranges)} as in {requirements.name}"
    return [Finding("ok", "packages", "; ".join([whole, *untried])), *wrong]


def _versions(lock: Path) -> dict[str, str]:
    """Those that the course was tested with, by package."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if not line.startswith("#"))


def torch_and_device() -> list[Finding]:
    try:
        import torch

        from course_lib.device import pick
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        return [Finding("fail", "torch", _brief(error), INSTALL if missing else ANEW)]
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    findings = [Finding("ok", "torch", f"{torch.__version__}, {build} build")]
    try:
        picked = pick()
    except ValueError as error:
        return [*findings, Finding("fail", "device", _brief(error), "unset COURSE_DEVICE")]
    if picked.type != "cpu":
        name = torch.cuda.get_device_name(picked) if picked.type == "cuda" else platform.machine()
        return [*findings, Finding("ok", "device", f"{picked}: {name}")]
    found = f"cpu: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    gpu = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    if gpu and not os.environ.get("COURSE_DEVICE"):
        found += "; an NVIDIA GPU stays unused"
        if torch.version.cuda:
            remedy = (
                "the CPU is enough; for the GPU, update NVIDIA's driver, and see that CUDA_VISIBLE_DEVICES is not set"
            )
        else:
            remedy = "the CPU is enough; for the GPU, `make install TORCH=auto`, or without make as in README.md"
        return [*findings, Finding("warn", "device", found, remedy)]
    return [*findings, Finding("ok", "device", found)]


def memory() -> list[Finding]:
    try:
        import psutil
    except ImportError:
        return [Finding("warn", "memory", "unknown, psutil is not installed", INSTALL)]
    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    found = f"{free / 1e9:.1f} GB available of {total / 1e9:.1f} GB"
    if free < MEMORY:
        remedy = f"close other programs: a lesson may need {MEMORY / 1e9} GB"
        return [Finding("warn", "memory", found, remedy)]
    return [Finding("ok", "memory", found)]


def disk() -> list[Finding]:
    from course_lib import assets

    folder = assets.data_folder()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / 1e9:.1f} GB free in {folder}"
    if free < DISK:
        remedy = f"free {DISK / 1e9} GB, or set COURSE_DATA to a folder on another disk"
        return [Finding("warn", "disk", found, remedy)]
    return [Finding("ok", "disk", found)]


def data() -> list[Finding]:
    from course_lib import assets

    try:
        states = assets.status()
    except assets.AssetError as error:
        return [Finding("fail", "assets", _brief(error), f"restore {assets.MANIFEST} from git")]
    findings = []
    for state in ("missing", "damaged"):
        names = [name for name, is_now in states.items() if is_now == state]
        if names:
            found = f"{len(names)} of {len(states)} files {state}: {', '.join(names[:4])}"
            found += ", …" if len(names) > 4 else ""
            findings.append(Finding("fail", "assets", found, f'run `"{sys.executable}" -m course_lib fetch`'))
    return findings or [Finding("ok", "assets", f"all {len(states)} files present and verified")]


def kernel() -> list[Finding]:
    try:
        import ipykernel  # noqa: F401
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError as error:
        return [Finding("fail", "Jupyter kernel", _brief(error), INSTALL)]
    manager = KernelSpecManager()
    place = Path(manager.find_kernel_specs()["python3"])
    try:
        command = Path(manager.get_kernel_spec("python3").argv[0])
    except Exception as error:  # whatever a broken kernel.json leads to
        found = f"{place} cannot be read: {_brief(error)}"
    else:
        # a bare name means "the Python that Jupyter runs in", which is this one
        if not command.parent.name or command.parent.resolve() == Path(sys.executable).parent.resolve():
            return [Finding("ok", "Jupyter kernel", "python3 starts this Python")]
        found = f"python3 starts {command}, not this Python: so says {place}"
    if place.is_relative_to(sys.prefix):
        remedy = f'run `"{sys.executable}" -m ipykernel install --sys-prefix`'
    else:  # it is another environment's, and not ours to overwrite
        remedy = (
            f"rename that folder, say to {place.name}-other: Jupyter looks there before it looks in this environment"
        )
    return [Finding("fail", "Jupyter kernel", found, remedy)]


def jupyter_folders() -> list[Finding]:
    """JupyterLab does not start where it cannot write its own files, which lie in the home folder."""
    try:
        from jupyter_core import paths
    except ImportError as error:
        return [Finding("fail", "Jupyter folders", _brief(error), INSTALL)]
    folders = {
        "JUPYTER_CONFIG_DIR": paths.jupyter_config_dir(),
        "JUPYTER_DATA_DIR": paths.jupyter_data_dir(),
        "JUPYTER_RUNTIME_DIR": paths.jupyter_runtime_dir(),
        "IPYTHONDIR": os.environ.get("IPYTHONDIR", os.path.expanduser("~/.ipython")),
    }
    shut = {variable: folder for variable, folder in folders.items() if not _can_write(Path(folder))}
    if shut:
        found = f"cannot be written to: {', '.join(map(str, shut.values()))}"
        remedy = f"allow that, or set {', '.join(shut)} to folders that you can write to"
        return [Finding("fail", "Jupyter folders", found, remedy)]
    return [Finding("ok", "Jupyter folders", "can be written to")]


def _can_write(folder: Path) -> bool:
    """Whether files can be made in it, or it can be made with its parents; nothing is tried out."""
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


# ---- the report ----------------------------------------------------------------------------------


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        text = f"{finding.name:<{width}}  {finding.found}"
        if finding.remedy:
            text += f"\n{'':<{width + 8}}{finding.remedy}"
        _print_coloured(f"{finding.level:<6}", _COLOURS[finding.level], text)


_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def _print_coloured(word: str, colour: str, text: str) -> None:
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(word + text)
        return
    Console(soft_wrap=True).print(Text.assemble((word, colour), text))
