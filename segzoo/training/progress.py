"""What a person sees while it trains: a bar, or a line each minute, and a line at each validation."""

import logging
import math
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segzoo.escapes import terminal
from segzoo.progress import LINE_EVERY
from segzoo.tasks.metrics import percent
from segzoo.tasks.task import Task
from segzoo.training.callbacks import TrainingClock, as_task

logger = logging.getLogger(__name__)

LOSS_EVERY = 5  # steps between readings of the loss for the progress bar


class ProgressReport(Callback):
    """A bar with loss, main metric, images per second, memory and time left; a log line at each validation.

    Without a bar, or without a terminal to show it, a log line each minute.

    Args:
        steps: in the whole run.
        every: steps from validation to validation.
        clock: for images per second.
        show_bar: off, only the log lines remain.
    """

    def __init__(self, steps: int, every: int, clock: TrainingClock, *, show_bar: bool) -> None:
        self.steps = steps
        self.every = every
        self.clock = clock
        self.show_bar = show_bar
        self._said_at = math.inf  # no line so far
        self._bar: Progress | None = None
        self._train: TaskID | None = None
        self._validate: TaskID | None = None
        self._loss = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the bar on the first process."""
        console = terminal(stderr=True)
        if self._bar is None and self.show_bar and console.is_terminal and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show where the run starts or goes on."""
        if trainer.is_global_zero:
            done = f", of which {trainer.global_step} are done" if trainer.global_step else ""
            images = f"{self.clock.batch_size} image{'' if self.clock.batch_size == 1 else 's'}"
            self._say(f"training: {self.steps} steps of {images}{done}; validation every {self.every} steps")
        if self._bar is not None:
            self._train = self._bar.add_task("training", total=self.steps, note="", completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, or say that it goes on."""
        if self._bar is None or self._train is None:
            if trainer.is_global_zero and time.monotonic() - self._said_at >= LINE_EVERY:
                self._say(self._step_text(trainer.global_step, as_task(pl_module)))
            return
        if not self._loss or trainer.global_step % LOSS_EVERY == 0:  # reading the loss waits for the device
            self._loss = f"loss {float(as_task(pl_module).step_loss):.3f}  "
        scores = _score_text(as_task(pl_module))
        memory = memory_text(pl_module.device)
        note = f"{self._loss}{scores}{self.clock.images_per_second:.1f} images/s  {memory}"
        self._bar.update(self._train, completed=trainer.global_step, note=note)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A bar of its own for the validation."""
        if self._bar is not None:
            total = sum(int(count) for count in trainer.num_val_batches)
            self._validate = self._bar.add_task("validating", total=total, note="")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move the validation's bar."""
        if self._bar is not None and self._validate is not None:
            self._bar.advance(self._validate)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the validation's bar and say the result."""
        if self._bar is not None and self._validate is not None:
            self._bar.remove_task(self._validate)
        if trainer.is_global_zero:
            task = as_task(pl_module)
            # A run that was resumed for its validation has done no step that it knows the loss of.
            loss = "" if math.isnan(float(task.step_loss)) else f"loss {float(task.step_loss):.3f}"
            scores = _score_text(task) or f"val {task.main_metric.title} n/a  "
            self._say(f"step {trainer.global_step} of {self.steps}: {scores}{loss}".rstrip())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.close()

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        logger.info(line)

    def _step_text(self, step: int, task: Task) -> str:
        speed = self.clock.images_per_second
        left = timedelta(seconds=round((self.steps - step) * self.clock.batch_size / max(speed, 1e-9)))
        loss = f"loss {float(task.step_loss):.3f}"
        return f"step {step} of {self.steps}: {loss}  {speed:.1f} images/s, {left} left without validations"

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed
                self._bar.stop()
            self._bar = None


def _score_text(task: Task) -> str:
    return "" if task.main_score is None else f"val {task.main_metric.title} {percent(task.main_score)}  "


def memory_text(device: torch.device) -> str:
    """The most memory that was in use so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"
    if sys.platform == "win32":
        return ""
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, kibibytes elsewhere
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.1f} GiB"
