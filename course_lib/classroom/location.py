"""Where the learner's work is kept."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def workspace_folder() -> Path | None:
    """The folder of the learner's copy: `COURSE_WORKSPACE`, else the `workspace/` that we run in, else None.

    None means that nothing is stored: the solved lessons in `notebooks/`, a grader and the tests leave no trace in
    a learner's work.
    """
    if named := os.environ.get("COURSE_WORKSPACE"):
        return Path(named).expanduser().resolve()
    workspace = REPOSITORY / "workspace"
    here = Path.cwd().resolve()
    return workspace if workspace in (here, *here.parents) else None
