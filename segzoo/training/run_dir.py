"""The folder of a run: what is in it, and how it comes to be."""

import json
import os
import platform
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from segzoo.checkpoint.format import versions
from segzoo.config.load import dump_config
from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError


class RunDir:
    """Paths of a run directory.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.csv"
        self.summary = path / "summary.json"
        self.best = path / "checkpoints" / "best.ckpt"
        self.last = path / "checkpoints" / "last.ckpt"


def create_run_dir(config: RunConfig, name: str) -> RunDir:
    """Make the folder of a new run and write its configuration and environment.

    Args:
        config: the resolved run.
        name: the configuration's name, for the default folder runs/<name>/<time>.

    Raises:
        ConfigError: the folder holds a run already, or cannot be made.
    """
    path = Path(config.run_dir) if config.run_dir else _free_path(Path("runs", name))
    run_dir = RunDir(path)
    if run_dir.config.exists():
        raise ConfigError(f"run_dir: {path} holds a run already. Continue it with --resume {path}, or name another.")
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        run_dir.config.write_text(dump_config(config), encoding="utf-8")
        write_json(run_dir.environment, environment())
    except OSError as error:
        raise ConfigError(f"run_dir: cannot write to {path} ({error.strerror}). Name another folder.") from None
    return run_dir


def open_run_dir(path: Path) -> RunDir:
    """The folder of a run to resume.

    Raises:
        ConfigError: no run there.
    """
    run_dir = RunDir(path)
    if not run_dir.config.is_file():
        raise ConfigError(f"--resume: no run in {path} (no config.yaml). Name a run directory, such as runs/NAME/TIME.")
    return run_dir


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the file is either the old or the new one, never half of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


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
    """runs/<name>/<time>, with a suffix where two runs start in the same second."""
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = parent / stamp, 1
    while path.exists():
        number += 1
        path = parent / f"{stamp}_{number}"
    return path
