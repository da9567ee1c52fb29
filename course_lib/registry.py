"""One archive from the package registry that pip is set up for, as a plain file: nothing of it runs.

pip's own settings are honoured (index-url, extra-index-url, find-links, no-index, cert, trusted-host,
proxy, timeout), from its configuration files and from PIP_… in the environment. The finder is `unearth`.
`pip download` would not do: it runs the build hook of a source archive.
"""

import ast
import contextlib
import hashlib
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from tqdm import tqdm
from unearth import PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.errors import UnpackError
from unearth.fetchers import PyPIClient

from course_lib.manifest import Archive, AssetError

CHECK_NETWORK = "check the network and pip's settings (`pip config list`), then run this again"
CHECK_INDEX = "check the index-url in pip's settings (`pip config list`), then run this again"


class NotFound(AssetError):
    """This source does not have the archive; another one may."""


def download(archive: Archive, folder: Path) -> Path:
    """The archive, verified, from the first of pip's sources that has it: in `folder`, or a local file.

    A progress bar runs on stderr. Raises AssetError with the failure that explains most; a file
    that fails verification stays in `folder`, which is the caller's to delete.
    """
    settings = pip_settings()
    failures: list[AssetError] = []
    with _session(settings) as session, _messages_of("unearth") as messages:
        for number, source in enumerate(sources(settings)):
            messages.clear()
            [[url]] = source.values()
            where = urlsplit(url).hostname or url  # never a URL's user name and password
            finder = PackageFinder(session, ignore_compatibility=True, **source)
            try:
                file = _download(finder, archive, folder / f"source-{number}")
                _verify(file, archive)
                return file
            except NotFound:
                why = f" ({messages[-1]})" if messages else ""
                failures.append(NotFound(f"{archive.filename} was not found on {where}{why}: {CHECK_INDEX}"))
            except AssetError as error:
                failures.append(AssetError(f"{archive.filename} from {where} {error}"))
            except (httpx2.HTTPError, httpx2.InvalidURL, UnpackError, ValueError) as error:
                why = str(error) or type(error).__name__
                failures.append(
                    AssetError(f"{archive.filename} could not be fetched from {where} ({why}): {CHECK_NETWORK}")
                )
    failures.sort(key=lambda failure: isinstance(failure, NotFound))
    raise failures[0] if failures else AssetError(f"pip has no package source: {CHECK_INDEX}")


def _download(finder: PackageFinder, archive: Archive, folder: Path) -> Path:
    found = finder.find_matches(f"{archive.package}=={archive.version}")
    link = next((match.link for match in found if match.link.filename == archive.filename), None)
    if link is None:
        raise NotFound
    title = f"{archive.package} {archive.version}"
    with tqdm(desc=title, total=archive.bytes, unit="B", unit_scale=True) as bar:

        def report(link, completed, total):
            bar.update(completed - bar.n)
            if completed > archive.bytes:  # an endless answer must not fill the disk
                raise UnpackError(f"it is longer than {archive.bytes:,} bytes")

        return finder.download(link, folder, hashes={}, download_reporter=report)


def _verify(file: Path, archive: Archive) -> None:
    size = file.stat().st_size
    if size < archive.bytes:
        raise AssetError(f"was cut short ({size:,} of {archive.bytes:,} bytes): {CHECK_NETWORK}")
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != archive.sha256:
        raise AssetError(
            f"is not the file that the course was tested with (sha256 {digest[:12]}…, expected "
            f"{archive.sha256[:12]}…), so nothing of it was used: {CHECK_INDEX}"
        )


# ---- as pip would --------------------------------------------------------------------------------


def pip_settings() -> dict[str, str]:
    """pip's settings by long option name: its configuration files, then PIP_… in the environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    # without pip (an environment made by uv) there is nothing to list
    listed = subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
    lines = [line.partition("=") for line in listed.splitlines()]
    settings = {
        key.removeprefix(section): ast.literal_eval(value)
        for section in ("global.", "install.")
        for key, _, value in lines
        if key.startswith(section)
    }
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def sources(settings: dict[str, str]) -> list[dict[str, list[str]]]:
    """PackageFinder's arguments, one source at a time. The sha256 makes them equal: near ones first."""
    links = settings.get("find-links", "").split()
    found = [{"find_links": [os.path.expanduser(link)]} for link in links]
    if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        default = PackageFinder().sources[0]["url"]
        urls = [settings.get("index-url", default), *settings.get("extra-index-url", "").split()]
        found += [{"index_urls": [url]} for url in urls]
    return found


def _session(settings: dict[str, str]) -> PyPIClient:
    verify = True
    if cert := settings.get("cert"):
        verify = ssl.create_default_context(**{"capath" if os.path.isdir(cert) else "cafile": cert})
    session = PyPIClient(
        trusted_hosts=settings.get("trusted-host", "").split(),
        verify=verify,
        proxy=settings.get("proxy"),
        timeout=float(settings.get("timeout") or settings.get("default-timeout") or 30),
        follow_redirects=True,
        headers={"Accept-Encoding": "identity"},  # else a .tar.gz may arrive unpacked
    )
    urls = [url for source in sources(settings) for url in source.get("index_urls", [])]
    session.auth = MultiDomainBasicAuth(prompting=False, index_urls=urls)
    return session


@contextlib.contextmanager
def _messages_of(logger: str) -> Iterator[list[str]]:
    """The warnings of a library, kept for a sentence of our own instead of printed."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger(logger).addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger(logger).removeHandler(handler)
