"""Writing a learner's files: one process at a time, and so that a crash leaves the old file or the new one."""

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 20  # seconds: whoever holds a workspace only reads and writes a few files
PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds, one after each time that replacing a file is refused


@contextlib.contextmanager
def locked(workspace: Path) -> Iterator[None]:
    """Alone in a workspace: other kernels and commands wait, so that what is read here is still so when it is written.

    May stand inside itself. A process that ends, however it ends, holds nothing any more.

    Raises:
        OSError: the folder cannot be written, or (TimeoutError) another process does not let go; `strerror` says so.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(workspace / ".course" / "lock", timeout=PATIENCE, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        said = "another process has been writing there for a while: wait for it to end, then do this again"
        raise TimeoutError(errno.ETIMEDOUT, said, str(workspace)) from None
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8 with its line ends as they are, beside `path`; then move it into place in one step.

    Raises:
        OSError: it cannot be written; `strerror` says why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def replace(beside: str | Path, path: Path) -> None:
    """Move into place; Windows refuses it while another program has the file open: a virus scanner, for a moment."""
    for pause in PAUSES:
        try:
            return os.replace(beside, path)
        except PermissionError:
            time.sleep(pause)
    said = "another program has it open, or it may not be written: close it there, then do this again"
    raise PermissionError(errno.EACCES, said, str(path))
