"""A function over many items on all cores, with progress."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from segzoo.errors import DataError
from segzoo.progress import counted

T = TypeVar("T")
R = TypeVar("R")

_FEW = 64  # items for which processes are not worth their start
_CHUNKS_PER_CORE = 32
START_METHOD = "fork" if sys.platform == "linux" else None
"""How processes that work for this one begin: forked ones start at once and share what is loaded; starting afresh
would import everything in each of them."""


def map_on_all_cores(function: Callable[[T], R], items: Sequence[T], what: str, *, progress: bool) -> list[R]:
    """`function` of every item, in their order.

    Processes, not threads: around the decoding of small pictures most time is Python's own.

    Args:
        function: one that other processes can import.
        items: its arguments.
        what: what is being done, for the progress bar.
        progress: whether there is one.

    Raises:
        DataError: a process was killed from outside.
    """
    cores = available_cores()
    if cores == 1 or len(items) < _FEW:
        return _collect(map(function, items), len(items), what, progress)
    chunk = max(1, min(64, len(items) // (_CHUNKS_PER_CORE * cores)))
    try:
        context = multiprocessing.get_context(START_METHOD)
        with ProcessPoolExecutor(cores, mp_context=context, initializer=_begin, initargs=(function,)) as pool:
            # Forks here, before the progress bar starts a thread that could hold a lock.
            results = pool.map(_do, items, chunksize=chunk)
            return _collect(results, len(items), what, progress)
    except BrokenProcessPool:
        raise DataError(f"{what}: a process was killed, most likely because memory ran out. Try again.") from None


_function: Callable[[Any], Any]
"""In a process of the pool: what it does. Sent with each chunk, it would take a whole data set with it each time."""


def _begin(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _do(item: Any) -> Any:
    return _function(item)


def available_cores() -> int:
    """Cores this process may use, which a container or a batch system can restrict."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def leave_signals_to_parent(worker: int) -> None:
    """Make a data process end when its parent ends it, and by no other signal; torch's loaders call this in each.

    Batch systems, `timeout` and terminals send a signal to every process of a run. The one that trains then finishes
    its step, and needs its data processes until it has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "linux":  # elsewhere nothing tells who sent a signal
        return
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_at_word_of, args=(os.getppid(),), daemon=True).start()


def _end_at_word_of(parent: int) -> None:
    # Ignoring all would do, but for a parent that leaves early: it sends SIGTERM, and then waits.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _collect(results: Iterable[R], total: int, what: str, progress: bool) -> list[R]:
    return list(counted(results, total, what) if progress else results)
