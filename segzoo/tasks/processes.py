"""What the processes of one run tell each other; a single process gets its own values back."""

import os

import torch
from torch import Tensor, distributed, nn

from segzoo.errors import SegzooError

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Where torchrun, our own launcher and SLURM write the number of a process, in this order."""


def process_number() -> int:
    """The number of this process in the run, 0 for the only one."""
    if _connected():
        return distributed.get_rank()
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)


def is_first_process() -> bool:
    """Whether this process is the one that writes files and prints."""
    return process_number() == 0


def process_count() -> int:
    """How many processes are connected; 1 where none are."""
    return distributed.get_world_size() if _connected() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a small tensor over all processes; every process has to ask at the same time."""
    if process_count() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def share_buffers(network: nn.Module) -> None:
    """Give every process the first one's buffers, such as BatchNorm's statistics; every process has to ask."""
    if process_count() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)


def largest_of_processes(value: int, device: torch.device) -> int:
    """The largest of a number that each process has; every process has to ask at the same time."""
    if process_count() == 1:
        return value
    largest = torch.tensor(value, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def join_lists(mine: list[str]) -> list[str]:
    """The lists of all processes as one; every process has to ask at the same time."""
    if process_count() == 1:
        return mine
    lists: list[list[str]] = [[] for _ in range(process_count())]
    distributed.all_gather_object(lists, mine)
    return [text for part in lists for text in part]


def log_once(error: SegzooError) -> SegzooError:
    """Return an error that every process raises and one logs: only in the first process does it keep its lines."""
    if not is_first_process():
        error.problems = []
    return error


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()
