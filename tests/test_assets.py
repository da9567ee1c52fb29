"""assets and registry, held against a registry of our own on 127.0.0.1 and on disk."""

import errno
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from course_lib import assets, registry
from course_lib.assets import AssetError

MODEL = bytes(range(256)) * 800
TEXTS = {"hamlet": b"To be, or not to be\n" * 50, "macbeth": b"Tomorrow, and tomorrow\n" * 50}


@dataclass
class Course:
    """A manifest, a registry that has its two archives, and an empty data folder."""

    root: Path
    data: Path
    manifest: Path
    requests: Counter = field(default_factory=Counter)
    drip: threading.Event = field(default_factory=threading.Event)

    @property
    def wheel(self) -> Path:
        return self.root / "simple/tiny-model/tiny_model-1.0-py3-none-any.whl"

    @property
    def sdist(self) -> Path:
        return self.root / "simple/tiny-texts/tiny-texts-0.6.tar.gz"

    def path(self, name="model"):
        return assets.path(name, manifest=self.manifest)

    def fetch(self, names=None):
        return assets.fetch(names, manifest=self.manifest)

    def edit(self, old, new):
        text = self.manifest.read_text()
        assert old in text
        self.manifest.write_text(text.replace(old, new, 1))

    def left(self) -> list[str]:
        """Every file in the data folder but the locks."""
        files = [p for p in self.data.rglob("*") if p.suffix != ".lock" and p.is_file()]
        return sorted(str(p.relative_to(self.data)) for p in files)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_wheel(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("tiny_model/model.gguf", MODEL)


def write_sdist(file: Path, mark: Path) -> None:
    content = {"setup.py": f"open({str(mark)!r}, 'w').close()".encode()}
    content |= {f"texts/{name}_gut.txt": text for name, text in TEXTS.items()}
    with tarfile.open(file, "w:gz") as sdist:
        for name, text in content.items():
            info = tarfile.TarInfo(f"tiny-texts-0.6/{name}")
            info.size = len(text)
            sdist.addfile(info, io.BytesIO(text))


def archive_table(package, version, kind, file: Path, files: dict[str, tuple[str, str, bytes]]):
    lines = [
        "[[archive]]",
        f'package = "{package}"',
        f'version = "{version}"',
        f'kind = "{kind}"',
        f'filename = "{file.name}"',
        f"bytes = {file.stat().st_size}",
        f'sha256 = "{sha256(file.read_bytes())}"',
        'licence = "MIT"',
        'source = "made here"',
        'used_in = ["00"]',
    ]
    for name, (place, member, content) in files.items():
        lines += [
            "[[archive.file]]",
            f'name = "{name}"',
            f'file = "{place}"',
            f'member = "{member}"',
            f"bytes = {len(content)}",
            f'sha256 = "{sha256(content)}"',
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def course(tmp_path, monkeypatch):
    course = Course(tmp_path, tmp_path / "data", tmp_path / "manifest.toml")
    course.wheel.parent.mkdir(parents=True)
    course.sdist.parent.mkdir(parents=True)
    write_wheel(course.wheel)
    write_sdist(course.sdist, tmp_path / "executed")
    texts = {
        f"plays/{name}": (f"plays/{name}.txt", f"tiny-texts-0.6/texts/{name}_gut.txt", text)
        for name, text in TEXTS.items()
    }
    model = {"model": ("model.gguf", "tiny_model/model.gguf", MODEL)}
    course.manifest.write_text(
        archive_table("tiny-model", "1.0", "wheel", course.wheel, model)
        + archive_table("tiny-texts", "0.6", "sdist", course.sdist, texts)
    )

    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("COURSE_DATA", str(course.data))
    index(course)
    return course


def index(course: Course) -> None:
    for file in (course.wheel, course.sdist):
        (file.parent / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>')


@pytest.fixture
def server(course, monkeypatch):
    """The same registry over HTTP; with `course.drip` set, archives come slowly and never end."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            drip = course.drip.is_set()  # before the count, which tests wait for
            course.requests[Path(self.path).name] += 1
            if drip and self.path.endswith(".whl"):
                self.send_response(200)
                self.send_header("Content-Length", str(course.wheel.stat().st_size))
                self.end_headers()
                self.wfile.write(course.wheel.read_bytes()[:50_000])
                while course.drip.is_set():
                    time.sleep(0.02)
                return  # and the connection closes early
            super().do_GET()

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=course.root))
    httpd.handle_error = lambda *_: None  # a client that was killed hangs up: that is the test
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{httpd.server_port}/simple")
    yield httpd
    course.drip.clear()
    httpd.shutdown()
    httpd.server_close()


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def fetch_in_subprocess(course, name="model"):
    code = "import sys; from pathlib import Path; from course_lib import assets; "
    code += "print(assets.path(sys.argv[1], manifest=Path(sys.argv[2])))"
    command = [sys.executable, "-c", code, name, str(course.manifest)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=course.root)


def sentence(excinfo) -> str:
    message = str(excinfo.value)
    assert "\n" not in message
    return message


# ---- what goes well ------------------------------------------------------------------------------


def test_a_file_out_of_a_wheel(course, server, capsys):
    file = course.path()
    assert file == course.data / "model.gguf"
    assert file.read_bytes() == MODEL
    assert course.left() == ["model.gguf"]
    assert "tiny-model 1.0" in capsys.readouterr().err  # the progress bar
    course.path()
    assert course.requests[course.wheel.name] == 1


def test_a_group_out_of_a_source_archive_which_is_never_executed(course, server):
    files = assets.paths("plays", manifest=course.manifest)
    assert [file.name for file in files] == ["hamlet.txt", "macbeth.txt"]
    assert [file.read_bytes() for file in files] == list(TEXTS.values())
    assert not (course.root / "executed").exists()
    assert course.left() == ["plays/hamlet.txt", "plays/macbeth.txt"]


def test_everything_from_files_on_disk(course):
    assert len(course.fetch()) == 3
    assert course.left() == ["model.gguf", "plays/hamlet.txt", "plays/macbeth.txt"]
    assert course.wheel.exists()  # find-links and file: indices are read in place, not consumed


def test_find_links_come_first_and_need_no_index(course, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", f"{course.root}/nowhere {course.wheel.parent}")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert course.path().read_bytes() == MODEL


def test_an_extra_index_is_asked_where_the_first_fails(course, monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", os.environ["PIP_INDEX_URL"])
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert course.path().read_bytes() == MODEL


def test_pips_configuration_file_is_honoured_and_the_environment_wins(tmp_path, monkeypatch):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://one.invalid/simple\ntimeout = 7\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    settings = registry.pip_settings()
    assert (settings["index-url"], settings["timeout"]) == ("https://one.invalid/simple", "7")
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.invalid/simple")
    assert registry.pip_settings()["index-url"] == "https://two.invalid/simple"
    assert registry.sources({"no-index": "1", "find-links": "a b"}) == [
        {"find_links": ["a"]},
        {"find_links": ["b"]},
    ]
    assert len(registry.sources({})) == 1  # the finder's default registry


def test_status_does_not_fetch(course):
    assert set(assets.status(manifest=course.manifest).values()) == {"missing"}
    course.path("plays/hamlet")
    (course.data / "plays/macbeth.txt").write_bytes(b"Out, damned spot!")
    assert assets.status(manifest=course.manifest) == {
        "model": "missing",
        "plays/hamlet": "present",
        "plays/macbeth": "damaged",
    }


def test_files_live_in_the_repository_unless_course_data_says_otherwise(monkeypatch):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    assert assets.data_folder() == assets.MANIFEST.parent == assets.DATA
    monkeypatch.setenv("COURSE_DATA", "~/somewhere")
    assert assets.data_folder() == Path.home() / "somewhere"


# ---- what goes wrong -----------------------------------------------------------------------------


def test_an_unknown_name_gets_a_suggestion(course):
    with pytest.raises(AssetError) as excinfo:
        course.path("modle")
    assert "no asset is named 'modle', did you mean 'model'?" in sentence(excinfo)
    with pytest.raises(AssetError, match=r"did you mean 'plays/hamlet'\?"):
        course.path("hamlet")
    with pytest.raises(AssetError, match="the names are model, plays"):
        course.path("")
    with pytest.raises(AssetError, match=r"group of 2 files: use assets.paths\('plays'\)"):
        course.path("plays")


@pytest.mark.parametrize("names", [3, None, ["model", 3], [["model"]], torch.tensor(1), b"model"])
def test_what_is_no_name_is_said(course, names):
    for ask in (course.path, course.fetch, lambda names: assets.paths(names, manifest=course.manifest)):
        if not (names is None and ask == course.fetch):
            with pytest.raises(AssetError, match=r"must be (a text|texts)"):
                ask(names)


def test_one_name_is_as_good_as_a_list(course):
    assert course.fetch("model") == course.fetch(["model"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[[archive]]", "[[archive"),
        ("[[archive]]", "[[other]]"),
        ("[[archive.file]]", "[[archive.files]]"),
        ("sha256 =", "sha257 ="),
        ("bytes = ", "bytes = -"),
        ("bytes = ", "bytes = 0."),
        ('name = "model"', "name = 3"),
        ('file = "', 'file = "/'),
        ('file = "', 'file = "../'),
        ("[[archive]]", "\udcff"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(course, old, new):
    text = course.manifest.read_text()
    assert old in text
    course.manifest.write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    with pytest.raises(AssetError) as excinfo:
        course.fetch()
    assert "is damaged (" in sentence(excinfo) and "restore that file from git" in sentence(excinfo)


def test_a_folder_in_the_manifests_place_is_said(course):
    course.manifest.unlink()
    course.manifest.mkdir()
    with pytest.raises(AssetError, match="cannot be read"):
        course.fetch()


def test_no_network(course, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(AssetError) as excinfo:
        course.path()
    message = sentence(excinfo)
    assert "tiny_model-1.0-py3-none-any.whl could not be fetched from 127.0.0.1" in message
    assert "check the network" in message
    assert course.left() == []


def test_a_registry_without_the_version(course):
    (course.wheel.parent / "index.html").write_text("")
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert "was not found on" in sentence(excinfo)
    assert "index-url" in sentence(excinfo)


def test_a_registry_that_answers_with_an_error_says_which(course, server):
    course.edit('package = "tiny-model"', 'package = "no-such-model"')
    with pytest.raises(AssetError, match=r"was not found on 127.0.0.1 \(.*404"):
        course.path()


def test_passwords_in_the_index_url_stay_out_of_the_message(course, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert "secret" not in sentence(excinfo)


def test_a_truncated_archive(course):
    course.wheel.write_bytes(course.wheel.read_bytes()[:1000])
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert "was cut short (1,000 of " in sentence(excinfo)
    assert course.left() == []


def test_a_download_that_breaks_off(course, server):
    course.drip.set()

    def break_off():
        wait_for(lambda: course.requests[course.wheel.name])
        course.drip.clear()

    threading.Thread(target=break_off).start()
    with pytest.raises(AssetError, match="could not be fetched from"):
        course.path()
    assert course.left() == []
    assert course.path().read_bytes() == MODEL


@pytest.mark.parametrize("over_http", [True, False])
def test_a_wrong_archive(course, over_http, request):
    if over_http:
        request.getfixturevalue("server")
    content = bytearray(course.wheel.read_bytes())
    content[500] ^= 1
    course.wheel.write_bytes(content)
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert "is not the file that the course was tested with" in sentence(excinfo)
    assert course.left() == []


def test_an_archive_that_never_ends_does_not_fill_the_disk(course, server):
    course.wheel.write_bytes(course.wheel.read_bytes() + b"x" * 1_000_000)
    with pytest.raises(AssetError, match="longer than"):
        course.path()
    assert course.left() == []


def test_a_wrong_archive_on_one_source_does_not_hide_the_right_one(course, monkeypatch):
    other = course.root / "other" / course.wheel.name
    other.parent.mkdir()
    other.write_bytes(b"not a wheel")
    monkeypatch.setenv("PIP_FIND_LINKS", str(other.parent))
    assert course.path().read_bytes() == MODEL


def test_a_wrong_member(course):
    course.edit(sha256(MODEL), sha256(b"another"))
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert "tiny_model/model.gguf in tiny_model-1.0-py3-none-any.whl has sha256" in sentence(excinfo)
    assert course.left() == []


@pytest.mark.parametrize("name", ["model", "plays/hamlet"])
def test_a_missing_member(course, name):
    course.edit('member = "tiny_model/model.gguf"', 'member = "tiny_model/nothing"')
    course.edit("texts/hamlet_gut.txt", "texts/nothing.txt")
    with pytest.raises(AssetError, match=r"has no file .*nothing"):
        course.path(name)
    assert course.left() == []


def test_too_little_space_is_seen_before_the_download(course, server, monkeypatch):
    usage = type(assets.shutil.disk_usage("/"))
    monkeypatch.setattr(assets.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert f"the disk of {course.data} is full" in sentence(excinfo)
    assert course.requests[course.wheel.name] == 0


def test_a_disk_that_fills_while_unpacking(course, monkeypatch):
    def copy(source, target, *_):
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(assets.shutil, "copyfileobj", copy)
    with pytest.raises(AssetError, match="is full"):
        course.path()
    assert course.left() == []


def test_a_disk_that_fills_while_downloading(course, server, monkeypatch):
    def download(finder, link, folder, **_):
        folder.mkdir()
        (folder / link.filename).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(registry.PackageFinder, "download", download)
    with pytest.raises(AssetError, match="is full"):
        course.path()
    assert course.left() == []


def test_a_folder_that_cannot_be_made(course, monkeypatch):
    (course.root / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_DATA", str(course.root / "file"))
    with pytest.raises(AssetError, match="or set COURSE_DATA to another folder"):
        course.path()


@pytest.mark.parametrize("content", [b"short", bytes(len(MODEL))])
def test_a_damaged_file_is_said_and_fetched_again(course, capsys, content):
    course.path().write_bytes(content)
    assert course.path().read_bytes() == MODEL
    assert "model is damaged: fetching it again" in capsys.readouterr().err


def test_a_damaged_file_without_a_network(course, monkeypatch):
    course.path().write_bytes(b"short")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(AssetError) as excinfo:
        course.path()
    assert "model: damaged, and could not be fetched again" in sentence(excinfo)
    assert "check the network" in sentence(excinfo)


# ---- processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_fetch_that_is_stopped_midway_leaves_nothing_in_the_way(course, server, how):
    course.drip.set()
    process = fetch_in_subprocess(course)
    wait_for(lambda: any(file.endswith(".whl") for file in course.left()))
    if how == "kill":
        process.kill()
    else:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    course.drip.clear()
    assert "model.gguf" not in course.left()
    if how == "interrupt":
        assert course.left() == []
    assert course.path().read_bytes() == MODEL
    assert course.left() == ["model.gguf"]


def test_two_processes_fetch_once(course, server):
    course.drip.set()
    first = fetch_in_subprocess(course)
    wait_for(lambda: course.requests[course.wheel.name] == 1)
    second = fetch_in_subprocess(course)
    line = second.stderr.readline()
    assert "another process is fetching tiny_model-1.0-py3-none-any.whl: waiting for it" in line
    assert course.requests[course.wheel.name] == 1
    first.kill()  # the lock goes with its holder, and the second one takes over
    first.communicate(timeout=300)
    course.drip.clear()
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert Path(out.strip()).read_bytes() == MODEL
    both = [fetch_in_subprocess(course, "plays/hamlet") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert course.requests[course.sdist.name] == 1
    assert course.left() == ["model.gguf", "plays/hamlet.txt", "plays/macbeth.txt"]


def test_importing_assets_does_not_import_the_machinery():
    code = "import sys, course_lib.assets; print({'unearth', 'tqdm', 'torch', 'ssl'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


# ---- the real manifest ---------------------------------------------------------------------------


def test_the_manifest_is_whole():
    archives = assets.load_manifest()
    files = [asset for archive in archives for asset in archive.assets]
    for entry in [*archives, *files]:
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.bytes > 0
    for archive in archives:
        assert archive.kind in ("wheel", "sdist")
        assert archive.licence and archive.source and archive.used_in
    names = [asset.name for asset in files]
    places = [Path(asset.file) for asset in files]
    assert len(set(names)) == len(names) and len(set(places)) == len(places)
    assert not any(place.is_absolute() or ".." in place.parts for place in places)
    plays = [name for name in names if name.startswith("shakespeare/")]
    assert len(plays) == 42 and plays == sorted(plays)
    [model] = [asset for asset in files if asset.name == "smollm2-135m"]
    assert model.bytes == 98_362_432


def test_the_vocabularies_are_those_that_tiktoken_pins():
    import inspect

    from tiktoken_ext import openai_public

    pinned = inspect.getsource(openai_public)
    for asset in (a for archive in assets.load_manifest() for a in archive.assets):
        if asset.name in ("gpt2-vocabulary", "cl100k-vocabulary", "o200k-vocabulary"):
            assert asset.sha256 in pinned
