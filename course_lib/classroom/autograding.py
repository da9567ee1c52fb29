"""How nbgrader runs what was handed in: a crash, a hang, a memory hog or a missing cell costs its own part alone.

nbgrader's own `Execute` gives up on a submission whose kernel dies, and a graded cell without any output counts as
right. Here the kernel is started again, what came before the fatal cell is run again, and grading goes on; a graded
cell earns its points only if it is seen to have run to its end.

A submission is still a program that runs with the rights of whoever grades it: see docs/teaching.md.
"""

import copy
import re
import secrets
from time import monotonic

from jupyter_core.utils import ensure_async, run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute, OverwriteCells
from nbgrader.utils import is_grade
from traitlets import Float, Integer

try:
    import resource
except ImportError:  # Windows
    resource = None

TIMED_OUT, DIED, NOT_RUN, NOT_SEEN = "CellTimeoutError", "DeadKernelError", "NotRunError", "NotSeenError"
SENTENCES = {
    DIED: "The kernel died in this cell, or could not be stopped: a crash, an exit, a loop without end. "
    "It was started again without this cell, and grading went on.",
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


class PatientExecute(Execute):
    """nbgrader's Execute, for strangers' code."""

    memory_gb = Float(4.0, help="Memory that a kernel may take, in GB (Linux); 0 is no limit.").tag(config=True)
    seconds_for_all = Integer(1800, help="Seconds for a whole notebook; what is left then is not run.").tag(config=True)
    seconds_to_answer = Integer(30, help="Seconds after a timeout until the kernel is given up.").tag(config=True)

    def preprocess(self, nb, resources, km=None):
        self.skipped: set[int] = set()  # the cells that the kernel died or hung in
        self.end = monotonic() + self.seconds_for_all
        return super().preprocess(nb, resources, km)

    def start_new_kernel(self, **settings):
        super().start_new_kernel(**settings)
        if self.memory_gb and hasattr(resource, "prlimit"):  # Linux
            limit = int(self.memory_gb * 1e9)
            resource.prlimit(self.km.provisioner.pid, resource.RLIMIT_DATA, (limit, limit))

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type != "code":
            return cell, resources
        if monotonic() > self.end:
            _say(cell, NOT_RUN)
            return cell, resources
        try:
            return self._run(cell, resources, index), resources
        except DeadKernelError:
            self.skipped.add(index)
            _say(cell, DIED)
            self._start_again(resources, index)
        return cell, resources

    def _run(self, cell, resources, index):
        """Run a cell. Raises DeadKernelError, too, where the kernel hangs after the cell was stopped."""
        graded = cell.metadata.get("nbgrader", {}).get("grade")
        source, seen = cell.source, secrets.token_hex(16)
        try:
            if graded:
                # in one piece: of two, the kernel may send the second by itself, and it would not be seen
                cell.source = f"{AFRESH}{source}\nprint('{seen}\\n', end='')"
            cell, _ = super().preprocess_cell(cell, resources, index)
            stopped = any(output.get("ename") == TIMED_OUT for output in cell.outputs)
        except CellTimeoutError:  # stopped, and then it did not say that it has stopped
            stopped = True
        finally:
            cell.source = source
        if stopped:
            self.skipped.add(index)
            if not self._answers():
                raise DeadKernelError(SENTENCES[DIED])
            if not _failed(cell):
                _say(cell, TIMED_OUT)
        if graded and not _take_out(cell, f"{seen}\n") and not _failed(cell):
            _say(cell, NOT_SEEN)
        return cell

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
        """A new kernel, in the state that the cells before `index` make; those that killed it are left out."""
        self.shutdown_kernel = "immediate"
        self._cleanup_kernel()
        self.km = self.create_kernel_manager()
        self.start_new_kernel(cwd=self.resources.get("metadata", {}).get("path"))
        self.start_new_kernel_client()
        for number, cell in enumerate(self.nb.cells[:index]):
            graded = cell.metadata.get("nbgrader", {}).get("grade")  # leaves nothing behind
            if cell.cell_type != "code" or graded or number in self.skipped or monotonic() > self.end:
                continue
            try:
                super().preprocess_cell(copy.deepcopy(cell), resources, number)
            except DeadKernelError:
                self.skipped.add(number)
                return self._start_again(resources, index)


class RestoreCells(OverwriteCells):
    """nbgrader's OverwriteCells, where cells are missing, whichever they are, or come from another release."""

    def preprocess_cell(self, cell, resources, cell_index):
        released = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        known = released.grade_cells if is_grade(cell) else released.source_cells
        if _grade_id(cell) not in {cell.name for cell in known}:
            cell.metadata.pop("nbgrader", None)  # not this assignment's: run as any other cell
        return super().preprocess_cell(cell, resources, cell_index)

    def add_missing_grade_cells(self, nb, resources):
        source = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        cells = {cell.name: cell for cell in source.source_cells}
        solutions = {cell.name for cell in source.solution_cells}
        there = [_grade_id(cell) for cell in nb.cells]
        graded = {cell.name: cell for cell in source.grade_cells}
        before = -1  # where the cell before, in the order of the assignment, stands now
        for name in cells:
            if name in there:
                before = there.index(name)
            elif name in graded:
                added = self.missing_cell_transform(cells[name], graded[name].max_score, is_solution=name in solutions)
                before += 1
                nb.cells.insert(before, added)
                there.insert(before, name)
        return nb, resources


def _grade_id(cell: NotebookNode) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def _failed(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.outputs)


def _say(cell: NotebookNode, name: str) -> None:
    """An error as the cell's output: no points, and a line in the feedback."""
    cell.outputs = [*cell.get("outputs", ())]
    sentence = SENTENCES[name]
    cell.outputs.append(new_output("error", ename=name, evalue=sentence, traceback=[f"{name}: {sentence}"]))


def _take_out(cell: NotebookNode, line: str) -> bool:
    """Remove a printed line from the cell's outputs; whether it was there."""
    for output in cell.outputs:
        if output.get("name") == "stdout" and output.text.endswith(line):
            output.text = output.text.removesuffix(line)
            if not output.text:
                cell.outputs.remove(output)
            return True
    return False


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
