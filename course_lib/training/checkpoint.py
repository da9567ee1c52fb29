"""A training run in a file: everything that the next step depends on, so that it can go on as if nothing had been."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.arguments import finite, path_of, whole
from course_lib.files import replacing

COMPILED = "_orig_mod."  # what torch.compile writes into the names of the weights
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
    path = path_of("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}: a Trainer with checkpoint={str(path)!r} writes one")
    try:
        _check_every_bit(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is wrong inside shows in any of a dozen ways
        raise damaged(path, error) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint that a Trainer wrote: resume reads only those")
    try:
        _check_parts(content)
    except Exception as error:
        raise damaged(path, error) from error
    return content


def damaged(path: Path, error: Exception) -> ValueError:
    """The error that says so."""
    return ValueError(
        f"{path} is damaged, or no checkpoint at all ({_first_line(error)}): take an older one, or train anew"
    )


def _check_every_bit(path: Path) -> None:
    """PyTorch reads numbers without holding them against the checksums that are in the file."""
    if not zipfile.is_zipfile(path):  # PyTorch would go on to try formats of long ago
        raise ValueError("the file is cut short, or of another kind")
    with zipfile.ZipFile(path) as file:
        if (member := file.testzip()) is not None:
            raise ValueError(f"{member} in it has another checksum than when it was written")


def _check_parts(content: dict) -> None:
    """Raises:
    Exception: the parts are not of the kind that a Trainer writes, or do not belong together.
    """
    losses, settings = content["losses"], content["settings"]
    n_tokens, checksum = content["tokens"]
    whole("how many tokens it was trained on", n_tokens, 1)
    whole("their checksum", checksum, 0)
    if not isinstance(losses, list) or not all(type(loss) is float and math.isfinite(loss) for loss in losses):
        raise ValueError("its losses are not finite numbers")
    steps = whole("steps", settings["steps"], len(losses))
    for step, loss in content["validation_losses"]:
        whole("the step of a validation loss", step, 0, steps)
        finite("a validation loss", loss)
    content["weights"] = plain_names(content["weights"])
    states = content["optimizer"]["state"].values()
    if not all_finite(content["weights"]) or not all(map(all_finite, states)):
        raise ValueError("its weights are not finite numbers")
    taken = max((int(state["step"]) for state in states), default=0)
    if content["optimizer"].get("steps", len(losses)) != len(losses) or taken > len(losses) or (losses and not taken):
        raise ValueError(f"it has the losses of {len(losses)} steps, and its weights took others")


def plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A compiled model's weights by the names that they have without."""
    return {name.replace(COMPILED, ""): weight for name, weight in weights.items()}


def all_finite(tensors: Mapping[str, Any] | nn.Module) -> bool:
    """Whether there is no NaN and no infinity in them."""
    tensors = dict(tensors.named_parameters()) if isinstance(tensors, nn.Module) else tensors
    return all(bool(torch.as_tensor(tensor).isfinite().all()) for tensor in tensors.values())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
