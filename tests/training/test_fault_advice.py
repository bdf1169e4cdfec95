"""What a run says of faults that come from outside, in torch's own words for them."""

import errno

import pytest
import torch

from segzoo.errors import TrainingError
from segzoo.training.faults import faults_explained, is_lost_process


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
            "Try a smaller data.batch_size",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "Try a smaller data.batch_size"),
        (MemoryError(), "out of memory (MemoryError). Try"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "most often because memory ran out"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault."),
            "broke down, in a library",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "most often because memory ran out"),
        (
            RuntimeError(
                "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                "RuntimeError: unable to write to file </torch_7_8_9>: No space left on device (28)\n"
            ),
            "(/dev/shm), which is full",
        ),
        (
            RuntimeError("unable to write to file </torch_7_8_9>: No space left on device (28)"),
            "(/dev/shm), which is full",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "(/dev/shm), which is full"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/metrics.csv"),
            "runs/a/metrics.csv: cannot be written",
        ),
        (OSError(errno.EIO, "Input/output error", "runs/a/metrics.csv"), "runs/a/metrics.csv: cannot be written"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "runs/a/metrics.csv"),
            "runs/a/metrics.csv: No such file or directory. Was its folder moved or deleted",
        ),
        (OSError(errno.EROFS, "Read-only file system"), "the run directory: cannot be written (Read-only file system)"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer"), "another process of this run ended"),
    ],
)
def test_a_fault_is_one_line_with_what_helps(error: Exception, said: str) -> None:
    with pytest.raises(TrainingError) as caught, faults_explained():
        raise error
    (line,) = caught.value.problems
    assert said in line
    assert "\n" not in line
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        FileNotFoundError(errno.ENOENT, "no"),
        ValueError("x"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\nRuntimeError: igloo\n"),
    ],
)
def test_what_is_a_defect_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, faults_explained():
        raise error
    assert caught.value is error
    assert not is_lost_process(error)
