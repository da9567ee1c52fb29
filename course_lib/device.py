"""Where tensors live."""

import os

import torch


def pick() -> torch.device:
    """The device to compute on: COURSE_DEVICE if set, else CUDA, then Apple's MPS, then the CPU.

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
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
