"""What lessons call: `check`, `hint` and `progress` for exercises, `grade` for graded cells, `verdict` for claims.

`start` is the learner's start page. In the workspace, `from my_llm import …` works from here on.
"""

from course_lib.classroom.location import find_my_llm, workspace_folder

__all__ = ["check", "grade", "hint", "progress", "start", "verdict"]

find_my_llm(workspace_folder())


def __getattr__(name):
    # the workspace and the doctor import this package too, and need none of it
    if name in ("check", "grade", "hint"):
        from course_lib.classroom import checking

        return getattr(checking, name)
    if name == "progress":
        from course_lib.classroom.records import progress

        return progress
    if name == "start":
        from course_lib.classroom.start_page import start

        return start
    if name == "verdict":
        from course_lib.classroom.claims import verdict

        return verdict
    raise AttributeError(f"module 'course_lib.classroom' has no attribute {name!r}")
