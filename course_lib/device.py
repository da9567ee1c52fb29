"""Where tensors live."""

import os

import torch


def pick() -> torch.device:
    """The device to compute on: COURSE_DEVICE if set, else CUDA if there is a GPU, else the CPU.

    Apple's MPS is only taken when COURSE_DEVICE=mps asks for it: training is known to drift there, away from the
    numbers that the lessons show.

    Raises:
        ValueError: COURSE_DEVICE names a device that torch does not know or this machine does not have.
    """
    if wanted := os.environ.get("COURSE_DEVICE"):
        return usable(wanted, f"COURSE_DEVICE={wanted!r}", "unset it, or set it to cpu, cuda or mps")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named(on: torch.device | str | None) -> torch.device:
    """The device that a person asks for; None is what `pick` gives.

    Raises:
        ValueError: torch does not know it, or this machine does not have it.
    """
    return pick() if on is None else usable(on, f"the device on={on!r}")


def usable(wanted: torch.device | str, said: str | None = None, instead: str = "take cpu, cuda or mps") -> torch.device:
    """The device called `wanted`. `said` and `instead` are for the sentence: how it was asked for, and what to do.

    Raises:
        ValueError: torch does not know it, or this machine does not have it.
    """
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"{said or repr(wanted)} cannot be used on this machine ({why}): {instead}") from error
    return device
