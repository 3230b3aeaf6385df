"""Several processes that train or predict together, on several GPUs or machines.

PyTorch's `torchrun` starts them and gives each its rank by environment variables.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as distributed

from LASegColearnLib.errors import InputError, Problem

_Item = TypeVar("_Item")
# The first process may preprocess hundreds of scans while the others wait. Torchrun ends all of them if one dies.
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """This process's place among the processes that work together.

    Attributes
    ----------
    rank
        0 for the first process, which alone writes files and reports events.
    count
        Number of processes; 1 without torchrun.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that this process handles."""
        return list(items[self.rank :: self.count])

    def parts(self, of: int) -> range:
        """Indices of the parts of a batch that this process computes, ``of`` in all, a multiple of the processes."""
        each = of // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The first process's values, in every process."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=_device())
        distributed.broadcast(tensor, 0)
        return [float(value) for value in tensor.tolist()]

    def all_gather(self, value: float) -> list[int]:
        """The whole numbers that all processes give, in the order of their ranks."""
        own = torch.zeros(self.count, dtype=torch.float64)
        own[self.rank] = value
        return [round(one) for one in (self.all_reduce_mean(own) * self.count).tolist()]

    def all_reduce_mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the processes, which must all give tensors of the same shape and type."""
        if self.count == 1:
            return values
        total = values.to(_device())
        distributed.all_reduce(total)
        return (total / self.count).to(values.device)


ALONE = Processes()


def processes_from_environment() -> Processes:
    """This process's rank among those that torchrun started, if it did; nothing is exchanged between them."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    # A shell may use RANK for something else.
    return Processes(int(os.environ.get("RANK", 0)) if count > 1 else 0, count)


@contextmanager
def process_group(device: torch.device) -> Iterator[Processes]:
    """Within this block the processes that torchrun started can communicate: by NCCL on CUDA, else by Gloo.

    A process that fails stays in the group and must end through :func:`end_where_it_failed`.
    """
    processes = processes_from_environment()
    if processes.count == 1:
        yield processes
        return
    if device.type == "cuda" and device.index is not None:
        # With one process per machine the device has no index: it is the current one.
        torch.cuda.set_device(device)
    # If imported later, as by DistributedDataParallel, its default arguments would keep the group alive for ever.
    importlib.import_module("torch.distributed.nn.functional")
    # Windows has no NCCL.
    by = "nccl" if device.type == "cuda" and distributed.is_nccl_available() else "gloo"
    distributed.init_process_group(by, timeout=_LONGEST_WAIT)
    # Not after an error: NCCL's groups end together, while the others wait for an exchange that this one left out.
    yield processes
    # The group's threads end with its last reference. A thread that releases a tensor while the interpreter shuts down
    # would abort the process.
    gc.collect()
    distributed.destroy_process_group()


def end_where_it_failed(code: int) -> None:
    """End this process at once if an error left it in a group, so that torchrun notices and ends the others."""
    if distributed.is_available() and distributed.is_initialized():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def local_device(wanted: str) -> str:
    """The GPU of this process if several were started on one machine; else the wanted device.

    Raises
    ------
    InputError
        If there are more processes than GPUs, or one GPU (``cuda:N``, ``mps``) is wanted for several processes.
    """
    if processes_from_environment().count > 1:
        # Processes without CUDA communicate by Gloo, which does not support MPS.
        if wanted.partition(":")[0] == "mps":
            raise InputError(
                Problem(
                    "--device", f"Wanted CUDA or processors for several processes, found {wanted}.", "Use --device cpu."
                )
            )
        if wanted == "auto" and not torch.cuda.is_available():
            return "cpu"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if here == 1:
        return wanted
    if wanted.startswith("cuda:"):
        raise InputError(
            Problem("--device", f"Wanted a GPU for each process, found {wanted} for all.", "Use --device cuda.")
        )
    if wanted not in ("auto", "cuda") or not torch.cuda.is_available():
        return wanted
    gpus = torch.cuda.device_count()
    if here > gpus:
        raise InputError(
            Problem(
                "torchrun",
                f"Wanted a GPU for each of {here} processes, found {gpus}.",
                f"Start it with --nproc-per-node={gpus}.",
            )
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


def _device() -> torch.device:
    """The device on which tensors must be to be exchanged between the processes."""
    if distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
