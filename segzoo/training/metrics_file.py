"""metrics.csv: one row per step and split, whatever stopped and resumed the run; and its picture."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from segzoo.checkpoint.metrics import points, read_rows, read_table
from segzoo.data.pictures import draw_curves, save_figure
from segzoo.files import write_atomically
from segzoo.tasks.metrics import MainMetric
from segzoo.training.callbacks import TrainingClock, as_task
from segzoo.training.run_dir import RunDir

logger = logging.getLogger(__name__)


class MetricsFile(Callback):
    """Appends a row for every `log_every_steps` steps and every validation; only the first process does.

    Args:
        run_dir: where metrics.csv is.
        scores: names of what a validation measures, one column for each.
        clock: for images per second.
        log_every_steps: steps between training rows.
        samples: images in a pass over the training split.
        step: where the run starts or goes on; later rows are dropped, so that a resumed run has each once.
    """

    def __init__(
        self,
        run_dir: RunDir,
        scores: Sequence[str],
        clock: TrainingClock,
        *,
        log_every_steps: int,
        samples: int,
        step: int = 0,
    ) -> None:
        self.run_dir = run_dir
        self.clock = clock
        self.log_every_steps = log_every_steps
        self.samples = samples
        self.step = step
        self.columns = ["step", "epoch", "split", "loss", "learning_rate", "images_per_second"]
        self.columns += scores
        self.validated: set[int] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows up to where the run goes on."""
        if not trainer.is_global_zero:
            return
        found, damaged = read_table(self.run_dir.metrics)
        if damaged:
            kept = self.run_dir.metrics.with_suffix(".damaged.csv")
            self.run_dir.metrics.replace(kept)
            logger.warning("%s: %d damaged lines are left out; as it was: %s", self.run_dir.metrics, damaged, kept)
        rows = [row for row in found if int(row["step"]) <= self.step]
        self.columns += [name for name in (rows[0] if rows else ()) if name not in self.columns]  # of another version
        self.validated = {int(row["step"]) for row in rows if row["split"] == "val"}
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.run_dir.metrics, text.getvalue().encode())

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Append a training row every `log_every_steps` steps."""
        step = trainer.global_step
        if step % self.log_every_steps:
            return
        as_task(pl_module).check_losses()
        if not trainer.is_global_zero:
            return
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._append(step, "train", loss=float(as_task(pl_module).step_loss), learning_rate=rate)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append a validation row."""
        scores = as_task(pl_module).all_scores()
        if not scores or trainer.global_step in self.validated or not trainer.is_global_zero:
            return
        self.validated.add(trainer.global_step)
        values = {name.removeprefix("val/"): _blank(value) for name, value in scores.items()}
        self._append(trainer.global_step, "val", **values)

    def _append(self, step: int, split: str, **values: float | str) -> None:
        row = {
            "step": step,
            "epoch": round(step * self.clock.batch_size / self.samples, 3),
            "split": split,
            "images_per_second": round(self.clock.images_per_second, 2),
            **values,
        }
        with self.run_dir.metrics.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def write_curves(metrics: Path, main: MainMetric, target: Path) -> None:
    """Draw a run's metrics.csv, if anything stands in it yet.

    Args:
        metrics: the file.
        main: the number to show of each validation.
        target: PNG to write.
    """
    rows = read_rows(metrics)
    if not rows:
        return
    panels = (("loss", "train", "loss"), (main.name, "val", main.title), ("learning_rate", "train", "learning rate"))
    curves = []
    for column, split, title in panels:
        found = points(rows, column, split)
        curves.append((f"{split} {title}", [step for step, _ in found], [value for _, value in found]))
    save_figure(draw_curves(curves), target)
