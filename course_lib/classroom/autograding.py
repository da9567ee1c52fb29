"""How nbgrader runs what was handed in: a crash, a hang, a memory hog or a missing cell costs its own part alone.

nbgrader's own `Execute` gives up on a submission whose kernel dies, and a graded cell without any output counts as
right. Here the kernel is started again, what came before the fatal cell is run again, and grading goes on; a graded
cell earns its points only if it is seen to have run to its end. One that fails where it stands is run once more after
everything else: an answer counts wherever it is, and the last one does.

A submission is still a program that runs with the rights of whoever grades it: see docs/teaching.md.
"""

import asyncio
import copy
import re
import secrets
from bisect import bisect_left
from collections.abc import Iterator
from time import monotonic

from jupyter_core.utils import ensure_async, run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute, OverwriteCells
from traitlets import Float, Integer

from course_lib.classroom.submission import answers_in, defines, grade_id, is_test, noted

try:
    import resource
except ImportError:  # Windows
    resource = None

TIMED_OUT, DIED, EXITED = "CellTimeoutError", "DeadKernelError", "KernelExit"
NOT_RUN, NOT_SEEN = "NotRunError", "NotSeenError"
LATER = "This test failed where it stands, and passed after everything else had run.\n"
SENTENCES = {
    DIED: "The kernel died in this cell, or could not be stopped: a crash, an exit, a loop without end. "
    "It was started again without this cell, and grading went on.",
    EXITED: "This cell ends the kernel, with exit or quit. Here that did nothing, and grading went on.",
    TIMED_OUT: "This cell took too long, and was stopped.",
    NOT_RUN: "This cell was not run: the cells before it had used up the time for the whole notebook.",
    NOT_SEEN: "This cell did not run to its end.",
}
# What a submission did to the library is undone before each graded cell: it is imported anew from its files.
AFRESH = (
    "import sys as _sys\n"
    "for _name in [_name for _name in _sys.modules if _name.split('.')[0] == 'course_lib']:\n"
    "    del _sys.modules[_name]\n"
)
# Each kernel's first cell. Without streams that can be flushed, a kernel answers nothing; with `exit`, it ends.
PREPARED = """
def _prepare():
    import sys
    shell, own = get_ipython(), {name: getattr(sys, name) for name in ("stdout", "stderr")}

    def mend(*_):
        for name, stream in own.items():
            try:
                getattr(sys, name).flush()
            except Exception:
                setattr(sys, name, stream)

    shell.events.register("post_run_cell", mend)
    shell.ask_exit = lambda: shell.payload_manager.write_payload({"source": "ask_exit", "keepkernel": True})

_prepare()
del _prepare
"""


class PatientExecute(Execute):
    """nbgrader's Execute, for strangers' code."""

    skip_cells_with_tag = ""  # none: JupyterLab runs such cells
    memory_gb = Float(4.0, help="Memory that a kernel may take, in GB (Linux); 0 is no limit.").tag(config=True)
    seconds_for_all = Integer(1800, help="Seconds for a whole notebook; what is left then is not run.").tag(config=True)
    seconds_to_die = Float(3, help="Seconds by which a death may come too late for its own cell.").tag(config=True)
    seconds_to_answer = Integer(30, help="Seconds after a timeout until the kernel is given up.").tag(config=True)

    def preprocess(self, nb, resources, km=None):
        self.skipped: set[int] = set()  # the cells that the kernel died or hung in
        self.asked: dict[str, str] = {}  # expressions that the kernel evaluates after a cell
        self.reply: dict = {}  # the kernel's to the last cell
        self.end = monotonic() + self.seconds_for_all
        return super().preprocess(nb, resources, km)

    def start_new_kernel(self, **settings):
        super().start_new_kernel(**settings)
        if self.memory_gb and hasattr(resource, "prlimit"):  # Linux
            limit = int(self.memory_gb * 1e9)
            resource.prlimit(self.km.provisioner.pid, resource.RLIMIT_DATA, (limit, limit))

    def start_new_kernel_client(self, **settings):
        client = super().start_new_kernel_client(**settings)
        self.kc.execute(PREPARED, silent=True)
        execute = self.kc.execute
        self.kc.execute = lambda code, **more: execute(code, user_expressions=self.asked, **more)
        return client

    def on_cell_executed(self, cell, execute_reply, **more):
        self.reply = execute_reply["content"]
        super().on_cell_executed(cell=cell, execute_reply=execute_reply, **more)

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "code":
            self._patiently(cell, resources, index)
        if index == len(self.nb.cells) - 1:
            self._once_more(resources)
        return cell, resources

    def _once_more(self, resources):
        """Run the tests that failed again, now that everything else has run: an answer may stand below its test."""
        end = len(self.nb.cells)
        for index, cell in enumerate(self.nb.cells[:end]):
            if not is_test(cell) or not _failed(cell) or index in self.skipped or monotonic() > self.end:
                continue
            again = copy.deepcopy(cell)
            self.nb.cells.append(again)
            self._patiently(again, resources, end)
            self.nb.cells.pop()
            self.skipped.discard(end)
            passed = [] if _failed(again) else [new_output("stream", name="stdout", text=LATER)]
            cell.outputs = [*passed, *again.outputs]

    def _patiently(self, cell, resources, index):
        """Run a cell; where the kernel dies of it, say so, and go on with a new kernel in the state before it."""
        if monotonic() > self.end:
            return _say(cell, NOT_RUN)
        for _ in range(2):  # a first death may be that of the test before, come late
            try:
                return self._run(cell, resources, index)
            except DeadKernelError:
                self._start_again(resources, index)
            if index in self.skipped:  # it hung
                break
        self.skipped.add(index)
        _say(cell, DIED)

    def _run(self, cell, resources, index):
        """Run a cell. Raises DeadKernelError, too, where the kernel hangs after the cell was stopped."""
        graded, source, self.reply = is_test(cell), cell.source, {}
        name, mark = f"_{secrets.token_hex(16)}", secrets.token_hex(16)
        try:
            if graded:
                # The last statement sets the mark. The kernel is asked for it, where the cell ended without an error,
                # and says it in an error of its own: no print, no stream and no formatter that can be somebody else's.
                cell.source, self.asked = f"{AFRESH}{source}\n{name} = '{mark}'", {"seen": f"{{}}[{name}]"}
            super().preprocess_cell(cell, resources, index)
            stopped = any(output.get("ename") == TIMED_OUT for output in cell.outputs)
        except CellTimeoutError:  # stopped, and then it did not say that it has stopped
            stopped = True
        finally:
            cell.source, self.asked = source, {}
        if stopped:
            self.skipped.add(index)
            if not self._answers():
                raise DeadKernelError(SENTENCES[DIED])
            if not _failed(cell):
                _say(cell, TIMED_OUT)
        if graded and self.reply.get("user_expressions", {}).get("seen", {}).get("evalue") == f"'{mark}'":
            cell.outputs = [output for output in cell.outputs if _costs_nothing(output)]
        elif graded and not _failed(cell):
            _say(cell, NOT_SEEN)
        elif not graded and any(one.get("source") == "ask_exit" for one in self.reply.get("payload", ())):
            _say(cell, EXITED)

    @run_sync
    async def _answers(self) -> bool:
        """Whether the kernel is free again within a few seconds."""
        asked = self.kc.kernel_info()
        end = monotonic() + self.seconds_to_answer
        while monotonic() < end and await ensure_async(self.kc.is_alive()):
            try:
                reply = await ensure_async(self.kc.get_shell_msg(timeout=1))
            except Exception:  # nothing came within the second: queue.Empty, or what zmq makes of a dying socket
                continue
            if reply["parent_header"].get("msg_id") == asked:
                return True
        return False

    def _start_again(self, resources, index):
        """A new kernel, in the state that the cells before `index` make; those that killed it are left out.

        A death may come late, by a timer or a thread. If the kernel dies again without the cell that it died in, it is
        the last of the fewest cells that it dies of.
        """
        while not self._lives(resources, index) and (suspects := self._again(index)):
            first = bisect_left(suspects[:-1], True, key=lambda number: not self._lives(resources, number + 1))
            guilty = suspects[first]
            self.skipped.add(guilty)
            _say(self.nb.cells[guilty], DIED)

    def _lives(self, resources, count) -> bool:
        """Whether a new kernel is still alive some seconds after the first `count` cells."""
        self.shutdown_kernel = "immediate"
        self._cleanup_kernel()
        self.km = self.create_kernel_manager()
        self.start_new_kernel(cwd=self.resources.get("metadata", {}).get("path"))
        self.start_new_kernel_client()
        for number in self._again(count):
            if monotonic() > self.end:
                break
            try:
                super().preprocess_cell(copy.deepcopy(self.nb.cells[number]), resources, number)
            except (DeadKernelError, CellTimeoutError):
                return False
        return self._stays_alive()

    def _again(self, count) -> list[int]:
        """Those of the first `count` cells that a new kernel runs again: a test leaves nothing behind."""
        cells = enumerate(self.nb.cells[:count])
        return [i for i, cell in cells if cell.cell_type == "code" and not is_test(cell) and i not in self.skipped]

    @run_sync
    async def _stays_alive(self) -> bool:
        end = monotonic() + self.seconds_to_die
        while monotonic() < end:
            if not await ensure_async(self.kc.is_alive()):
                return False
            await asyncio.sleep(0.1)
        return True


class RestoreCells(OverwriteCells):
    """nbgrader's OverwriteCells, for cells that are missing, there twice, unmarked, or from another release.

    Of what a cell's metadata say, its id alone is believed: what the id stands for is as it was released.
    """

    def preprocess(self, nb, resources):
        of = resources["nbgrader"]
        with Gradebook(of["db_url"]) as gradebook:
            released = gradebook.find_notebook(of["notebook"], of["assignment"])
            points = {cell.name: cell.max_score for cell in released.grade_cells}
            solutions = {cell.name for cell in released.solution_cells}
            sources = {cell.name: cell.source for cell in released.source_cells}
            metadata = {
                cell.name: {
                    "grade": cell.name in points,
                    "solution": cell.name in solutions,
                    "locked": cell.locked,
                    "task": False,
                    "grade_id": cell.name,
                    "checksum": cell.checksum,
                    "cell_type": cell.cell_type,
                    "schema_version": 3,
                }
                | ({"points": points[cell.name]} if cell.name in points else {})
                for cell in released.source_cells
            }
        _mark_again(nb, metadata)
        stubs = [sources[name] for name in solutions]
        _keep_answers_in_tests(nb, stubs)
        _stubs_before_answers(nb, stubs)
        return super().preprocess(nb, resources)

    def add_missing_grade_cells(self, nb, resources):
        source = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        cells = {cell.name: cell for cell in source.source_cells}
        solutions = {cell.name for cell in source.solution_cells}
        there = [grade_id(cell) for cell in nb.cells]
        graded = {cell.name: cell for cell in source.grade_cells}
        before = None  # where the cell before, in the order of the assignment, stands now
        for name in cells:
            if name in there:
                before = there.index(name)
            elif name in graded:
                added = self.missing_cell_transform(cells[name], graded[name].max_score, is_solution=name in solutions)
                before = None if before is None else before + 1
                place = len(nb.cells) if before is None else before
                nb.cells.insert(place, added)
                there.insert(place, name)
        return nb, resources


def _mark_again(nb: NotebookNode, released: dict[str, dict]) -> None:
    """Give each id's last cell, a code cell if there is one, the metadata that were released, and no other cell any."""
    marked = {}
    for cell in sorted(nb.cells, key=lambda cell: cell.cell_type == "code"):
        marked[grade_id(cell)] = cell
        cell.metadata.pop("nbgrader", None)
    for name in marked.keys() & released:
        marked[name].metadata.nbgrader = NotebookNode(released[name])
        marked[name].pop("attachments", None)  # of a text cell: it becomes a code cell again


def _keep_answers_in_tests(nb: NotebookNode, stubs: list[str]) -> None:
    """Add, at the end, what tests' cells define of the answers: the tests themselves are restored."""
    for source in [cell.source for cell in nb.cells if is_test(cell)]:
        if any(defines(source, stub) for stub in stubs):
            kept = dict(cell_type="code", metadata={}, source=source, outputs=[], execution_count=None)
            nb.cells.append(from_dict(kept))


def _stubs_before_answers(nb: NotebookNode, stubs: list[str]) -> None:
    """Move what was handed out, and not written on, before a cell that has the answer: it must not undo it."""
    for number, stub in enumerate(nb.cells):
        if stub.source.strip() in map(str.strip, stubs):
            answers = (i for i, cell in enumerate(nb.cells[:number]) if answers_in(cell, stub.source))
            nb.cells.insert(next(answers, number), nb.cells.pop(number))


def _failed(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.outputs)


def _say(cell: NotebookNode, name: str) -> None:
    """An error as the cell's output: no points, and a line in the feedback."""
    cell.outputs = [*cell.get("outputs", ())]
    sentence = SENTENCES[name]
    cell.outputs.append(new_output("error", ename=name, evalue=sentence, traceback=[f"{name}: {sentence}"]))


def _costs_nothing(output: NotebookNode) -> bool:
    """Whether nbgrader takes no points for an output: for errors, what goes to stderr and results it does."""
    return output.output_type not in ("error", "execute_result") and output.get("name") != "stderr"


def guesses(handed_in: NotebookNode, released: NotebookNode, graded: NotebookNode) -> Iterator[str]:
    """A sentence for each answer and test of which it was guessed what is meant."""
    for task in (cell for cell in released.cells if noted(cell).get("solution")):
        name = grade_id(task)
        answers = [cell for cell in handed_in.cells if answers_in(cell, task.source)]
        marked = sum(grade_id(cell) == name for cell in answers)
        if marked > 1:
            yield f"{name} has {marked} cells that are marked as its answer: the last one counts"
        if answers and not marked:
            yield f"{name} has no marked cell with an answer: what the notebook defines last under this name was graded"
    for cell in graded.cells:
        if is_test(cell) and any(output.get("text") == LATER for output in cell.outputs):
            yield f"{grade_id(cell)} failed where it stands, and passed after everything else had run"


# What a person should read: it need not be wrong, and what is wrong need not be here.
WORTH_A_LOOK = {
    "reads the checks": (
        r"course_lib\W+(import\W+)?lessons|classroom\W+(import\W+)?(exercise|checking|judging|guard|grading)|\.oracle\b"
    ),
    "looks for a solution": r"BEGIN SOLUTION|hw\d_\w+\.ipynb|inspect\s*\.\s*getsource|notebooks/|grading/",
    "changes the library": r"setattr\s*\(|sys\.modules|importlib|(course_lib|torch)(\.\w+)+\s*=[^=]",
    "reaches for the machine": r"\b(os\.environ|subprocess|os\.system|os\._exit|ctypes|socket|requests|urllib)\b",
    "touches Jupyter": r"get_ipython|input_transformers|ast_transformers",
    "looks around in memory": r"\bgc\.get_|sys\._getframe|inspect\.(stack|currentframe)|__globals__|__code__",
}


def worth_a_look(notebook: NotebookNode, released: NotebookNode) -> list[str]:
    """What in a submission a person should read, the kind and the line; what was handed out is not meant."""
    given = {line.strip() for cell in released.cells for line in cell.source.splitlines()}
    found = []
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "code" else ():
            if line.strip() in given:
                continue
            found += [f"{kind}: {line.strip()[:100]}" for kind, mark in WORTH_A_LOOK.items() if re.search(mark, line)]
    return found
