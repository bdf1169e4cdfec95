"""The folder of a run: what is in it, and how it comes to be."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from segzoo.checkpoint.format import versions
from segzoo.checkpoint.metrics import METRICS_CSV
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import dump_config
from segzoo.data.whole_file import remove_leftovers, write_whole
from segzoo.errors import ConfigError
from segzoo.tasks.processes import is_first_process
from segzoo.training.lock import locked_run


class RunDir:
    """Paths of a run directory.

    Args:
        path: the folder.

    `whole` is the run that this one is a stage of; None for a run of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole: RunDir | None = None

    @property
    def to_resume(self) -> Path:
        """The folder that `--resume` should get."""
        return self.path if self.whole is None else self.whole.path

    @property
    def config(self) -> Path:
        """The resolved configuration; a folder with it holds a run."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, machine, command."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One row per step and split."""
        return self.path / METRICS_CSV

    @property
    def summary(self) -> Path:
        """What a finished run came to."""
        return self.path / "summary.json"

    @property
    def curves(self) -> Path:
        """metrics.csv as a picture."""
        return self.path / "curves.png"

    @property
    def overlays(self) -> Path:
        """Drawn validation images."""
        return self.path / "overlays"

    @property
    def best(self) -> Path:
        """The checkpoint with the highest main metric: mIoU, or a classifier's top-1 or mAP."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    def kept(self, step: int) -> Path:
        """A checkpoint that stays."""
        return self.path / "checkpoints" / f"step_{step:06d}.ckpt"

    def all_kept(self) -> list[Path]:
        """The checkpoints that stay, newest first."""
        return sorted((self.path / "checkpoints").glob("step_*.ckpt"), reverse=True)


@contextmanager
def new_run_dir(config: AnyRunConfig, name: str) -> Iterator[RunDir]:
    """Make the folder of a new run, write its configuration and environment, and keep other runs out of it.

    Only the first process does so; the others learn of its folder later, from `callbacks.OneRun`.

    Args:
        config: the resolved run.
        name: the configuration's name, for the default folder runs/<name>/<time>.

    Raises:
        ConfigError: the folder holds a run already, is in use, or cannot be made.
    """
    if not is_first_process():
        yield RunDir(Path(config.run_dir or Path("runs", name)))
        return
    path = Path(config.run_dir) if config.run_dir else _free_path(Path("runs", name))
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None
    with locked_run(path):
        run_dir = RunDir(path)
        if run_dir.config.exists():
            raise ConfigError(
                f"run_dir: {path} holds a run already. Continue it with --resume {path}, or name another."
            )
        remove_leftovers([run_dir.environment, run_dir.config])  # of one that was killed while it began
        try:
            write_json(run_dir.environment, environment())
            write_whole(run_dir.config, dump_config(config).encode())
        except OSError as error:
            raise _cannot_write(path, error) from None
        yield run_dir


@contextmanager
def resumed_run_dir(path: Path) -> Iterator[RunDir]:
    """Keep other runs out of a run's folder while it is resumed, and clear away what a killed write left.

    Raises:
        ConfigError: no run there, or it is in use.
    """
    run_dir = open_run_dir(path)
    if not is_first_process():
        yield run_dir
        return
    with locked_run(path):
        for pattern in ("checkpoints/*.part", ".*.tmp", "overlays/.*.tmp"):
            for leftover in path.glob(pattern):
                leftover.unlink(missing_ok=True)
        yield run_dir


def open_run_dir(path: Path) -> RunDir:
    """The folder of a run to resume.

    Raises:
        ConfigError: no run there.
    """
    run_dir = RunDir(path)
    if not run_dir.config.is_file():
        raise ConfigError(f"--resume: no run in {path} (no config.yaml). Name a run directory, such as runs/NAME/TIME.")
    return run_dir


def finished_step(run_dir: RunDir) -> int | None:
    """The step at which a run came to its end, which can be an early one; None while it has not."""
    if not run_dir.summary.exists():
        return None
    return int(json.loads(run_dir.summary.read_text(encoding="utf-8"))["steps"])


def already_finished(run_dir: RunDir) -> ConfigError:
    """The answer to `--resume` of a run that came to its end."""
    return ConfigError(f"--resume: the run in {run_dir.path} is finished; nothing is left to do.")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is either the old or the new one, never half of it."""
    write_whole(path, f"{json.dumps(content, indent=2)}\n".encode())


def environment() -> dict[str, Any]:
    """What the run ran on: versions, machine, command."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpus": gpus,
        "command": sys.argv,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _free_path(parent: Path) -> Path:
    """A new folder runs/<name>/<time>, with a suffix where two runs start in the same second."""
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = parent / stamp, 1
    while not _made(path):
        number += 1
        path = parent / f"{stamp}_{number}"
    return path


def _made(path: Path) -> bool:
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_write(path, error) from None
    return True


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"run_dir: cannot write to {path} ({error.strerror}). Name another folder.")
