"""What happens beside training: time, metrics.csv, checkpoints, progress."""

import csv
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segzoo.errors import InterruptedTraining
from segzoo.tasks.confusion import Scores
from segzoo.tasks.segmentation import Batch, SegmentationTask
from segzoo.training.run_dir import RunDir

logger = logging.getLogger(__name__)


def _task(module: LightningModule) -> SegmentationTask:
    if not isinstance(module, SegmentationTask):
        raise TypeError(f"made for SegmentationTask, not {type(module).__name__}")
    return module


class TrainingClock(Callback):
    """Seconds spent training, without validation and saving.

    Args:
        batch_size: images in a step.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.seconds = 0.0
        self.steps = 0
        self._since: float | None = None

    @property
    def images_per_second(self) -> float:
        """Images trained on per second so far."""
        return self.steps * self.batch_size / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Count the step and the time since the one before."""
        now = time.perf_counter()
        self.seconds += now - (self._since or now)
        self._since = now
        self.steps += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on from here."""
        self._since = time.perf_counter()


class MetricsFile(Callback):
    """metrics.csv: one row per step and split.

    Args:
        path: the file; rows after `step` are dropped, so that a resumed run has each once.
        class_names: one IoU column for each.
        clock: for images per second.
        log_every_steps: steps between training rows.
        samples: images in a pass over the training split.
        step: where the run starts or goes on.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        clock: TrainingClock,
        *,
        log_every_steps: int,
        samples: int,
        step: int = 0,
    ) -> None:
        self.path = path
        self.clock = clock
        self.log_every_steps = log_every_steps
        self.samples = samples
        self.columns = ["step", "epoch", "split", "loss", "learning_rate", "images_per_second"]
        self.columns += ["miou", "pixel_accuracy", *(f"iou/{name}" for name in class_names)]
        rows = [row for row in self._read() if int(row["step"]) <= step]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Append a training row every `log_every_steps` steps."""
        step = trainer.global_step
        if step % self.log_every_steps:
            return
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._append(step, "train", loss=float(outputs["loss"]), learning_rate=rate)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append a validation row."""
        task = _task(pl_module)
        scores = task.scores
        if scores is None:
            return
        classes = {f"iou/{name}": _blank(value) for name, value in zip(task.labels.names, scores.iou, strict=True)}
        accuracy = _blank(scores.pixel_accuracy)
        self._append(trainer.global_step, "val", miou=_blank(scores.miou), pixel_accuracy=accuracy, **classes)

    def _append(self, step: int, split: str, **values: float | str) -> None:
        row = {
            "step": step,
            "epoch": round(step * self.clock.batch_size / self.samples, 3),
            "split": split,
            "images_per_second": round(self.clock.images_per_second, 2),
            **values,
        }
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class Checkpoints(Callback):
    """Save last.ckpt after each validation, and best.ckpt when mIoU is the highest so far.

    Args:
        run_dir: where to.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.best_miou: float | None = None
        self.best_step: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; every process takes part, the first one writes."""
        scores = _task(pl_module).scores
        better = scores is not None and scores.miou is not None and scores.miou > (self.best_miou or -1.0)
        if better and scores is not None:
            self.best_miou, self.best_step = scores.miou, trainer.global_step
        trainer.save_checkpoint(self.run_dir.last)
        if better or self.best_step is None:
            trainer.save_checkpoint(self.run_dir.best)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_miou": self.best_miou, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best_miou, self.best_step = state_dict["best_miou"], state_dict["best_step"]


class SeededSteps(Callback):
    """Seed torch's generator before each step by (seed, step, process).

    Dropout then draws the same numbers in a resumed run; restoring generator states was not exact.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Seed."""
        torch.manual_seed(hash((self.seed, trainer.global_step, trainer.global_rank)) % 2**63)


class StopOnSignal(Callback):
    """On SIGTERM or SIGINT: finish the step, save last.ckpt, stop. A second SIGINT leaves at once.

    Lightning's own handling ends with status 0 or 1 and saves nothing.

    Args:
        run_dir: where to save.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.received: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over; Lightning gives them back to the handlers before it when training ends."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, self._note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save and stop, if a signal came."""
        if self.received is not None:
            trainer.save_checkpoint(self.run_dir.last)
            advice = f"stopped at step {trainer.global_step}, which is saved. Go on with --resume {self.run_dir.path}"
            raise InterruptedTraining(self.received, advice)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT and signum == signal.SIGINT:
            os._exit(128 + signum)  # files are replaced whole, so none is left corrupt
        self.received = signum


class ProgressReport(Callback):
    """A bar with loss, mIoU, images per second and time left; a log line at each validation.

    Args:
        steps: in the whole run.
        clock: for images per second.
        show_bar: off, only the log lines remain.
    """

    def __init__(self, steps: int, clock: TrainingClock, *, show_bar: bool) -> None:
        self.steps = steps
        self.clock = clock
        self.show_bar = show_bar
        self._bar: Progress | None = None
        self._train: TaskID | None = None
        self._validate: TaskID | None = None
        self._loss = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the bar on the first process."""
        if self._bar is None and self.show_bar and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show where the run starts or goes on."""
        if self._bar is not None:
            self._train = self._bar.add_task("training", total=self.steps, note="", completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is None or self._train is None:
            return
        if trainer.global_step % 5 == 1:  # reading the loss waits for the device
            self._loss = f"loss {float(outputs['loss']):.3f}"
        note = f"{self._loss}  {_miou_text(_task(pl_module).scores)}{self.clock.images_per_second:.1f} images/s"
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
            scores = _miou_text(_task(pl_module).scores)
            logger.info("step %d of %d: %s%s", trainer.global_step, self.steps, scores, self._loss)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _miou_text(scores: Scores | None) -> str:
    return f"val mIoU {scores.miou:.4f}  " if scores is not None and scores.miou is not None else ""


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
