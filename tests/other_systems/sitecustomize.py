"""Windows and macOS, as far as Linux can imitate them: every Python that is started with this folder in PYTHONPATH."""

import builtins
import io
import os
import signal
import sys

COURSE = os.environ["OTHER_SYSTEM_COURSE"]  # the folder whose files are "open in another program"
STANDARD = {"pathlib", "pathlib._local", "shutil", "tempfile"}

for name in ("setitimer", "getitimer", "alarm", "SIGALRM", "ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
    delattr(signal, name)
for name in ("fork", "forkpty"):
    delattr(os, name)
sys.modules["resource"] = None  # to import it is an ImportError

real_open, real_replace, real_rename = builtins.open, os.replace, os.rename
refused = set()


def asked_by_the_course() -> bool:
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__") in STANDARD:
        frame = frame.f_back
    return frame.f_globals.get("__name__", "").startswith("course_lib")


def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more, **settings):
    """Text is cp1252 with CRLF where nothing else is asked for. /proc is not there for us; libraries know that."""
    if str(file).startswith("/proc") and asked_by_the_course():
        raise FileNotFoundError(2, "No such file or directory", file)
    if "b" not in mode:
        encoding = "cp1252" if encoding in (None, "locale") else encoding
        if newline is None and mode[0] in "wax":
            newline = "\r\n"
    return real_open(file, mode, buffering, encoding, errors, newline, *more, **settings)


def replace(source, target, **settings):
    """A file of ours is open in another program when it is first replaced: a virus scanner, for a moment."""
    place = os.path.abspath(target)
    if place.startswith(COURSE) and os.path.exists(place) and place not in refused:
        refused.add(place)
        raise PermissionError(13, "Access is denied", source, None, target)
    return real_replace(source, target, **settings)


def rename(source, target, **settings):
    if os.path.exists(target):
        raise FileExistsError(17, "Cannot create a file when that file already exists", source, None, target)
    return real_rename(source, target, **settings)


builtins.open = io.open = open
os.replace, os.rename = replace, rename
