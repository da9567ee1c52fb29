"""Read a GGUF file: its metadata, and its tensors turned back from 4- or 8-bit blocks into float32.

A file is a header, pairs of key and value, a list of tensors (name, sizes, kind, place), and their bytes. A
vocabulary is a list of 49,152 strings, so how the strings are read decides how long it takes.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # numbers that share one scale
VERSIONS = (2, 3)
SCALARS = dict(enumerate(("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"))) | {10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9


class Kind(IntEnum):
    """What a tensor's numbers are stored as."""

    F32, F16, Q4_0, Q4_1 = 0, 1, 2, 3
    Q5_0, Q5_1, Q8_0, Q8_1 = 6, 7, 8, 9
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K = 10, 11, 12, 13, 14, 15
    BF16 = 30


class Stored(NamedTuple):
    """A tensor as it lies in the file: what its numbers are stored as, its sizes, the outermost first, its bytes."""

    tensor_type: Kind
    shape: tuple[int, ...]
    data: np.ndarray

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.data.nbytes


@dataclass(frozen=True)
class GGUF:
    """An open GGUF file. `metadata` is a plain dict; tensors are unpacked one at a time by `tensor(name)`."""

    path: Path
    metadata: dict[str, object]
    tensors: dict[str, Stored]

    def tensor(self, name: str) -> Tensor:
        """The tensor called `name` in float32, outermost dimension first.

        Raises:
            ValueError: the file has no tensor of that name, or stores it in a form that is not read here.
        """
        if name not in self.tensors:
            raise ValueError(f"{self.path.name} has no tensor {name!r}; it has {', '.join(list(self.tensors)[:4])}, …")
        stored = self.tensors[name]
        if stored.tensor_type not in DEQUANTIZE:
            raise ValueError(
                f"tensor {name!r} in {self.path.name} is stored as {stored.tensor_type.name}, which is not read here: "
                f"use a file with {', '.join(kind.name for kind in DEQUANTIZE)}"
            )
        dequantize, _, _ = DEQUANTIZE[stored.tensor_type]
        return dequantize(torch.from_numpy(stored.data)).reshape(stored.shape)


def read_gguf(path: str | Path) -> GGUF:
    """Open the GGUF file at `path`: metadata now, tensors when asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a GGUF file, of a version that is not read here, or it ends too early.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file: it does not start with the letters GGUF")
    content = np.memmap(path, mode="c").view(np.ndarray)  # copied where written to, which torch wants to be able to
    size = f"{len(content):,} bytes"
    try:
        metadata, tensors = _read(_Cursor(memoryview(content)))
        return GGUF(path, metadata, {name: _stored(content, name, *where) for name, *where in tensors})
    except _Unread as error:
        raise ValueError(f"{path} {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is a damaged GGUF file ({error}): fetch it again") from error
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} ends too early to be a whole GGUF file ({size}): fetch it again") from error


class _Unread(Exception):
    """What the file has that is not read here, as the end of a sentence."""


class _Cursor:
    """A place in the file's bytes, which moves on with what is read."""

    def __init__(self, content: memoryview):
        self.content, self.at = content, 0

    def numbers(self, layout: str) -> tuple:
        found = struct.unpack_from(layout, self.content, self.at)
        self.at += struct.calcsize(layout)
        return found

    def string(self) -> str:
        return self.strings(1)[0]

    def strings(self, count: int) -> list[str]:
        content, at, length = self.content, self.at, struct.Struct("<Q").unpack_from
        texts = []
        for _ in range(count):
            [n_bytes] = length(content, at)
            at += 8 + n_bytes
            texts.append(str(content[at - n_bytes : at], "utf-8"))
        self.at = at
        return texts

    def value(self, kind: int) -> object:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            kind, count = self.numbers("<IQ")
            if kind == STRING:
                return self.strings(count)
            if kind == ARRAY:
                return [self.value(ARRAY) for _ in range(count)]
            return self.scalars(kind, count)
        return self.scalars(kind, 1)[0]

    def scalars(self, kind: int, count: int) -> list:
        if kind not in SCALARS:
            raise _Unread(f"has metadata of kind {kind}, which the format does not know: fetch it again")
        array = np.frombuffer(self.content, SCALARS[kind], count, self.at)
        self.at += array.nbytes
        return array.tolist()


def _read(file: _Cursor) -> tuple[dict[str, object], list[tuple[str, Kind, tuple[int, ...], int]]]:
    """The metadata, and of each tensor its name, kind, shape and the place of its first byte."""
    _, version = file.numbers("<4sI")
    if version not in VERSIONS:
        raise _Unread(f"is written in version {version} of GGUF: versions 2 and 3 are read here, little-endian")
    n_tensors, n_pairs = file.numbers("<QQ")
    metadata = {file.string(): file.value(*file.numbers("<I")) for _ in range(n_pairs)}
    tensors = []
    for _ in range(n_tensors):
        name, [n_dims] = file.string(), file.numbers("<I")
        *sizes, kind, offset = file.numbers(f"<{n_dims}QIQ")
        if kind not in set(Kind):
            raise _Unread(f"stores {name} as kind {kind}, which is not known here: use another file of this model")
        tensors.append((name, Kind(kind), tuple(reversed(sizes)), offset))
    if len(metadata) < n_pairs or len({name for name, *_ in tensors}) < n_tensors:
        raise _Unread("holds an entry or a tensor twice: fetch it again")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        raise _Unread(f"has general.alignment {alignment!r}, which must be a whole number of bytes: fetch it again")
    start = -(-file.at // alignment) * alignment
    return metadata, [(*tensor, start + offset) for *tensor, offset in tensors]


def _stored(content: np.ndarray, name: str, kind: Kind, shape: tuple[int, ...], start: int) -> Stored:
    if kind not in DEQUANTIZE:
        return Stored(kind, shape, content[:0])  # no more is known of it; `GGUF.tensor` says so
    _, block, n_bytes = DEQUANTIZE[kind]
    if block > 1 and (not shape or shape[-1] % block):
        raise _Unread(f"stores {name}, {shape}, as {kind.name}, whose rows are of {block} numbers: fetch it again")
    end = start + math.prod(shape) // block * n_bytes
    if end > len(content):
        raise IndexError(kind)
    return Stored(kind, shape, content[start:end])


def dequantize_q4_1(data: Tensor) -> Tensor:
    """Blocks of scale d, minimum m (float16) and 32 four-bit numbers q: each weight is d·q + m.

    A block's 16 bytes hold numbers 0 to 15 in their low halves and 16 to 31 in their high halves.
    """
    blocks = data.reshape(-1, 2 + 2 + BLOCK // 2)
    scale, minimum = blocks[:, :4].contiguous().view(torch.float16).float().split(1, dim=1)
    packed = blocks[:, 4:]
    weights = torch.empty(len(blocks), BLOCK)
    weights[:, : BLOCK // 2] = packed & 0x0F
    weights[:, BLOCK // 2 :] = packed >> 4
    return weights.mul_(scale).add_(minimum)


def dequantize_q8_0(data: Tensor) -> Tensor:
    """Blocks of one scale d (float16) and 32 signed bytes q: each weight is d·q."""
    blocks = data.reshape(-1, 2 + BLOCK)
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    return blocks[:, 2:].view(torch.int8).float().mul_(scale)


def _float32(data: Tensor) -> Tensor:
    return data.view(torch.float32).clone()  # so that the file can be closed


def _float16(data: Tensor) -> Tensor:
    return data.view(torch.float16).float()


# kind → how it is unpacked, and how many numbers stand in how many bytes
DEQUANTIZE = {
    Kind.Q4_1: (dequantize_q4_1, BLOCK, 2 + 2 + BLOCK // 2),
    Kind.Q8_0: (dequantize_q8_0, BLOCK, 2 + BLOCK),
    Kind.F32: (_float32, 1, 4),
    Kind.F16: (_float16, 1, 2),
}
