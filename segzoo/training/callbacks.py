"""Callbacks that do one thing each: measure time, seed the steps, agree on a folder, draw validations."""

import time
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from segzoo.data.pictures import compared_masks
from segzoo.data.reading.images import write_image
from segzoo.data.sample import SegmentationDataset, named_in_errors
from segzoo.errors import TrainingError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.tasks.task import Task
from segzoo.training.run_dir import RunDir


def as_task(module: LightningModule) -> Task:
    """The module as what the callbacks are made for."""
    if not isinstance(module, Task):
        raise TypeError(f"made for a Task, not {type(module).__name__}")
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
    def is_started(self) -> bool:
        """Whether training began, and everything of a checkpoint is restored."""
        return self._since is not None

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

    def restart(self) -> None:
        """Training goes on from here."""
        self._since = time.perf_counter()


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


class OneRun(Callback):
    """All processes work on the first one's folder, from the same step.

    Args:
        run_dir: what this process takes for the run directory.
        start_step: where it goes on.
    """

    def __init__(self, run_dir: RunDir, start_step: int) -> None:
        self.run_dir = run_dir
        self.start_step = start_step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree."""
        self.run_dir.path, step = trainer.strategy.broadcast((self.run_dir.path, self.start_step))
        if step != self.start_step:
            raise TrainingError(
                f"process {trainer.global_rank} found a checkpoint of step {self.start_step} in {self.run_dir.path}, "
                f"the first one of step {step}. Does every machine see the same folder?"
            )


class Overlays(Callback):
    """Writes overlays/step_000500.png: image, truth and prediction of some validation images, one row each.

    It has to stand behind `StopOnSignal`. Only the first process draws.

    Args:
        run_dir: where to.
        dataset: the validation split; images are taken from all over it.
        count: how many.
    """

    def __init__(self, run_dir: RunDir, dataset: SegmentationDataset, count: int) -> None:
        self.run_dir = run_dir
        self.dataset = dataset
        chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
        self.indices = [int(index) for index in chosen.round()]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, while the network is as it was measured."""
        if not trainer.is_global_zero or not self.indices:
            return
        task = as_task(pl_module)
        if not isinstance(task, SegmentationTask):
            return
        rows = []
        for index in self.indices:
            with named_in_errors(self.dataset.ids[index]):
                sample = self.dataset[index]
            pixels = torch.from_numpy(np.array(sample.image)).movedim(-1, 0).unsqueeze(0)
            with trainer.precision_plugin.forward_context():
                prediction = task.predicted(pixels.to(task.device), [sample.id])[0]
            rows.append((np.asarray(sample.image), sample.mask, prediction.cpu().numpy()))
        if task.without_scores:  # there is nothing to show, and the task ends the run
            return
        self.run_dir.overlays.mkdir(exist_ok=True)
        picture = compared_masks(rows, task.labels)
        write_image(self.run_dir.overlays / f"step_{trainer.global_step:06d}.png", picture)
