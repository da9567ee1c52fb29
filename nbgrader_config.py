"""nbgrader for this course. For an instructor, in the repository's root, with LESSON such as hw1_input_processing:

    python -m course_lib homework LESSON    grading/release/LESSON/: the same cells as in a learner's workspace/
    (you collect)                           grading/submitted/STUDENT/LESSON/LESSON.ipynb
    python -m course_lib marks LESSON       the marks of all parts in grading/LESSON.csv, and what nbgrader makes:
                                            grading/autograded/, gradebook.db, feedback/STUDENT/LESSON/LESSON.html

`make homework` releases all of them. nbgrader's own commands work, too: `nbgrader autograde LESSON --student NAME`.

The course's environment keeps nbgrader's menu (formgrader) from learners. To have it:
`python -m jupyter labextension enable @jupyter/nbgrader`, then `python -m jupyterlab` in the repository's root.

A submission is a program that runs with your rights: grade what strangers sent in a container (docs/teaching.md).
"""

import glob
import os
from pathlib import Path
from types import SimpleNamespace

import nbgrader.apps.api
import nbgrader.converters.base
import nbgrader.utils

from course_lib.classroom.grading import as_written, gradebook_url

HERE = Path(__file__).resolve().parent

c = get_config()
c.CourseDirectory.course_id = "from-prompt-to-response"
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.db_url = gradebook_url(HERE)
for step in ("source", "release", "submitted", "autograded", "feedback"):
    setattr(c.CourseDirectory, f"{step}_directory", os.path.join("grading", step))

# on a server: between `nbgrader release_assignment` and `nbgrader collect`, where learners hand in
c.Exchange.root = os.environ.get("COURSE_EXCHANGE", "/srv/exchange")

# nbgrader looks for files in folders whose names it has not escaped
for module in (nbgrader.apps.api, nbgrader.converters.base, nbgrader.utils):
    module.glob = SimpleNamespace(glob=lambda pattern: glob.glob(as_written(pattern)))

c.Execute.timeout = 300  # seconds a cell, which a quiet machine needs for none
# crashes, hangs, memory hogs and missing cells cost their own part alone
ours, theirs = "course_lib.classroom.autograding", "nbgrader.preprocessors"
c.Autograde.sanitize_preprocessors = [
    f"{theirs}.ClearOutput",
    f"{theirs}.OverwriteKernelspec",
    f"{ours}.RestoreCells",
    f"{theirs}.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    f"{ours}.PatientExecute",
    f"{theirs}.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    f"{theirs}.LimitOutput",
    f"{theirs}.SaveAutoGrades",
    f"{theirs}.AssignLatePenalties",
    f"{theirs}.CheckCellMetadata",
]
c.OverwriteCells.add_missing_cells = True


def forget_the_workspace(**_):
    """A submission that passes must not be kept as the instructor's own work."""
    os.environ.pop("COURSE_WORKSPACE", None)


c.Autograde.pre_convert_hook = forget_the_workspace
