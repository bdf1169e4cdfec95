"""Errors of torch that have a cause outside this program, as one line with advice."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from segzoo.errors import TrainingError, first_line

_NO_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory")
_NO_WORKER = "dataloader worker (pid"
_BROKE_DOWN = ("segmentation fault", "aborted", "illegal instruction", "floating point exception")
_NO_SHARED_MEMORY = ("shared memory", "bus error", "unable to write to file </torch_")
_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
_NO_PEER = ("connection closed by peer", "connection reset by peer", "gloo", "nccl")


@contextmanager
def faults_explained(in_validation: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Raise `TrainingError` for lost workers, memory and processes; anything else passes.

    Args:
        in_validation: what helps where memory ran out, if that was in a validation; None elsewhere.

    Raises:
        TrainingError: what happened and what helps.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        advice = _advice(error, in_validation())
        if advice is None:
            raise
        raise TrainingError(advice) from error


def is_lost_process(error: BaseException) -> bool:
    """Whether an error is torch's word for a connection that another process of the run no longer answers."""
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, distributed.DistError) or any(sign in first_line(error).lower() for sign in _NO_PEER)


def _said(error: Exception) -> str:
    """What an error says; of one that came up in a data process, without the traceback that torch puts in front."""
    return str(error).rstrip().splitlines()[-1] if str(error).startswith("Caught ") else str(error)


def _advice(error: Exception, in_validation: str | None) -> str | None:
    text = _said(error).lower()
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in text for sign in _NO_MEMORY):
        if in_validation:
            return f"out of memory {in_validation} ({first_line(error)})"
        return (
            f"out of memory ({first_line(error)}). Try a smaller data.batch_size or data.crop_size (of a classifier "
            "data.image_size), model.backbone.gradient_checkpointing=true, trainer.precision=bf16, or more "
            "trainer.devices."
        )
    if any(sign in text for sign in _NO_SHARED_MEMORY):
        return (
            f"{first_line(error)} Batches go from the processes that read data to this one through shared memory "
            "(/dev/shm), which is full. Make it larger, or try a smaller data.num_workers, or 0."
        )
    if _NO_WORKER in text:
        why = "was ended from outside, most often because memory ran out"
        if any(sign in text for sign in _BROKE_DOWN):
            why = "broke down, in a library that reads files or in a data set of one's own"
        return (
            f"{first_line(error)} A process that reads data {why}. Try a smaller data.num_workers, or 0, which reads "
            "in the training process."
        )
    if isinstance(error, OSError) and error.errno in _NO_WRITING:
        return f"{error.filename or 'the run directory'}: cannot be written ({error.strerror})"
    if isinstance(error, OSError) and error.errno in _GONE and error.filename:
        return f"{error.filename}: {error.strerror}. Was its folder moved or deleted while the run went on?"
    if is_lost_process(error):
        return f"another process of this run ended, so this one cannot go on ({first_line(error)})"
    return None
