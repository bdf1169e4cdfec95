"""Measuring a checkpoint on a split, its images shared out to processes, each image counted once."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.utils.data import BatchSampler

from segzoo.checkpoint.read import find_checkpoint, load_trained
from segzoo.data.cores import available_cores
from segzoo.errors import ConfigError, DataError
from segzoo.escapes import show_log
from segzoo.evaluation.class_evaluator import ClassEvaluator
from segzoo.evaluation.evaluator import Evaluator, Job, changed_config, default_output
from segzoo.evaluation.mask_evaluator import MaskEvaluator
from segzoo.evaluation.results import check_results
from segzoo.models.agreement import Precision
from segzoo.plugins import load_plugins, loaded_plugins
from segzoo.progress import counted
from segzoo.tasks.processes import is_first_process, process_count, process_number

logger = logging.getLogger(__name__)

EVALUATORS: Mapping[str, type[Evaluator]] = {"segmentation": MaskEvaluator, "classification": ClassEvaluator}
"""`task` -> what measures it."""


def evaluate(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: str | Path | None = None,
    averaged: bool = True,
    engine: str = "torch",
    precision: Precision = "fp32",
    boundary: bool = False,
    processes: int = 1,
    report: bool = False,
    overwrite: bool = False,
    command: str | None = None,
) -> Any:
    """Measure a checkpoint: a segmenter on whole images at their original resolution, a classifier on their centres.

    Neither the batch size nor the number of processes changes a number beyond the network's own rounding, which masks
    do not show. Several of torchrun's processes share the images, too; each returns the same, and the first one writes.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model's folder, `owner/name` on the Hugging Face hub, or a
            published model's name.
        overrides: `key=value` changes to the configuration it was trained with, such as `data.root=...`,
            `evaluation.tta=true` or `model.eval_output_stride=8`.
        split: which split; None takes `evaluation.split`, else `data.val_split`.
        output: folder for the files; None takes <run directory>/evaluation/<split>.
        averaged: of a run with `optimizer.ema_decay`, take the averaged weights; False those that training goes on
            with.
        engine: what computes, as in `Predictor`.
        precision: fp32 or bf16.
        boundary: of a segmenter boundary IoU and F-score too, which takes longer.
        processes: how many share the images, each with a network of its own. A script that asks for several needs
            `if __name__ == "__main__":` around what it does.
        report: write report.html too.
        overwrite: replace an evaluation that is in the folder.
        command: the command line that asks for this, for the report.

    Returns:
        An `Evaluation`, or of a classifier a `ClassEvaluation`.

    Raises:
        ConfigError: no such checkpoint, key, data set, split or engine, other classes than it was trained on, or an
            evaluation that would be replaced.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong, or a process was killed.
    """
    show_log()
    if processes < 1:
        raise ConfigError(f"--processes: {processes}; take 1 or more.")
    path = find_checkpoint(checkpoint)
    with launched_processes(processes):
        evaluator = prepare(Job(path, tuple(overrides), split, averaged, engine, precision, boundary))
        evaluator.announce()
        folder = Path(output) if output else default_output(path, evaluator.split)
        check_results(folder, evaluator.config.data, report=report, overwrite=overwrite)
        return measure(evaluator, folder, processes=processes, report=report, command=command)


def measure(evaluator: Evaluator, output: Path, *, processes: int, report: bool, command: str | None) -> Any:
    """Count, score and write: `evaluate` for a network and images that stand ready."""
    images = count_split(evaluator, processes)
    result = evaluator.evaluation(images, output, command)
    if is_first_process():
        evaluator.write(result, images, report=report)
    return result


evaluate_classifier = evaluate
"""The same by another name, for those who look for it."""


def prepare(job: Job) -> Evaluator:
    """Load the network and list the images.

    Raises:
        ConfigError: no such key, data set or split, or other classes than it was trained on.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong.
    """
    source = load_trained(job.checkpoint, averaged=job.averaged)
    kind = EVALUATORS[source.config.task]
    config = changed_config(source.config, job.overrides, kind.changeable)
    evaluator = kind.of(job, source, config, job.split or config.evaluation.split or config.data.val_split)
    if len(evaluator.index_of) < len(evaluator.dataset):
        raise DataError(
            f"data: {config.data.name} has images of one id in split '{evaluator.split}'; each needs its own."
        )
    return evaluator


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
