"""Running a learner's function: what it raises, prints, or never finishes ends in a sentence, and the kernel lives on.

The limit of time is an interval timer in the main thread where the system has one. Elsewhere (Windows, or another
thread) a watchdog raises the same exception in the running thread. What neither stops is one single call into C that
does not come back, such as 10 ** 10 ** 10; the watchdog does not wake time.sleep either. Then interrupt or restart
the kernel. Nor do we defend against a function that ends the process itself (os._exit).
"""

import contextlib
import ctypes
import functools
import inspect
import io
import linecache
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import course_lib
from course_lib.classroom.exercise import Exercise, NotDone, Wrong

LIBRARY = os.path.dirname(course_lib.__file__) + os.sep
KEPT_CHARACTERS = 300
MANY_CHARACTERS = 100_000
POKE = 0.01  # seconds between attempts, for a loop that catches everything


class OutOfTime(BaseException):
    """Raised inside the learner's function. Not an Exception, so that `except Exception` does not swallow it."""


class Sink(io.TextIOBase):
    """Counts what is written, and keeps the beginning."""

    def __init__(self):
        self.beginning, self.characters = "", 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.beginning += text[: KEPT_CHARACTERS - len(self.beginning)]
        self.characters += len(text)
        return len(text)


def call(function: Callable, arguments: tuple, seconds: float, sink: Sink) -> Any:
    """The function's answer.

    Raises:
        Wrong: it crashed, ran longer than `seconds`, called itself for ever, or tried to leave.
        NotDone: it raises NotImplementedError, as an unwritten function does; where that is another one, which it
            calls, the message is the other's name.
    """
    try:
        with (
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
            warnings.catch_warnings(),
            _time_limit(seconds),
        ):
            warnings.simplefilter("ignore")
            return _learner(function, arguments)
    except KeyboardInterrupt:  # the learner's own interrupt
        raise
    except OutOfTime:
        raise Wrong("it did not finish in time, and was stopped: does a loop in it never end?") from None
    except SystemExit:
        raise Wrong("it calls exit(): a function gives its answer with `return`") from None
    except RecursionError:
        raise Wrong("it calls itself again and again: what ends that?") from None
    except BaseException as error:
        if unwritten(error):
            raise NotDone(*_other(error, function)) from None
        raise Wrong(_crash(error, function)) from None


def _learner(function: Callable, arguments: tuple) -> Any:
    return function(*arguments)


def unwritten(error: BaseException) -> bool:
    """Whether this is the stub's `raise NotImplementedError()`, and not PyTorch saying that it cannot do something."""
    if not isinstance(error, NotImplementedError):
        return False
    return not error.args or "NotImplementedError" in traceback.extract_tb(error.__traceback__)[-1].line


def _other(error: BaseException, function: Callable) -> list[str]:
    """The name of the unwritten function, where it is not `function` itself."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    own = getattr(inspect.unwrap(function), "__code__", None)
    return [] if frame.f_code is own else [frame.f_code.co_name]


def _crash(error: BaseException, function: Callable) -> str:
    said = str(error).strip().split("\n")[0][:200]
    if isinstance(error, MemoryError) or "can't allocate memory" in said:
        return "it asks for more memory than there is"
    sentence = f"it stops with {type(error).__name__}" + (f": {said}" if said else "")
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if lines and (source := linecache.getline(file, lines[-1]).strip()):
        sentence += f" (line {lines[-1]} of its cell: `{source}`)"
    return sentence


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if seconds <= 0:
        raise OutOfTime
    timed = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    with _timer(seconds) if timed else _watchdog(seconds):
        yield


@contextlib.contextmanager
def _timer(seconds: float) -> Iterator[None]:
    def stop(_, event, __):
        if event == "line":  # the event "exception" comes first, and would only replace ours
            raise OutOfTime
        return stop

    def ring(_, frame):
        # only inside the learner's function: a late ring must not hit our own tidying up
        inside = []
        while frame is not None and frame.f_code is not _learner.__code__:
            inside.append(frame)
            frame = frame.f_back
        if frame is None:
            return
        # a bare `except:` swallows this: then raise once more at the next line, which is that handler's own
        sys.settrace(lambda *_: None)
        for frame in inside:
            frame.f_trace = stop
        raise OutOfTime

    tracer = sys.gettrace()
    handler = signal.signal(signal.SIGALRM, ring)
    began, (left, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds, POKE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if sys.gettrace() is not tracer:
            sys.settrace(tracer)
        if left:  # somebody else's alarm goes on where it was
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), interval)


@contextlib.contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    done, lock = threading.Event(), threading.Lock()
    asked = False

    def watch():
        nonlocal asked
        if done.wait(seconds):
            return
        while True:
            with lock:
                if done.is_set():
                    return
                frame = sys._current_frames().get(thread.value)
                while frame is not None and frame.f_code is not _learner.__code__:
                    frame = frame.f_back
                if frame is not None:
                    asked = True
                    raise_in(thread, ctypes.py_object(OutOfTime))
            done.wait(POKE)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        with lock:
            outstanding = asked
        if outstanding:
            # One may still be on its way. Taken back (None), it would leave a flag of CPython's up for good, and with
            # that, under a profiler, Python 3.11 never gets past the first line of a function: so let it come, here.
            with contextlib.suppress(OutOfTime):
                raise_in(thread, ctypes.py_object(OutOfTime))
                while True:
                    pass


@contextlib.contextmanager
def watched(arguments: tuple, exercise: Exercise) -> Iterator[list[str]]:
    """Inside, the list fills with what the learner's function calls of course_lib though it should not.

    It may call what stands in the files `may_call` of input_processing, and what it was handed: an encoder, a rule of
    choice, or what makes it a model of the checks' own, with the methods and hooks of that. It may not call what the
    checks are made of: they know the answers. With None for `may_call` nothing is watched.
    """
    called = []
    if exercise.may_call is None or sys.getprofile() is not None:  # there can be but one profiler: somebody else's
        yield called
        return
    free = (__file__, *(os.path.join(LIBRARY, "input_processing", f"{name}.py") for name in exercise.may_call))
    checks = os.path.join(LIBRARY, "classroom", "")
    handed, oracle = set(_codes(arguments)), set(_codes(exercise.oracle))

    def may(code):
        if not code.co_filename.startswith(LIBRARY) or code.co_filename in free or code in handed:
            return True
        return code.co_filename.startswith(checks) and "." in code.co_qualname and code not in oracle

    def watch(frame, event, _):
        code = frame.f_code
        # a generator that goes on was begun before: the collector of garbage may end one in the learner's function
        goes_on = code.co_flags & inspect.CO_GENERATOR and frame.f_lineno != code.co_firstlineno
        if event != "call" or goes_on or may(code):
            return
        caller = frame.f_back
        while caller and not caller.f_code.co_filename.startswith(LIBRARY):
            caller = caller.f_back
        if caller and caller.f_code is _learner.__code__ and code.co_name != "<module>":  # an import
            called.append(code.co_qualname)

    sys.setprofile(watch)
    try:
        yield called
    finally:
        sys.setprofile(None)


def _codes(thing: Any) -> Iterator[Any]:
    """The code of each function in the thing, however deep it lies in tuples, lists and dictionaries."""
    if isinstance(thing, Mapping):
        thing = [*thing.values()]
    if isinstance(thing, list | tuple):
        for part in thing:
            yield from _codes(part)
    elif callable(thing):
        thing = thing.func if isinstance(thing, functools.partial) else thing
        if hasattr(inspect.unwrap(thing), "__code__"):
            yield inspect.unwrap(thing).__code__
