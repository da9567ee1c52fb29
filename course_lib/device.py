"""Where tensors live."""

import os

import torch

from course_lib.arguments import instance


def pick() -> torch.device:
    """The device to compute on: COURSE_DEVICE if set, else CUDA if there is a GPU, else the CPU.

    Apple's MPS is only taken when COURSE_DEVICE=mps asks for it: training is known to drift there, away from the
    numbers that the lessons show.

    Raises:
        ValueError: COURSE_DEVICE names a device that torch does not know or this machine does not have.
    """
    wanted = os.environ.get("COURSE_DEVICE")
    if wanted:
        try:
            device = torch.device(wanted)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"COURSE_DEVICE={wanted!r} cannot be used on this machine ({str(error).splitlines()[0]}): "
                "unset it, or set it to cpu, cuda or mps"
            ) from error
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named(on: torch.device | str | None) -> torch.device:
    """The device that a person asks for; None is what `pick` gives.

    Raises:
        ValueError: torch does not know it, or this machine does not have it.
    """
    if on is None:
        return pick()
    try:
        device = torch.device(instance("on", on, (torch.device, str), "a device, such as 'cpu' or 'cuda'"))
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"on={on!r} cannot be used on this machine ({str(error).splitlines()[0]})") from error
    return device
