"""How many bits the matrix products of training are computed with: 16 where the machine is fast at that, else 32.

The weights stay in float32, and so does what the optimizer adds to them: `torch.autocast` rounds only what enters a
matrix product. bfloat16 keeps float32's range and 8 of its 24 significant bits, so no loss has to be scaled.
"""

import os
from collections.abc import Mapping
from typing import Literal, get_args

import torch

from course_lib.arguments import refused

Precision = Literal["auto", "float32", "bfloat16"]


def pick_precision(precision: Precision = "auto", device: str = "cpu") -> Literal["float32", "bfloat16"]:
    """What `precision` comes down to on this machine. "auto" is COURSE_PRECISION if set, else what is fast here.

    Raises:
        ValueError: precision, or COURSE_PRECISION, is none of "auto", "float32" and "bfloat16".
    """
    capabilities = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu.get_capabilities()
    return choose_precision(precision, device, capabilities, os.environ)


def choose_precision(
    precision: Precision, device: str, capabilities: Mapping[str, bool] | bool, environment: Mapping[str, str]
) -> Literal["float32", "bfloat16"]:
    """`pick_precision` for a machine described by its arguments.

    `capabilities`: of a GPU, whether it computes in bfloat16; of a CPU, what `torch.cpu.get_capabilities()` says.
    """
    name = "precision"
    if isinstance(precision, str) and precision == "auto" and environment.get("COURSE_PRECISION"):
        name, precision = "COURSE_PRECISION", environment["COURSE_PRECISION"]
    if not isinstance(precision, str) or precision not in get_args(Precision):
        raise refused(name, "'auto', 'float32' or 'bfloat16'", precision)
    if precision != "auto":
        return precision
    if device == "cuda":
        fast = bool(capabilities)
    else:  # a CPU told to do without its newer instructions would compute bfloat16 slowly
        held_back = environment.get("ATEN_CPU_CAPABILITY") or environment.get("ONEDNN_MAX_CPU_ISA")
        fast = device == "cpu" and not held_back and any(map(capabilities.get, ("avx512_bf16", "amx_bf16")))
    return "bfloat16" if fast else "float32"
