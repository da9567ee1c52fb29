"""Where the lessons are, and where the learner's work is kept."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the repository
LESSONS = ROOT / "notebooks"


def copy_folder() -> Path:
    """Where the learner's copy is: `COURSE_WORKSPACE`, else the repository's `workspace/`."""
    named = os.environ.get("COURSE_WORKSPACE")
    return Path(named).expanduser().resolve() if named else ROOT / "workspace"


def workspace_folder() -> Path | None:
    """The folder in which the learner's work is kept: `COURSE_WORKSPACE`, else the `workspace/` that we run in.

    A notebook runs where it was started as much as where it is now: a `%cd` takes nobody's work away. None means that
    nothing is stored: the solved lessons in `notebooks/`, a grader and the tests leave no trace in a learner's work.
    """
    workspace = copy_folder()
    return workspace if os.environ.get("COURSE_WORKSPACE") or _we_run_in(workspace) else None


def nothing_is_kept() -> list[str]:
    """For a person outside of the workspace, a sentence: why, and what to do. Empty where it is as it should be."""
    graded = os.environ.get("NBGRADER_EXECUTION") == "autograde"
    if shell() is None or graded or _we_run_in(LESSONS):
        return []
    *_, started = _here()
    return [
        f"It is not kept: this notebook runs in {started}, outside your workspace. "
        f"Open your copy of the lesson in {ROOT / 'workspace'} (`make lab` does) and run the check there."
    ]


def find_my_llm(workspace: Path | None) -> None:
    """Let every notebook of the workspace import my_llm: those in a phase's folder do not stand beside it."""
    if workspace is not None and str(workspace) not in sys.path:
        sys.path.append(str(workspace))  # last, so that no file in it hides another module


def _we_run_in(folder: Path) -> bool:
    return any(here.is_relative_to(folder.resolve()) for here in _here())


def _here() -> Iterator[Path]:
    """Where we are, and where the notebook was started."""
    with contextlib.suppress(FileNotFoundError):  # a folder that somebody has deleted meanwhile
        yield Path.cwd().resolve()
    if notebooks := shell():
        yield Path(notebooks.starting_dir).resolve()
        if notebook := notebooks.user_ns.get("__vsc_ipynb_file__"):  # VS Code may start it elsewhere
            yield Path(notebook).resolve().parent


def shell():
    """IPython's, where a person's cells run; None in a script and in the tests."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
