"""What a lesson's exercises call: `check`, `hint`, `progress`, and `grade` for graded cells."""

__all__ = ["check", "grade", "hint", "progress"]


def __getattr__(name):
    # the workspace and the doctor import this package too, and need none of it
    if name in ("check", "grade", "hint"):
        from course_lib.classroom import checking

        return getattr(checking, name)
    if name == "progress":
        from course_lib.classroom.records import progress

        return progress
    raise AttributeError(f"module 'course_lib.classroom' has no attribute {name!r}")
