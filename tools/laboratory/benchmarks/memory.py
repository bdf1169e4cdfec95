"""How much memory a way of computing takes at its peak, measured in a process of its own."""

import contextlib
import ctypes
import logging
import multiprocessing
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Protocol

import torch

from laboratory.benchmarks.machine import Way
from segzoo.errors import first_line

_logger = logging.getLogger(__name__)

_PROCESS = Path("/proc/self")
_RUNS = 2  # the first makes what later ones keep, such as an optimiser's state


class Preparable(Protocol):
    """Something to run, which another process can make from its description."""

    @property
    def device(self) -> str:
        """Where it computes."""

    def prepare(self) -> Way:
        """Everything that is done once."""


def peak_memory(case: Preparable) -> int | None:
    """Bytes that runs take at their peak, in a fresh process.

    On the CPU: the most that the process had resident, less what it had after `prepare`, so without the network's
    weights; with gradients and the optimiser's state. On a GPU: the most that torch had allocated, weights included.
    None where the system does not say, which Linux does, or the process ends by it, as where memory runs out.

    Args:
        case: what to run; it is pickled.
    """
    if not case.device.startswith("cuda") and not sys.platform.startswith("linux"):
        return None
    with ProcessPoolExecutor(1, mp_context=fresh_processes()) as pool:
        try:
            return pool.submit(_peak_here, case, torch.get_num_threads()).result()
        except (OSError, RuntimeError) as error:  # the times of an hour are not lost for it
            _logger.warning("memory not measured: %s", first_line(error))
            return None


def fresh_processes() -> BaseContext:
    """Processes that have imported everything and computed nothing; forked from one that did so, they start at once."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segzoo.training.train"])  # what takes seconds, and is found without this path
    return context


def resident_bytes() -> int:
    """What this process has in memory; 0 where the system does not say."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Give unused memory back to the system, and let the highest mark start anew."""
    with contextlib.suppress(AttributeError):  # of a C library that has no such function
        ctypes.CDLL(None).malloc_trim(0)
    Path(_PROCESS, "clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most that this process had in memory since `forget_peak`."""
    return _status("VmHWM")


def _peak_here(case: Preparable, threads: int) -> int:
    torch.set_num_threads(threads)
    way = case.prepare()
    if case.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(case.device)
        _run(way)
        return torch.cuda.max_memory_allocated(case.device)
    forget_peak()
    before = resident_bytes()
    _run(way)
    return peak_bytes() - before


def _run(way: Way) -> None:
    for _ in range(_RUNS):
        way()


def _status(key: str) -> int:
    if not _PROCESS.exists():
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path(_PROCESS, "status").read_text(encoding="utf-8"), re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024
