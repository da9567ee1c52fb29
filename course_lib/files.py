"""Writing files so that nothing is lost: one process at a time, and the old file or the new one, never half of one."""

import contextlib
import errno
import os
import stat
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


def read_bytes(path: Path) -> bytes:
    """What is in a file.

    Raises:
        OSError: it cannot be read; or something else is there, such as a pipe, which would wait for ever.
    """
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.EINVAL, "it is not a file but a pipe or a device: move it away", str(path))
    return path.read_bytes()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8 with its line ends as they are; `replacing` says how, and what it raises."""
    with replacing(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to. When the block ends well the new file takes the old one's place in one step.

    A crash, a full disk or Ctrl-C leaves the old file as it was. Where a link stands, the file that it leads to is
    written.

    Raises:
        OSError: it cannot be written; `strerror` says why.
    """
    path = Path(os.path.realpath(path))
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


def replace(beside: str | Path, path: Path) -> None:
    """Move into place; Windows refuses it while another program has the file open: a virus scanner, for a moment."""
    for pause in PAUSES:
        try:
            return os.replace(beside, path)
        except PermissionError:
            time.sleep(pause)
    said = "another program has it open, or it may not be written: close it there, then do this again"
    raise PermissionError(errno.EACCES, said, str(path))
