"""A training run in a file: everything that the next step depends on, so that it can go on as if nothing had been."""

import zipfile
from pathlib import Path

import torch

from course_lib.files import replacing

FORMAT = "course_lib training checkpoint 1"


def write_checkpoint(path: str | Path, content: dict) -> None:
    """Write tensors, numbers, text, and lists and dicts of these. The file takes its place in one step.

    Raises:
        OSError: it cannot be written, or the disk is full; an older checkpoint at `path` is untouched.
    """
    try:
        with replacing(path) as beside:
            torch.save({"format": FORMAT, **content}, beside)
    except (OSError, RuntimeError) as error:  # PyTorch's writer says RuntimeError when the disk is full
        raise OSError(
            f"the checkpoint could not be written to {path} ({_first_line(error)}): "
            "free some space, or choose another folder; an older checkpoint there is untouched"
        ) from error


def read_checkpoint(path: str | Path) -> dict:
    """What `write_checkpoint` wrote, on the CPU. Nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no checkpoint of this course.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}: a Trainer with checkpoint={str(path)!r} writes one")
    try:
        if not zipfile.is_zipfile(path):  # PyTorch would go on to try formats of long ago
            raise ValueError("the file is cut short, or of another kind")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is wrong inside shows in any of a dozen ways
        raise ValueError(
            f"{path} is damaged, or no checkpoint at all ({_first_line(error)}): take an older one, or train anew"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint that a Trainer wrote: resume reads only those")
    return content


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
