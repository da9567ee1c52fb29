"""Lessons in a real browser: JupyterLab on loopback, Debian's Chromium, keys pressed as a learner would.

`drive(lesson, slider)` is what a lesson's test calls; `opened(lesson)` is for a test that wants to do more.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

SCREENSHOTS = Path(__file__).parents[2] / "build/browser"
PATIENCE = 600  # seconds: a busy machine is no fault of a lesson
CHROMIUM_FLAGS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a request that slips through ends here
]


@dataclass
class Seen:
    """What a cell shows: its pictures (their sources) and its text."""

    pictures: list[str]
    text: str


@dataclass
class Driven:
    """The cell before and after the slider's steps, and how long each took from the key to the changed picture."""

    before: Seen
    after: Seen
    milliseconds: list[float]
    screenshot: Path

    @property
    def median(self) -> float:
        return median(self.milliseconds)


def drive(lesson: Path, slider: str, steps: int = 15) -> Driven:
    """Open the lesson, run all, and move the slider `steps` to the left with the arrow keys.

    Raises AssertionError where a cell ends in an error, a step changes no picture within 10 seconds, the page reports
    an error, or anything outside this machine is asked for. Prints the median time of a step.
    """
    with opened(lesson) as page:
        driven = page.drive(slider, steps)
    print(f"{lesson.stem}, {slider}: {driven.median:.0f} ms from key to picture (median of {len(driven.milliseconds)})")
    return driven


@contextmanager
def opened(lesson: Path) -> Iterator["Lesson"]:
    """A copy of the lesson in JupyterLab, run to its end without an error. At the end the page must be clean.

    Skips the test where there is no Chromium.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here: `apt-get install chromium` (Debian) installs what the browser tests need")
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, jupyterlab(Path(folder), lesson) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            lesson = Lesson(page, address, lesson.name)
            lesson.run_all()
            yield lesson
            lesson.assert_clean()
        finally:
            browser.close()


# ---- the server ---------------------------------------------------------------------------------


@contextmanager
def jupyterlab(folder: Path, lesson: Path) -> Iterator[str]:
    """A JupyterLab of its own, settings and all, with a copy of the lesson; gives its address."""
    (folder / "lessons").mkdir()
    shutil.copy(lesson, folder / "lessons")
    port = _free_port()
    command = f"""-m jupyterlab --no-browser --ip=127.0.0.1 --port={port} --ServerApp.port_retries=0
      --IdentityProvider.token= --ServerApp.disable_check_xsrf=True --LabApp.expose_app_in_browser=True""".split()
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    own = dict(JUPYTER_CONFIG_DIR="config", JUPYTER_DATA_DIR="data", JUPYTER_RUNTIME_DIR="runtime")
    own |= dict(JUPYTERLAB_SETTINGS_DIR="settings", JUPYTERLAB_WORKSPACES_DIR="workspaces", IPYTHONDIR="ipython")
    own |= dict(COURSE_WORKSPACE="lessons")  # a learner's own work stays untouched
    environment = os.environ | {name: str(folder / place) for name, place in own.items()}
    with open(folder / "log", "w+") as log:
        server = subprocess.Popen(
            [sys.executable, *command], cwd=folder / "lessons", env=environment, stdout=log, stderr=log
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(lambda: _answers(server, address, folder / "log"), PATIENCE, "JupyterLab did not answer")
            yield address
        finally:
            server.send_signal(signal.SIGTERM)  # it ends its kernels, too
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()  # a kernel ends by itself when its server is gone
                server.wait()


def _free_port() -> int:
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


def _answers(server: subprocess.Popen, address: str, log: Path) -> bool:
    assert server.poll() is None, f"JupyterLab ended at once:\n{log.read_text()[-3000:]}"
    try:
        return bool(_get(f"{address}/api"))
    except OSError:
        return False


def _get(url: str):
    # no proxy: this is our own machine
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=PATIENCE) as answer:
        return json.load(answer)


def _wait(condition, seconds: float, complaint: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{complaint} within {seconds} s"
        time.sleep(0.1)


# ---- the page -----------------------------------------------------------------------------------

# Lab's own notebook model: it holds every cell, those not on the screen too
NOTEBOOK = "jupyterapp.shell.currentWidget.content.model.toJSON()"
RUN_ALL = """() => {
  window.ran = null;
  jupyterapp.commands.execute("notebook:run-all-cells").then(() => { window.ran = true; });
}"""
# what widgets have sent to the kernel and is not answered in full
WAITING = """() => {
  const sent = jupyterapp.shell.currentWidget.sessionContext.session.kernel._futures;
  return [...sent.values()].some(message => message.msg.header.msg_type === "comm_msg");
}"""
SEEN = """cell => ({
  pictures: [...cell.querySelectorAll(".jp-Cell-outputArea img")].map(image => image.src),
  text: cell.querySelector(".jp-Cell-outputArea").innerText,
})"""
# from the key to the first frame in which the cell's pictures are others, and loaded
WATCH = """cell => {
  const sources = () => [...cell.querySelectorAll(".jp-Cell-outputArea img")].map(image => image.src).join(" ");
  const loaded = () => [...cell.querySelectorAll(".jp-Cell-outputArea img")].every(image => image.complete);
  const before = sources();
  window.took = null;
  addEventListener("keydown", () => {
    const pressed = performance.now();
    const look = () => {
      if (sources() !== before && loaded()) window.took = performance.now() - pressed;
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, { capture: true, once: true });
}"""


@dataclass
class Lesson:
    """A lesson open in the browser. `page` is Playwright's."""

    page: object
    address: str
    name: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def run_all(self) -> None:
        page = self.page
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        page.on("console", self._heard)
        page.on("request", self._asked)
        page.on("websocket", self._asked)
        page.goto(f"{self.address}/lab/tree/{self.name}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=1000 * PATIENCE)
        # Lab says idle before its kernel is connected, and what is run then is lost: so the server is asked
        _wait(self._connected, PATIENCE, "the kernel was not ready")
        page.evaluate(RUN_ALL)
        page.wait_for_function("window.ran", timeout=1000 * PATIENCE)
        self._assert_no_cell_failed()

    def drive(self, slider: str, steps: int) -> Driven:
        handle = self.handle(slider)
        cell = self.cell(handle)
        self.wait_until_still(cell)
        before = self.seen(cell)
        took = [self.press(handle, cell, "ArrowLeft") for _ in range(steps)]
        self.wait_until_still(cell)
        after = self.seen(cell)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        screenshot = SCREENSHOTS / f"{Path(self.name).stem}_{slider}.png"
        cell.locator(".jp-Cell-outputArea").screenshot(path=screenshot)
        return Driven(before, after, took, screenshot)

    def handle(self, slider: str):
        """What a learner drags: the handle of the slider with this label."""
        named = self.page.get_by_text(slider, exact=True)
        # the label is the slider's own, or that of the number field beside it
        handle = self.page.locator(".widget-slider, .widget-hbox").filter(has=named).locator(".noUi-handle").first
        handle.wait_for(timeout=1000 * PATIENCE)
        handle.scroll_into_view_if_needed()
        return handle

    def cell(self, inside):
        return self.page.locator(".jp-CodeCell").filter(has=inside).first

    def press(self, handle, cell, key: str) -> float:
        """Press a key on the handle; milliseconds until the picture has changed."""
        handle.focus()
        cell.evaluate(WATCH)
        self.page.keyboard.press(key)
        self.page.wait_for_function("window.took", timeout=1000 * PATIENCE)
        numbers = cell.locator("input[type=number]").evaluate_all("fields => fields.map(field => field.value)")
        assert all(len(number) <= 6 for number in numbers), f"more digits than a slider's steps have: {numbers}"
        return self.page.evaluate("window.took")

    def seen(self, cell) -> Seen:
        return Seen(**cell.evaluate(SEEN))

    def enter(self, cell, label: str, value: str) -> Seen:
        """Fill the field with this label, press Enter, and wait for all that follows."""
        field = cell.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
        return self.wait_until_still(cell)

    def choose(self, cell, label: str, option: str) -> Seen:
        """Choose in the list with this label, and wait for all that follows."""
        cell.get_by_label(label, exact=True).select_option(option)
        return self.wait_until_still(cell)

    def wait_until_still(self, cell, seconds: float = PATIENCE, unfinished: str | None = None) -> Seen:
        """Until the kernel has answered all it was sent and what the cell shows has not changed for a second.

        `unfinished` is what stands in the text as long as a thread of the kernel works on it.
        """
        last, since = None, time.monotonic()
        end = since + seconds
        while time.monotonic() - since < 1:
            now = self.seen(cell)
            working = self.page.evaluate(WAITING) or (unfinished is not None and unfinished in now.text)
            if now != last or working:
                last, since = now, time.monotonic()
            assert time.monotonic() < end, f"the cell went on changing for {seconds} s: {now.text}"
            self.page.wait_for_timeout(100)
        return last

    def assert_clean(self) -> None:
        self._assert_no_cell_failed()
        assert self.errors == [], "the page reported errors"
        assert self.outside == [], "the page asked for something outside this machine"

    def _assert_no_cell_failed(self) -> None:
        for cell in self.page.evaluate(NOTEBOOK)["cells"]:
            for output in cell.get("outputs", []):
                failed = output["output_type"] == "error" or output.get("name") == "stderr"
                assert not failed, f"a cell failed:\n{cell['source']}\n{output}"

    def _connected(self) -> bool:
        self.page.wait_for_timeout(50)  # lets Playwright's events in
        try:
            kernels = _get(f"{self.address}/api/kernels")
        except urllib.error.HTTPError:  # the server cannot describe a kernel that is only just starting
            return False
        return any(kernel["execution_state"] == "idle" and kernel["connections"] >= 1 for kernel in kernels)

    def _heard(self, message) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _asked(self, request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.hostname != "127.0.0.1":
            self.outside.append(request.url)
