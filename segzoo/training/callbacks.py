"""What happens beside training: time, metrics.csv, checkpoints, seeds, signals."""

import csv
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

from segzoo.errors import InterruptedTrainingError
from segzoo.tasks.segmentation import Batch, SegmentationTask
from segzoo.training.run_dir import RunDir


def task_of(module: LightningModule) -> SegmentationTask:
    """The module as what the callbacks are made for."""
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
        self.validated = {int(row["step"]) for row in rows if row["split"] == "val"}
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
        task = task_of(pl_module)
        scores = task.scores
        if scores is None or trainer.global_step in self.validated:
            return
        self.validated.add(trainer.global_step)
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
        self.validated_step: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; every process takes part, the first one writes."""
        scores = task_of(pl_module).scores
        miou = scores.miou if scores else None
        self.validated_step = trainer.global_step
        better = self.best_step is None or (miou is not None and (self.best_miou is None or miou > self.best_miou))
        if better:
            self.best_miou, self.best_step = miou, trainer.global_step
        trainer.save_checkpoint(self.run_dir.last)
        if better:
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
            raise InterruptedTrainingError(self.received, advice)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT and signum == signal.SIGINT:
            os._exit(128 + signum)  # files are replaced whole, so none is left corrupt
        self.received = signum


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
