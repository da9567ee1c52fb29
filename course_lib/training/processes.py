"""Several processes train one model: each takes its part of every batch, and their gradients are averaged.

`torchrun --nproc-per-node 2 -m …` starts the same script twice. Each process draws the same batch from the same seed
and takes its own share of it, so that the losses are those of one process with the whole batch.

Source: DistributedDataParallel, Li et al. 2020.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from course_lib import device


@contextmanager
def together() -> Iterator[torch.device]:
    """Inside, this process trains with the others that torchrun started; gives the device that is its own.

    Without torchrun it is the device that `device.pick()` gives, and nothing else happens.
    """
    if not _launched():
        yield device.pick()
        return
    mine = device.pick()
    if mine.type == "cuda":
        mine = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(mine)
    dist.init_process_group("nccl" if mine.type == "cuda" else "gloo")
    try:
        yield mine
        dist.barrier()  # none leaves while another still waits for its answer
    finally:
        dist.destroy_process_group()


def place() -> tuple[int, int]:
    """(which of the processes this is, counted from 0; how many there are).

    Raises:
        RuntimeError: torchrun started several, but this is outside of `together`.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    if _launched():
        raise RuntimeError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, but they do not know each other: "
            "train inside of `with together() as device:`"
        )
    return 0, 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Each value's mean over the processes."""
    if place()[1] > 1:
        dist.all_reduce(values)
        values = values / place()[1]
    return values


def _launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1
