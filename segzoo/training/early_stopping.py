"""Ending a run that gets no better: `trainer.early_stopping`."""

import logging
from typing import Any

from lightning import Callback, LightningModule, Trainer

from segzoo.tasks.task import Task
from segzoo.training.callbacks import as_task

logger = logging.getLogger(__name__)


class EarlyStopping(Callback):
    """Ends the run after so many validations whose main metric was no higher.

    It has to stand before the callback that saves, so that a checkpoint knows its count.

    Args:
        patience: validations without a higher main metric that end the run.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_score = float("-inf")
        self.without_gain = 0
        self._validated_step: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was stopped after its last validation has nothing left to do."""
        self._end_if_due(trainer, as_task(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, once for each step."""
        task = as_task(pl_module)
        if not task.scores_by_name() or self._validated_step == trainer.global_step:
            return
        self._validated_step = trainer.global_step
        score = task.main_score
        if score is None:  # nothing was measured, as where all pixels are ignored: no sign that the run gets no better
            return
        self.without_gain = 0 if score > self.best_score else self.without_gain + 1
        self.best_score = max(score, self.best_score)
        self._end_if_due(trainer, task)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_score": self.best_score, "without_gain": self.without_gain, "step": self._validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        # Those of segmenters alone had another name for it.
        self.best_score = state_dict["best_score"] if "best_score" in state_dict else state_dict["best_miou"]
        self.without_gain = state_dict["without_gain"]
        self._validated_step = state_dict["step"]

    def _end_if_due(self, trainer: Trainer, task: Task) -> None:
        if self.without_gain >= self.patience:
            end_run(trainer)
            if trainer.is_global_zero:
                line = "step %d: the last %d validations were no better than %s %.4f; the run ends here"
                title = task.main_metric.title
                logger.info(line, trainer.global_step, self.without_gain, title, self.best_score)


def end_run(trainer: Trainer) -> None:
    """Make the step that was just done the last one.

    `trainer.should_stop` would, too, but Lightning then validates once more.
    """
    trainer.fit_loop.epoch_loop.max_steps = trainer.global_step
