"""The processes of a run on several devices: who starts them, and that none outlives the others.

torchrun and srun may start them; then nothing here does. Else this module does, for neither Lightning's launcher nor
torchrun's agent keeps what a run promises: that the status is 1 and the reason one line where a process was lost
(Lightning's observer ends the run by SIGTERM, torchrun's agent prints a traceback); that a signal to any process stops
all of them, saved, with the shell's status; that one start serves all `stages`; that no process outlives the first.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from segzoo.config.classification import AnyRunConfig
from segzoo.errors import ConfigError, TrainingError
from segzoo.training.faults import is_lost_process

GRACE = 10.0  # seconds that processes get to end by themselves once one has failed
_PARENT = "SEGZOO_PARENT_PROCESS"  # tells a process that another one started it, and which
_STARTED = "SEGZOO_STARTED_PROCESSES"  # tells the first process that it has started the others


def with_processes(config: AnyRunConfig) -> AnyRunConfig:
    """The configuration with the devices and nodes that torchrun or SLURM started, after a check that they can be had.

    Raises:
        ConfigError: they contradict the configuration, or the machine, or the batch cannot be shared.
    """
    started = _started_outside()
    if started is not None:
        config = _adopt(config, *started)
    settings = config.trainer
    count = settings.devices * settings.num_nodes
    on_gpu = settings.accelerator == "gpu" or (settings.accelerator == "auto" and torch.cuda.is_available())
    problems = []
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        problems.append("trainer.accelerator: no CUDA GPU is visible here. Take auto or cpu.")
    elif on_gpu and settings.devices > torch.cuda.device_count():
        problems.append(f"trainer.devices: {settings.devices}, but {torch.cuda.device_count()} GPUs are visible here.")
    if settings.precision == "16" and (settings.accelerator == "cpu" or not _has_accelerator()):
        problems.append("trainer.precision: 16 is for GPUs, and a processor trains here. Take bf16 or 32.")
    if settings.num_nodes > 1 and started is None:
        problems.append("trainer.num_nodes: several machines need a launcher on each: start with torchrun or srun.")
    if config.data.batch_size % count:
        problems.append(
            f"data.batch_size: {config.data.batch_size} cannot be shared evenly among {count} processes. "
            f"Take a multiple of {count}."
        )
    if settings.sync_batchnorm and not on_gpu:
        problems.append("trainer.sync_batchnorm: torch has it for GPUs only. Take null, or model.norm=group.")
    if problems:
        raise ConfigError(problems)
    return config


def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def shares_batchnorm(config: AnyRunConfig) -> bool:
    """Whether BatchNorm sees the batches of all processes together."""
    several = config.trainer.devices * config.trainer.num_nodes > 1
    if config.trainer.sync_batchnorm is not None:
        return several and config.trainer.sync_batchnorm
    return several and config.trainer.accelerator != "cpu" and torch.cuda.is_available()


@contextmanager
def other_processes(config: AnyRunConfig) -> Iterator[None]:
    """While inside, the run's other processes on this machine run the same command, each as its own part.

    Where torchrun or SLURM started this process, they did the others too, and this does nothing; nor inside itself.

    Raises:
        TrainingError: another process failed.
    """
    if _PARENT in os.environ:
        _end_with_parent(int(os.environ[_PARENT]))
        yield
    elif config.trainer.devices == 1 or _STARTED in os.environ or _started_outside() is not None:
        yield
    else:
        yield from _start_others(config.trainer.devices)


def _start_others(count: int) -> Iterator[None]:
    if not sys.orig_argv[1:]:
        raise ConfigError("trainer.devices: several processes need a script to run: use `segzoo train`, or torchrun.")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [sys.executable, *sys.orig_argv[1:]]
    environment = {**os.environ, **place, _PARENT: str(os.getpid())}
    others = [
        subprocess.Popen(command, env={**environment, "LOCAL_RANK": str(number)})  # noqa: S603  (our own command)
        for number in range(1, count)
    ]
    own = {**place, "LOCAL_RANK": "0", _STARTED: str(count)}
    os.environ.update(own)
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    try:
        yield
        _wait(others)
    except BaseException as error:
        failed = _wait(others)
        if failed and is_lost_process(error):
            raise TrainingError(f"{failed}; its message is above.") from error
        raise
    finally:
        done.set()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for name in own:
            os.environ.pop(name, None)


def _watch(others: list[subprocess.Popen[Any]], done: threading.Event) -> None:
    """End everything soon after one process failed: this one may be waiting for it, deaf to all but the thread."""
    while not done.wait(0.5):
        if any(process.poll() for process in others):
            if not done.wait(GRACE):
                sys.stderr.write(f"error: {_failed(others)}; its message is above. All processes were ended.\n")
                _kill(others)
                os._exit(1)
            return


def _wait(others: list[subprocess.Popen[Any]]) -> str | None:
    """Give the others time to end, end them if they do not; the first that had failed by itself."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(process.poll() is None for process in others):
        time.sleep(0.05)
    failed = _failed(others)
    _kill(others)
    return failed


def _failed(others: list[subprocess.Popen[Any]]) -> str | None:
    ended = ((number, process.poll()) for number, process in enumerate(others, 1))
    return next((f"process {number} ended with status {status}" for number, status in ended if status), None)


def _kill(others: list[subprocess.Popen[Any]]) -> None:
    for process in others:
        if process.poll() is None:
            process.kill()
            process.wait()


def _end_with_parent(parent: int) -> None:
    """Leave when the process that started this one has gone, even while waiting for it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _started_outside() -> tuple[str, int, int] | None:
    """Who else started this process with others: the launcher, processes on this machine, machines."""
    if TorchElasticEnvironment.detect():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        return "torchrun", here, int(os.environ["WORLD_SIZE"]) // here
    if SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return "srun", int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None


def _adopt(config: AnyRunConfig, launcher: str, devices: int, nodes: int) -> AnyRunConfig:
    problems = [
        f"trainer.{key}: {getattr(config.trainer, key)}, but {launcher} started {found}. Leave it out."
        for key, found in (("devices", devices), ("num_nodes", nodes))
        if key in config.trainer.model_fields_set and getattr(config.trainer, key) != found
    ]
    if problems:
        raise ConfigError(problems)
    trainer = config.trainer.model_copy(update={"devices": devices, "num_nodes": nodes})
    return config.model_copy(update={"trainer": trainer})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
