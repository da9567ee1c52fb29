"""What lessons call: `check`, `hint` and `progress` for exercises, `grade` for graded cells, `verdict` for claims.

`start` is the learner's start page.
"""

__all__ = ["check", "grade", "hint", "progress", "start", "verdict"]


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
