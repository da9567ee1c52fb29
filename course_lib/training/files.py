"""Writing a file so that a crash, a full disk or Ctrl-C leaves the old one or the new one, never half of either."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_lib.classroom.files import replace


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to. When the block ends well the new file takes the old one's place in one step.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; the old file is still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        yield Path(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing behind it
        os.chmod(beside, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
