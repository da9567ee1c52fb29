"""A class on a server: learners log in to JupyterHub, run lesson 00, and hand homework 1 in; the instructor grades it.

Two learners; COURSE_HUB=8 is the trial that docs/teaching.md tells about (`-s` prints what it measured).
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest
from lessons.test_homework import functions, graded_cells, handed_in, solutions
from nbformat.v4 import output_from_msg
from traitlets.config import PyFileConfigLoader

from course_lib.classroom.catch_up import catch_up
from course_lib.classroom.grading import marks, release
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import WorkspaceError, learners_version, lesson_names

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

COURSE_ID, HOMEWORK, LESSON = "from-prompt-to-response", "hw1_input_processing", "00_prompt_to_response.ipynb"
NOTEBOOK = f"homework/{HOMEWORK}/{HOMEWORK}.ipynb"
LEARNERS = [f"learner{number}" for number in range(int(os.environ.get("COURSE_HUB", "2")))]
CONFIG = "deploy/hub/jupyterhub_config.py"


def what_they_know() -> dict[str, tuple[dict[str, str], float]]:
    """Learner → (the functions that they write, the score by hand): all of it, half of it, nothing, then all again."""
    right, names = solutions(HOMEWORK), list(functions(HOMEWORK))
    half = {name: right[name] for name in names[:4]}
    points = {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points for cell in graded_cells(HOMEWORK)}
    for_half = sum(points[f"{name}_{part}"] for name in half for part in functions(HOMEWORK)[name].checks)
    kinds = [(right, 100), (half, for_half), ({}, 0)]
    return {name: kinds[number] if number < 3 else kinds[0] for number, name in enumerate(LEARNERS)}


# ---- the server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The course without its solutions, as it lies on a server."""
    folder = tmp_path_factory.mktemp("srv") / "course"
    subprocess.run([sys.executable, "deploy/for_learners.py", folder], cwd=ROOT, check=True)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def hub(course: Path, root: Path) -> Iterator[str]:
    """The hub in its trial mode, everything it writes in `root`; gives its address. Every process ends with it."""
    if shutil.which("configurable-http-proxy") is None:
        pytest.skip("no proxy here: `apt-get install node-configurable-http-proxy` (Debian) installs what a hub needs")
    pytest.importorskip("jupyterhub", reason="no JupyterHub here: `pip install -r deploy/hub/requirements.txt`")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        port, hub_port, api_port = (one.getsockname()[1] for one in sockets)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterhub", "-f", course / CONFIG, f"--JupyterHub.bind_url={address}"]
    command += [f"--JupyterHub.hub_port={hub_port}", f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{api_port}"]
    mark = {"COURSE_HUB_TRIAL": str(root / "homes"), "COURSE_EXCHANGE": str(root / "exchange")}
    with open(root / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=root, env=os.environ | mark, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield address
        except BaseException:
            print((root / "log").read_text()[-20_000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)  # it stops the learners' servers, its services and its proxy
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            for left in ours(mark["COURSE_EXCHANGE"]):
                left.kill()


def ours(exchange: str, learner: str | None = None) -> list[psutil.Process]:
    """The processes of this hub, or of one of its learners: their environment says so."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        of_whom = (environment.get("COURSE_EXCHANGE"), environment.get("JUPYTERHUB_USER"))
        if of_whom[0] == exchange and learner in (None, of_whom[1]) and process.pid != os.getpid():
            found.append(process)
    return found


def until(what, seconds, said):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.3)
    raise AssertionError(f"{said} within {seconds} seconds")


# ---- a learner's browser, without the browser ----------------------------------------------------


class Learner:
    """What a page in a browser sends to the hub, to the learner's server, and to a kernel."""

    def __init__(self, address: str, name: str):
        import requests

        self.address, self.name, self.web = address, name, requests.Session()
        self.server = f"{address}/user/{name}"

    def log_in(self) -> None:
        page = f"{self.address}/hub/login"
        until(lambda: self._answers(page), 300, "the hub did not answer")
        form = {"username": self.name, "password": "any", "_xsrf": self.web.cookies["_xsrf"]}
        assert self.web.post(page, data=form, allow_redirects=False).status_code == 302
        self.web.get(f"{self.address}/hub/home").raise_for_status()  # with the cookie of one who is logged in
        mine = f"{self.address}/hub/api/users/{self.name}"
        xsrf = {"X-XSRFToken": next(cookie.value for cookie in self.web.cookies if cookie.name == "_xsrf")}
        token = self.web.post(f"{mine}/tokens", json={"note": "a test"}, headers=xsrf)
        token.raise_for_status()
        self.web.headers["Authorization"] = f"token {token.json()['token']}"
        self.web.post(f"{mine}/server").raise_for_status()
        until(lambda: self.web.get(mine).json()["servers"].get("", {}).get("ready"), 900, "no server for a learner")

    def _answers(self, page: str) -> bool:
        import requests

        try:
            return self.web.get(page).ok
        except requests.ConnectionError:
            return False

    def call(self, method: str, place: str, **more):
        answer = self.web.request(method, f"{self.server}/{urllib.parse.quote(place)}", **more)
        assert answer.ok, f"{method} {place}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def notebook(self, path: str):
        return nbformat.from_dict(self.call("GET", f"api/contents/{path}")["content"])

    def save(self, path: str, notebook) -> None:
        self.call("PUT", f"api/contents/{path}", json={"type": "notebook", "content": notebook})

    def run_all(self, path: str):
        """Run a notebook's cells one after the other in a kernel of its own, save it, and give it back."""
        import websocket

        notebook = self.notebook(path)
        asked = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        kernel = self.call("POST", "api/sessions", json=asked)["kernel"]["id"]
        place = f"{self.server.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels?session_id={self.name}"
        header = [f"Authorization: {self.web.headers['Authorization']}"]
        wire = websocket.create_connection(place, header=header, timeout=120)
        try:
            for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
                cell.outputs, cell.execution_count = self._execute(wire, cell.source), number + 1
        finally:
            wire.close()
        self.save(path, notebook)
        return notebook

    def _execute(self, wire, source: str) -> list:
        message_id, outputs, open_ends = secrets.token_hex(8), [], {"idle", "reply"}
        head = {"msg_id": message_id, "msg_type": "execute_request", "session": self.name, "username": self.name}
        head |= {"version": "5.3", "date": ""}
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        rest = {"parent_header": {}, "metadata": {}, "buffers": [], "channel": "shell"}
        wire.send(json.dumps({"header": head, "content": content} | rest))
        while open_ends:
            frame = wire.recv()
            message = json.loads(frame) if isinstance(frame, str) else None  # a widget's picture comes in binary
            if message is None or message["parent_header"].get("msg_id") != message_id:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "execute_reply":
                open_ends -= {"reply"}
            elif kind == "status" and content["execution_state"] == "idle":
                open_ends -= {"idle"}
            elif kind in ("stream", "display_data", "execute_result", "error"):
                outputs.append(output_from_msg(message))
        return outputs

    def memory(self, exchange: str) -> dict[str, float]:
        """GB: what the server and the kernels hold, shared pages divided among those who share them."""
        found = {"server": 0.0, "kernel": 0.0}
        for process in ours(exchange, self.name):
            kind = "kernel" if "ipykernel_launcher" in " ".join(process.cmdline()) else "server"
            found[kind] += process.memory_full_info().pss / 1e9
        return found

    def homework(self, action: str = "") -> dict[str, dict]:
        """What the list of assignments shows: status → entry. `action`: fetch, submit or fetch_feedback first."""
        which = {"course_id": COURSE_ID, "assignment_id": HOMEWORK}
        answer = self.call("POST" if action else "GET", f"assignments/{action}".rstrip("/"), params=which)
        assert answer["success"], answer["value"]
        return {entry["status"]: entry for entry in answer["value"]}


# ---- the class -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def a_class(course, tmp_path_factory):
    """The learners' afternoon, all at once, and what the instructor makes of it."""
    root, seconds = tmp_path_factory.mktemp("a server"), {}
    for folder in ("exchange", "teacher"):
        (root / folder).mkdir()
    exchange, teacher = str(root / "exchange"), root / "teacher"
    (root / "exchange").chmod(0o1777)
    shutil.copy(ROOT / "nbgrader_config.py", teacher)
    own = {f"JUPYTER_{what}_DIR": str(root / "jupyter" / what.lower()) for what in ("DATA", "CONFIG", "RUNTIME")}

    def timed(what, function, *arguments):
        began = time.monotonic()
        result = function(*arguments)
        seconds[what] = time.monotonic() - began
        return result

    def together(function):
        with ThreadPoolExecutor(len(LEARNERS)) as pool:
            return list(pool.map(function, learners))

    def instructor(*command):
        subprocess.run([sys.executable, "-m", "nbgrader", *command, HOMEWORK], cwd=teacher, check=True)

    with pytest.MonkeyPatch.context() as patch, hub(course, root) as address:
        for name, value in {**own, "COURSE_EXCHANGE": exchange, "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        learners = [Learner(address, name) for name in LEARNERS]
        timed("log in, and the server starts", together, Learner.log_in)
        lessons = timed("run lesson 00", together, lambda learner: learner.run_all(LESSON))
        memory = [learner.memory(exchange) for learner in learners]
        begun = [learner.web.get(f"{learner.server}/").url.removeprefix(learner.server) for learner in learners]

        release(HOMEWORK, root=teacher)
        instructor("release_assignment")
        released = (teacher / f"grading/release/{HOMEWORK}/{HOMEWORK}.ipynb").read_bytes()
        theirs = [root / "homes" / learner.name / "course" / NOTEBOOK for learner in learners]
        before = [learner.homework() for learner in learners]
        assert all(path.read_bytes().strip() == released.strip() for path in theirs)
        for path in theirs:
            shutil.rmtree(path.parent)  # a learner who wants to begin again
        gone = together(lambda learner: learner.homework())
        fetched = together(lambda learner: learner.homework("fetch"))
        knows = what_they_know()

        def hand_in(learner):
            learner.save(NOTEBOOK, handed_in(HOMEWORK, knows[learner.name][0]))
            return learner.homework("submit")

        after = timed("hand in", together, hand_in)
        timed("collect", instructor, "collect")
        graded = timed("grade", marks, HOMEWORK, teacher)
        instructor("release_feedback")
        back = together(lambda learner: learner.homework("fetch_feedback"))
        pages = [sorted(path.parent.rglob("feedback/**/*.html")) for path in theirs]
        pages = [[page.read_text("utf-8") for page in found] for found in pages]
    for what, taken in seconds.items():
        print(f"{len(learners)} learners: {what}: {taken:.0f} s")
    for learner, held in zip(learners, memory, strict=True):
        print(f"{learner.name}: server {held['server']:.2f} GB, kernel after lesson 00 {held['kernel']:.2f} GB")
    left = ours(exchange)
    yield dict(locals())
    shutil.rmtree(root)


def test_a_learner_begins_on_the_start_page(a_class):
    assert a_class["begun"] == ["/lab/tree/start.ipynb"] * len(LEARNERS)


def test_lesson_00_runs_to_its_end_for_everybody(a_class):
    for notebook in a_class["lessons"]:
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert [output.evalue for output in outputs if output.output_type == "error"] == []
        assert "hill" in json.dumps(outputs)


def test_a_learner_takes_less_memory_than_the_limit(a_class):
    for held in a_class["memory"]:
        assert 0.05 < held["server"] < 0.5 and 0.4 < held["kernel"] < 1.5


def test_homework_goes_out_comes_in_and_goes_back(a_class):
    for before, gone, fetched, after, back in zip(
        *(a_class[moment] for moment in ("before", "gone", "fetched", "after", "back")), strict=True
    ):
        assert set(before) == {"fetched"} and set(gone) == {"released"} and set(fetched) == {"fetched"}
        assert set(after) == {"fetched", "submitted"}
        assert [one["has_local_feedback"] for one in back["submitted"]["submissions"]] == [True]


def test_everybody_gets_the_marks_that_one_computes_by_hand(a_class):
    by_hand = {name: score for name, (_, score) in a_class["knows"].items()}
    assert {one.student: one.score for one in a_class["graded"]} == by_hand
    assert not any(one.to_read for one in a_class["graded"])
    for (name, score), pages in zip(by_hand.items(), a_class["pages"], strict=True):
        [page] = pages
        assert f"Score: {float(score)} / 100.0" in page, name


def test_no_process_is_left(a_class):
    assert a_class["left"] == []


# ---- what lies on the server ---------------------------------------------------------------------


def test_a_server_has_the_lessons_without_their_solutions(course):
    lessons = course / "notebooks"
    assert lesson_names(lessons) == lesson_names()
    for name in lesson_names():
        text = (lessons / name).read_text("utf-8")
        assert "### BEGIN" not in text and '"output_type"' not in text, name
        assert learners_version(lessons / name) == learners_version(LESSONS / name)
    answers = [answer.strip() for answer in solutions(HOMEWORK).values() if answer.count("\n") > 3]
    for path in course.rglob("*"):
        if path.suffix in (".py", ".ipynb", ".md"):
            assert not any(answer in path.read_text("utf-8") for answer in answers), path
    assert not any((course / name).exists() for name in ("tests", ".git", "grading"))


def test_whoever_falls_behind_there_is_told_that_there_are_no_solutions(course, tmp_path):
    with pytest.raises(WorkspaceError, match="without their solutions"):
        catch_up("03", course / "notebooks", tmp_path)


def test_every_setting_of_the_hub_is_one(monkeypatch):
    """A name that nothing knows would be ignored without a word; the trial does not come by the real class's lines."""
    pytest.importorskip("jupyterhub", reason="no JupyterHub here: `pip install -r deploy/hub/requirements.txt`")
    from jupyterhub.app import JupyterHub
    from jupyterhub.auth import PAMAuthenticator
    from jupyterhub.spawner import SimpleLocalProcessSpawner, Spawner
    from systemdspawner import SystemdSpawner

    known = {kind.__name__: kind for kind in (JupyterHub, PAMAuthenticator, Spawner, SystemdSpawner)}
    known["SimpleLocalProcessSpawner"] = SimpleLocalProcessSpawner
    for trial in ("", "somewhere"):
        monkeypatch.setenv("COURSE_HUB_TRIAL", trial)
        config = PyFileConfigLoader(CONFIG, path=str(ROOT)).load_config()
        for kind, settings in config.items():
            assert set(settings) <= set(known[kind].class_traits(config=True)), kind
