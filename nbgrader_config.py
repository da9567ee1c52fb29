"""nbgrader for this course. For an instructor, in the repository's root, with LESSON such as hw1_input_processing:

    python -m course_lib homework LESSON          grading/release/LESSON/: the same cells as in a learner's workspace/
    (you collect)                                 grading/submitted/STUDENT/LESSON/LESSON.ipynb
    python -m nbgrader autograde LESSON           grading/autograded/, and the scores in grading/gradebook.db
    python -m nbgrader generate_feedback LESSON   grading/feedback/STUDENT/LESSON/LESSON.html
    python -m nbgrader export                     grades.csv

`python -m jupyterlab` in the repository's root has nbgrader's menu (formgrader); `make lab`, for learners, has not.

A submission is a program that runs with your rights: grade what strangers sent in a container.
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent

c = get_config()
c.CourseDirectory.course_id = "from-prompt-to-response"
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.db_url = f"sqlite:///{HERE / 'grading' / 'gradebook.db'}"
for step in ("source", "release", "submitted", "autograded", "feedback"):
    setattr(c.CourseDirectory, f"{step}_directory", os.path.join("grading", step))

c.Execute.timeout = 120  # seconds a cell: the model is loaded in one


def forget_the_workspace(**_):
    """A submission that passes must not be kept as the instructor's own work."""
    os.environ.pop("COURSE_WORKSPACE", None)


c.Autograde.pre_convert_hook = forget_the_workspace
