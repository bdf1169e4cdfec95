"""The folder of a run: what is in it, and how it comes to be."""

import json
import logging
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from segzoo.checkpoint.format import versions
from segzoo.checkpoint.metrics import METRICS_CSV
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import dump_config
from segzoo.errors import ConfigError, first_line
from segzoo.files import locked, read_json, remove_leftovers, write_atomically
from segzoo.plugins import plugin_options, with_loaded
from segzoo.tasks.processes import is_first_process

LOGGER_FOLDERS = ("tensorboard", "csv", "wandb", "mlruns")
"""The folders of a run directory that loggers write to."""

_LOCK = b"process "  # what a .lock of ours begins with

_logger = logging.getLogger(__name__)


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
    def resume_command(self) -> str:
        """What to type to go on with it, the plug-ins that it needs among it."""
        run = self.path if self.whole is None else self.whole.path
        return f"segzoo train --resume {run}{plugin_options(with_loaded(()))}"

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
    def images(self) -> Path:
        """Which images both splits had when the run began."""
        return self.path / "images.json"

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
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint with the highest main metric: mIoU, or a classifier's top-1 or mAP."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    def kept(self, step: int) -> Path:
        """A checkpoint that stays."""
        return self.checkpoints / f"step_{step:06d}.ckpt"

    def all_kept(self) -> list[Path]:
        """The checkpoints that stay, newest first."""
        return sorted(self.checkpoints.glob("step_*.ckpt"), reverse=True)

    def stage(self, number: int) -> "RunDir":
        """The run directory of a stage, counted from 0."""
        return RunDir(self.path / f"stage{number + 1}")

    def all_checkpoints(self) -> list[Path]:
        """Those that are there: the last one, the best one, and those that stay, newest first.

        Raises:
            ConfigError: the folder may not be read.
        """
        try:
            return [path for path in (self.last, self.best, *self.all_kept()) if path.is_file()]
        except OSError as error:
            raise ConfigError(f"run_dir: cannot read {self.checkpoints} ({error.strerror}).") from None

    def started_in(self) -> Path | None:
        """The working folder that the run was started in; None where nothing says it."""
        try:
            return Path(str(read_json(self.environment)["folder"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


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
    run_dir = RunDir(path)
    _check_free(run_dir, len(config.stages or ()))
    try:
        run_dir.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None
    with locked_run(path):
        if os.path.lexists(run_dir.config):
            raise ConfigError(
                f"run_dir: {path} holds a run already. Continue it with --resume {path}, or name another."
            )
        remove_leftovers([run_dir.environment, run_dir.config])  # of one that was killed while it began
        try:
            write_atomically(run_dir.config, dump_config(config).encode())  # first: what follows is a run's
            write_json(run_dir.environment, environment())
        except OSError as error:
            run_dir.config.unlink(missing_ok=True)
            raise _cannot_write(path, error) from None
        yield run_dir


def _check_free(run_dir: RunDir, stages: int) -> None:
    """See that a folder in which no run is holds nothing either that a run would write there.

    Raises:
        ConfigError: it does, with examples; or it cannot be read.
    """
    if os.path.lexists(run_dir.config):  # said with the lock held, or it may be a run that is only starting
        return
    ours = [run_dir.environment, run_dir.metrics, run_dir.images, run_dir.summary, run_dir.curves]
    ours += [run_dir.checkpoints, run_dir.overlays, *(run_dir.stage(number).path for number in range(stages))]
    try:
        found = [file for path in ours for file in _files_at(path)]
    except OSError as error:
        raise _cannot_write(run_dir.path, error) from None
    if found:
        examples = ", ".join(str(file.relative_to(run_dir.path)) for file in found[:3])
        raise ConfigError(
            f"run_dir: {run_dir.path} is no run, and has files that one would replace: {len(found)}, such as "
            f"{examples}. Name another folder."
        )


def _files_at(path: Path) -> list[Path]:
    """The path, or what is in it where it is a folder; nothing where nothing is there."""
    if path.is_dir() and not path.is_symlink():
        return sorted(path.iterdir())
    return [path] if os.path.lexists(path) else []


@contextmanager
def resumed_run_dir(path: Path) -> Iterator[RunDir]:
    """Keep other runs out of a run's folder while it is resumed, and clear away what a killed write left.

    Raises:
        ConfigError: no run there, it is in use, or a folder in it is a link to elsewhere.
    """
    run_dir = open_run_dir(path)
    if not is_first_process():
        yield run_dir
        return
    _check_links(run_dir)
    with locked_run(path):
        for pattern in ("checkpoints/*.part", ".*.tmp", "overlays/.*.tmp"):
            for leftover in path.glob(pattern):
                leftover.unlink(missing_ok=True)
        yield run_dir


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder; a crashed run blocks nobody.

    Args:
        folder: a run directory, which exists.

    Raises:
        ConfigError: another process trains there, and the message names it; or its `.lock` was not written by segzoo.
    """
    path = folder / ".lock"
    with ExitStack() as stack:
        try:
            file = stack.enter_context(locked(path, wait=False))
            before = os.pread(file, len(_LOCK), 0)
            if before in {b"", _LOCK}:
                os.ftruncate(file, 0)
                os.pwrite(file, b"%s%d on %s" % (_LOCK, os.getpid(), socket.gethostname().encode()), 0)
        except BlockingIOError:
            raise ConfigError(
                f"run_dir: {_holder(path)} is training in {folder}. Wait for it, stop it, or name another folder."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"run_dir: cannot write to {folder} ({path.name}: {error.strerror}). Name another folder."
            ) from None
        if before not in {b"", _LOCK}:
            raise ConfigError(f"run_dir: {path} is no lock of segzoo's. Move it away, or name another folder.")
        yield


def _holder(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[:200] or "another process"


def _check_links(run_dir: RunDir) -> None:
    """See that what a run writes stays in its folder, which may come from somebody else.

    Raises:
        ConfigError: a folder in it leads elsewhere.
    """
    logs = [run_dir.path / name for name in LOGGER_FOLDERS]
    for folder in (run_dir.checkpoints, run_dir.overlays, *logs, *run_dir.path.glob("stage*")):
        if folder.is_symlink():
            raise ConfigError(
                f"--resume: {folder} is a link, through which a run would write elsewhere. Put the folder itself there."
            )


def open_run_dir(path: Path) -> RunDir:
    """The folder of a run to resume.

    Raises:
        ConfigError: no run there.
    """
    run_dir = RunDir(path)
    if not os.path.lexists(run_dir.config) and not run_dir.all_checkpoints():
        raise ConfigError(f"--resume: no run in {path} (no config.yaml). Name a run directory, such as runs/NAME/TIME.")
    return run_dir


def finished_summary(run_dir: RunDir) -> dict[str, Any] | None:
    """What a run came to; None while it has not come to its end, or where summary.json does not say so any more."""
    if not os.path.lexists(run_dir.summary):
        return None
    try:
        summary = read_json(run_dir.summary)
        if isinstance(summary, dict) and isinstance(summary.get("steps"), int):
            return summary
        reason = "it names no steps"
    except (OSError, ValueError) as error:
        reason = first_line(error)
    _logger.warning("%s: damaged (%s); written anew at the end of the run", run_dir.summary, reason)
    return None


def already_finished(run_dir: RunDir) -> ConfigError:
    """The answer to `--resume` of a run that came to its end."""
    return ConfigError(
        f"--resume: the run in {run_dir.path} is finished; nothing is left to do. For more steps, "
        f"{longer_advice(run_dir.path)}"
    )


def longer_advice(path: Path) -> str:
    """How to train longer than a run was meant to: its learning rates belong to its length."""
    return f"start a new run from its weights: model.weights={path}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is either the old or the new one, never half of it."""
    write_atomically(path, f"{json.dumps(content, indent=2)}\n".encode())


def environment() -> dict[str, Any]:
    """What the run ran on: versions, machine, command."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpus": gpus,
        "command": sys.argv,
        "folder": str(Path.cwd()),
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
