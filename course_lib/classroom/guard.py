"""Running a learner's function: what it raises, prints, or never finishes ends in a sentence, and the kernel lives on.

The limit is on the processor time of the thread that the function runs in: on a busy machine it has no less of it, and
the threads that PyTorch calculates with do not use it up. A function that waits uses none, so the wall's clock has a
limit, too, ten times as long.

In the main thread, an interval timer rings when a limit may be reached, where the system has one. Elsewhere (Windows,
or another thread) a watchdog raises the same exception in the running thread, whose processor time it gets from Linux,
or from psutil on Windows; on macOS it has to take that of the whole process. What neither stops is one single call into
C that does not come back, such as 10 ** 10 ** 10; the watchdog does not wake time.sleep either, and a loop that catches
everything may outlast it. Then interrupt or restart the kernel. Nor do we defend against a function that ends the
process itself (os._exit).
"""

import contextlib
import ctypes
import dis
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
from types import TracebackType
from typing import Any

import course_lib
from course_lib.classroom.exercise import Exercise, NotDone, Wrong
from course_lib.classroom.location import shell

LIBRARY = os.path.dirname(course_lib.__file__) + os.sep
KEPT_CHARACTERS = 300
MANY_CHARACTERS = 100_000
POKE = 0.01  # seconds between attempts, for a loop that catches everything
WALL = 10  # by the wall, a call may take so many times the processor time that it may use


class OutOfTime(BaseException):
    """Raised inside the learner's function. Not an Exception, so that `except Exception` does not swallow it."""

    sentence = "it did not finish in time, and was stopped: does a loop in it never end?"


class Waits(OutOfTime):
    """By the wall it took too long, and it hardly calculated."""

    sentence = "it waits for something, and was stopped: is there a sleep, an input() or a lock in it?"


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
        Wrong: it crashed, calculated for more than `seconds`, waited, called itself for ever, or tried to leave.
        NotDone: it raises NotImplementedError, as an unwritten function does; where that is another one, which it
            calls, the message is the other's name.
    """
    try:
        with (
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
            warnings.catch_warnings(),
            _kernel_stays(),
            _time_limit(seconds),
        ):
            warnings.simplefilter("ignore")
            return _learner(function, arguments)
    except KeyboardInterrupt as interrupt:  # the learner's own
        if not _raised_in_code(interrupt):
            raise
        raise Wrong("it raises KeyboardInterrupt, as if somebody had pressed Ctrl-C") from None
    except OutOfTime as late:
        raise Wrong(late.sentence) from None
    except SystemExit:
        raise Wrong("it calls exit(): a function gives its answer with `return`") from None
    except RecursionError:
        raise Wrong("it calls itself again and again: what ends that?") from None
    except BaseException as error:
        if unwritten(error):
            raise NotDone(*_other(error, function)) from None
        raise Wrong(_crash(error, function)) from None


def _raised_in_code(error: BaseException) -> bool:
    """Whether a `raise` is where it began; an interrupt comes in the middle of something else."""
    *_, last = _steps(error.__traceback__)
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _steps(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _learner(function: Callable, arguments: tuple) -> Any:
    return function(*arguments)


def unwritten(error: BaseException) -> bool:
    """Whether this is the stub's `raise NotImplementedError()`, and not PyTorch saying that it cannot do something."""
    if not isinstance(error, NotImplementedError):
        return False
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    source = linecache.getline(frame.f_code.co_filename, line) or " ".join(frame.f_code.co_names)
    return not error.args or "NotImplementedError" in source


def _other(error: BaseException, function: Callable) -> list[str]:
    """The name of the unwritten function, where it is not `function` itself."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return [] if frame.f_code in _own(function) else [frame.f_code.co_name]


def _own(function: Callable) -> set:
    """Its code; a class has that of its methods."""
    return set(_codes(vars(function) if inspect.isclass(function) else function))


def _crash(error: BaseException, function: Callable) -> str:
    try:
        said = str(error).strip().split("\n")[0][:200]
    except Exception:  # its own text raises
        said = ""
    if isinstance(error, MemoryError) or "can't allocate memory" in said:
        return "it asks for more memory than there is"
    sentence = f"it stops with {type(error).__name__}" + (f": {said}" if said else "")
    files = {code.co_filename for code in _own(function)}
    places = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    if places and (source := linecache.getline(*places[-1]).strip()):
        sentence += f" (line {places[-1][1]} of its cell: `{source}`)"
    return sentence


@contextlib.contextmanager
def _kernel_stays() -> Iterator[None]:
    """IPython's own exit() and quit() raise nothing, and end the kernel after the cell: here they raise SystemExit."""
    ipython = shell()
    if ipython is None:
        yield
        return

    def leave():
        raise SystemExit

    ipython.ask_exit = leave
    try:
        yield
    finally:
        vars(ipython).pop("ask_exit", None)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if seconds <= 0:
        raise OutOfTime
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        limit = _timer(Limit(seconds, time.thread_time))
    else:
        limit = _watchdog(Limit(seconds, _processor_clock()))
    with limit:
        yield


class Limit:
    """So many seconds on the processor, and `WALL` times as many by the wall, from now on."""

    def __init__(self, seconds: float, processor: Callable[[], float]):
        self.seconds, self.processor = seconds, processor
        self.began, self.began_wall = processor(), time.monotonic()

    def used(self) -> float:
        """Seconds of the limit that are gone."""
        return max(self.processor() - self.began, (time.monotonic() - self.began_wall) / WALL)

    def left(self) -> float:
        """Seconds from now on in which it is not reached, since a thread's clock is no faster than the wall's."""
        return self.seconds - self.used()

    def error(self) -> type[OutOfTime]:
        return OutOfTime if self.processor() - self.began >= self.seconds else Waits


def _processor_clock() -> Callable[[], float]:
    """The processor time of the thread that asks for this clock, which others can read."""
    if hasattr(time, "pthread_getcpuclockid"):
        return functools.partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    import psutil

    own = threading.get_native_id()

    def read() -> float:
        threads = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process().threads()}
        return threads.get(own, time.process_time())

    return read


@contextlib.contextmanager
def _timer(limit: Limit) -> Iterator[None]:
    def stop(_, event, __):
        if event == "line":  # the event "exception" comes first, and would only replace ours
            raise limit.error()
        return stop

    def ring(_, frame):
        left = limit.left()
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, max(left, POKE), POKE)
            return
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
        raise limit.error()

    tracer = sys.gettrace()
    handler = signal.signal(signal.SIGALRM, ring)
    began, (left, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, limit.seconds, POKE)
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
def _watchdog(limit: Limit) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    done, lock = threading.Event(), threading.Lock()
    asked = False

    def watch():
        nonlocal asked
        left = limit.seconds
        while not done.wait(max(left, POKE)):
            with lock:
                if done.is_set():
                    return
                left = limit.left()
                if left > 0:
                    continue
                frame = sys._current_frames().get(thread.value)
                while frame is not None and frame.f_code is not _learner.__code__:
                    frame = frame.f_back
                if frame is not None:
                    asked = True
                    raise_in(thread, ctypes.py_object(limit.error()))

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
    checks = tuple(os.path.join(LIBRARY, folder, "") for folder in ("classroom", "lessons"))
    handed, oracle = set(_codes(arguments)), set(_codes(exercise.oracle))

    def may(code):
        if not code.co_filename.startswith(LIBRARY) or code.co_filename in free or code in handed:
            return True
        return code.co_filename.startswith(checks) and "." in code.co_qualname and code not in oracle

    def watch(frame, event, _):
        code = frame.f_code
        # a generator that goes on was begun before: the collector of garbage may end one in the learner's function;
        # that of an expression, on one line as a rule, is called by nobody
        begun = code.co_name == "<genexpr>" or frame.f_lineno != code.co_firstlineno
        goes_on = code.co_flags & inspect.CO_GENERATOR and begun
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
