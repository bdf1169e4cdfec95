import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import real_process
import torch
from ruamel.yaml import YAML
from run_files import weights

from segzoo.training.train import train


@dataclass(frozen=True)
class Ended:
    status: int | None  # as multiprocessing has it: -9 where SIGKILL ended the process
    stderr: str


@pytest.fixture(scope="session")
def same_weights() -> Callable[[Path, Path], bool]:
    def same(one: Path, other: Path) -> bool:
        """Of last.ckpt and best.ckpt."""
        for name in ("last", "best"):
            first, second = weights(one, name), weights(other, name)
            if first.keys() != second.keys() or not all(torch.equal(first[key], second[key]) for key in first):
                return False
        return True

    return same


@pytest.fixture(scope="session")
def start_process() -> Callable[..., object]:
    """Start tools/train.py with a fault of `real_process` in it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["segzoo.training.train", "segzoo.tasks.metrics", "matplotlib.figure", "real_process"]
    )
    return lambda arguments, fault, output: _start(context, arguments, fault, output)


def _start(context, arguments, fault, output):
    process = context.Process(target=real_process.main, args=([str(_) for _ in arguments], fault, output))
    process.start()
    return process


@pytest.fixture
def run_process(start_process: Callable[..., object], tmp_path: Path) -> Callable[..., Ended]:
    """As `start_process`, to its end."""

    def run(*arguments: object, fault: str | None = None, timeout: float = 90) -> Ended:
        process = start_process(arguments, fault, tmp_path)
        process.join(timeout)
        hangs = process.is_alive()
        if hangs:
            process.kill()
            process.join()
        stderr = (tmp_path / "stderr").read_text()
        assert not hangs, stderr
        return Ended(process.exitcode, stderr)

    return run


@pytest.fixture(scope="session")
def averaged_changes() -> tuple[str, ...]:
    """The tiny run with averaged weights and two batches a step: the same images in a step."""
    return ("optimizer.ema_decay=0.3", "data.batch_size=2", "trainer.accumulate=2")


@pytest.fixture(scope="session")
def averaged_run(averaged_changes, tiny_config, tmp_path_factory):
    """Trained once for those that are killed."""
    return train(tiny_config(f"run_dir={tmp_path_factory.mktemp('runs') / 'averaged'}", *averaged_changes))


@pytest.fixture(scope="session")
def tiny_yaml(tiny_config, tmp_path_factory) -> Path:
    """The tiny run as a file."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(tiny_config().model_dump(mode="json", exclude_unset=True), file)
    return path
