"""The images of a split shared out to processes, each image counted once."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
from torch import distributed
from torch.utils.data import BatchSampler

from segzoo.data.cores import available_cores
from segzoo.errors import ConfigError, DataError
from segzoo.evaluation.evaluator import Evaluator, Job
from segzoo.evaluation.prepare import prepare
from segzoo.plugins import load_plugins, loaded_plugins
from segzoo.progress import counted
from segzoo.tasks.processes import is_first_process, process_count, process_number

logger = logging.getLogger(__name__)


def count_split(evaluator: Evaluator, processes: int) -> list[Any]:
    """What is found in every image of a split; in the split's order, whoever looked first.

    Args:
        evaluator: the network and the images.
        processes: how many share them on this machine; 1 where torchrun started several.

    Raises:
        DataError: an image or mask is wrong, or a process was killed.
    """
    count = len(evaluator.dataset)
    if is_first_process():
        logger.info("evaluating: %d images of split %s", count, evaluator.split)
    images = _count_in_processes(evaluator, min(processes, count)) if processes > 1 else _count_here(evaluator)
    return sorted(images, key=lambda image: int(image.index))


def _count_here(evaluator: Evaluator) -> list[Any]:
    """Count in this process, and in those that torchrun started beside it."""
    rank, world_size = process_number() if process_count() > 1 else 0, process_count()
    loader = evaluator.loader(rank, world_size)
    batches = counted(loader, len(loader), "evaluating") if rank == 0 else loader
    mine = [image for images in evaluator.count(batches) for image in images]
    return _of_all_processes(mine)


@contextmanager
def launched_processes(processes: int) -> Iterator[None]:
    """Connect the processes that torchrun started, if it did, each to its own GPU where there are GPUs.

    Raises:
        ConfigError: torchrun started several, and `processes` asks for more in each.
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    if processes > 1:
        raise ConfigError("--processes: torchrun has started the processes already. Leave one of the two out.")
    if not is_first_process():
        logging.getLogger("segzoo").setLevel(logging.ERROR)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _of_all_processes(mine: list[Any]) -> list[Any]:
    if process_count() == 1:
        return mine
    parts: list[list[Any]] = [[] for _ in range(process_count())]
    distributed.all_gather_object(parts, mine)
    return [image for part in parts for image in part]


def _count_in_processes(evaluator: Evaluator, processes: int) -> list[Any]:
    """Hand out batches to fresh processes, each with a network of its own."""
    batches = list(BatchSampler(range(len(evaluator.dataset)), evaluator.config.evaluation.batch_size, drop_last=False))
    context = multiprocessing.get_context("spawn")  # CUDA, and torch's threads, do not survive a fork
    numbers = context.SimpleQueue()
    for number in range(processes):
        numbers.put(number)
    threads = min(torch.get_num_threads(), max(1, available_cores() // processes))
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start, initargs=(numbers, threads, loaded_plugins())
    )
    try:
        parts = pool.map(_count_batch, [evaluator.job] * len(batches), batches)
        return [image for part in counted(parts, len(batches), "evaluating") for image in part]
    except BrokenProcessPool:
        raise DataError(
            "a process ended early: its message is above; without one, memory ran out: take fewer --processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(numbers: "SimpleQueue[int]", threads: int, plugins: Sequence[str]) -> None:
    """Prepare a process: its plug-ins, its GPU, its threads, and that it ends with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the first one tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    load_plugins(plugins)
    torch.set_num_threads(threads)
    number = numbers.get()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@lru_cache(maxsize=1)
def _evaluator(job: Job) -> Evaluator:
    return prepare(job)


def _count_batch(job: Job, indices: Sequence[int]) -> list[Any]:
    evaluator = _evaluator(job)
    return next(evaluator.count([evaluator.read(indices)]))
