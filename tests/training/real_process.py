"""Runs tools/train.py in a process of its own, with a fault in it; imported there by multiprocessing's forkserver.

Forked from a server that has torch imported, a process starts in no time, and ends as any other does.
"""

import json
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from segzoo.tasks.segmentation import SegmentationTask

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train.py"


def main(arguments: list[str], fault: str | None, output: Path) -> None:
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    for part in (fault or "").split():
        name, *values = part.split(":")
        globals()[name](*values)
    sys.argv = [str(TOOL), *arguments]
    runpy.run_path(str(TOOL), run_name="__main__")


def before(owner: object, name: str, act: Callable[[object], None]) -> None:
    original = getattr(owner, name)

    def changed(self: object, *rest: object, **named: object) -> object:
        act(self)
        return original(self, *rest, **named)

    setattr(owner, name, changed)


def at_step(step: str, act: Callable[[], object], where: str = "training_step") -> None:
    before(SegmentationTask, where, lambda task: act() if task.global_step == int(step) else None)


def end(signum: str) -> None:
    os.kill(os.getpid(), getattr(signal, signum))


def in_step(step: str, signum: str = "SIGKILL") -> None:
    at_step(step, lambda: end(signum))


def to_all(step: str, signum: str = "SIGTERM", where: str = "training_step") -> None:
    """A signal to the run and its data processes, as `timeout`, batch systems and closed terminals send it."""
    os.setpgrp()
    group = os.getpgrp()
    assert group == os.getpid() > 1, "nobody else's"
    code = f"import os, signal; os.killpg({group}, signal.{signum})"
    # From another process, and outside the group: torch's data processes take the one that trains at its word.
    at_step(step, lambda: subprocess.run([sys.executable, "-c", code], check=True, start_new_session=True), where)


def closed_terminal(step: str) -> None:
    """The run's terminal, with a progress bar in it, goes away in a step."""
    ours, theirs = os.openpty()
    os.dup2(theirs, 2)
    os.close(theirs)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)  # as Python opens it on a terminal, which cannot seek
    os.setsid()

    def close() -> None:
        os.close(ours)
        end("SIGHUP")

    at_step(step, close)


def in_validation(step: str, signum: str = "SIGKILL") -> None:
    at_step(step, lambda: end(signum), "validation_step")


def in_optimizer(step: str, signum: str = "SIGKILL") -> None:
    at_step(step, lambda: end(signum), "on_before_optimizer_step")


def after_validation(step: str, signum: str = "SIGKILL") -> None:
    at_step(step, lambda: end(signum), "on_validation_epoch_end")


def in_write(number: str, name: str = "", signum: str = "SIGKILL") -> None:
    """In the middle of the number-th checkpoint's writing: all is in the .part file, nothing is renamed.

    With a name, only files that begin with it count: whether best.ckpt is written again depends on the mIoU.
    """
    calls = []

    def act(path: Path) -> None:
        if path.name.startswith(name) and path.name.endswith(".ckpt.part"):
            calls.append(path)
            if len(calls) == int(number):
                end(signum)

    before(Path, "replace", act)


def at_worker_start(signum: str = "SIGKILL") -> None:
    from multiprocessing.process import BaseProcess

    original = BaseProcess.start

    def start(self: BaseProcess) -> None:
        original(self)
        end(signum)

    BaseProcess.start = start


def at_start(signum: str) -> None:
    from segzoo.training import run

    original = run.build_trainer

    def build(*arguments: object) -> object:
        end(signum)
        return original(*arguments)

    run.build_trainer = build


def at_hand_over(number: str, signum: str = "SIGKILL") -> None:
    """When the number-th finished stage is about to give the whole run its checkpoints."""

    def act(source: Path) -> None:
        if source.parent.parent.name == f"stage{number}":
            end(signum)

    before(os, "link", act)


def in_stage(number: str, step: str, signum: str = "SIGKILL") -> None:
    folder = f"stage{number}"

    def act(task: SegmentationTask) -> None:
        if task.global_step == int(step) and Path(str(task.config.run_dir)).name == folder:
            end(signum)

    before(SegmentationTask, "training_step", act)


def twice(step: str) -> None:
    """Two SIGINT in a step that would take a minute."""

    def act() -> None:
        end("SIGINT")
        end("SIGINT")
        time.sleep(60)

    at_step(step, act)


def full_disk(step: str) -> None:
    """From here on no file can grow beyond a few bytes: a real refusal by the system, as of a full disk."""
    at_step(step, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY)))


def no_permission(step: str) -> None:
    """From here on the folder of checkpoints is read-only: a real refusal by the system, for root too."""

    def act() -> None:
        from ctypes import CDLL, c_uint32, get_errno

        version_3, bypass = 0x20080522, 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        header, sets = (c_uint32 * 2)(version_3, 0), (c_uint32 * 6)()
        libc = CDLL(None, use_errno=True)
        if libc.capget(header, sets):
            raise OSError(get_errno(), "capget")
        sets[0] &= ~bypass
        if libc.capset(header, sets):
            raise OSError(get_errno(), "capset")
        folder = next(Path(word.partition("=")[2]) for word in sys.argv if word.startswith("run_dir="))
        (folder / "checkpoints").chmod(0o555)

    at_step(step, act)


def no_temporary_folder(place: str) -> None:
    """TMPDIR is a file, and so are the places that Python tries after it."""
    import tempfile

    os.environ["TMPDIR"] = place
    tempfile.tempdir = None
    tempfile._candidate_tempdir_list = lambda: [place]


def not_installed(name: str) -> None:
    sys.modules[name] = None


def no_program(name: str) -> None:
    os.environ["CXX"] = name


def lost_worker(step: str) -> None:
    at_step(step, lambda: multiprocessing.active_children()[0].kill())


def no_memory(step: str) -> None:
    at_step(step, lambda: torch.empty(1 << 50))


def wait(step: str, ready: str) -> None:
    def act() -> None:
        Path(ready).touch()
        time.sleep(60)

    at_step(step, act)


def nan_loss(step: str) -> None:
    """The second process's loss, or the only one's, is not a number."""

    def act(task: SegmentationTask) -> None:
        if task.global_step == int(step):
            task.loss.register_forward_hook(lambda loss, given, value: value * float("nan"))

    before(SegmentationTask, "training_step", act)


def nan_scores(step: str) -> None:
    """The network's scores in a validation are not numbers."""
    original = SegmentationTask.forward

    def forward(self: SegmentationTask, image: torch.Tensor) -> torch.Tensor:
        value = original(self, image)
        return value * float("nan") if self.global_step == int(step) and not self.training else value

    SegmentationTask.forward = forward


def record(path: str) -> None:
    """Which samples each step sees. Name it last: it then notes a step before another fault ends it."""
    original = SegmentationTask.training_step

    def step(self: SegmentationTask, batch: dict[str, object], index: int) -> torch.Tensor:
        with Path(path).open("a") as file:
            file.write(json.dumps([self.global_step, batch["id"]]) + "\n")
        return original(self, batch, index)

    SegmentationTask.training_step = step
