"""When a run validates, so that a resumed one leaves none out and repeats none; and when it ends by their results."""

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from segzoo.config.classification import AnyRunConfig
from segzoo.tasks.task import Task
from segzoo.training.callbacks import TrainingClock, as_task
from segzoo.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)


class Validations(Callback):
    """Sees to the validations every `every` steps, which are Lightning's own, and to one at the end of the run.

    Before each it saves, because a validation can take long, and more memory than there is. A run that is resumed from
    such a checkpoint validates first; Lightning would go on training. This has to be the last of the callbacks, because
    the others' work on a step comes before.

    Args:
        every: steps between validations.
        steps: in the whole run.
        checkpoints: knows the newest validation.
        clock: stands still meanwhile.
    """

    def __init__(self, every: int, steps: int, checkpoints: Checkpoints, clock: TrainingClock) -> None:
        self.every = every
        self.steps = steps
        self.checkpoints = checkpoints
        self.clock = clock
        self.failed_step: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What the run before had no time for."""
        if trainer.global_step and self._is_due(trainer.global_step):
            validate_now(trainer, as_task(pl_module))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save where a validation comes next."""
        if self._is_due(trainer.global_step):
            self.checkpoints.save_step(trainer)
        if trainer.global_step == self.steps:
            trainer.should_stop = True  # Lightning validates before it stops, whatever its interval says

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remember where it was, for what is said of it."""
        self.failed_step = trainer.global_step if trainer.validating else None

    def memory_advice(self, config: AnyRunConfig) -> str | None:
        """What helps where memory ran out in a validation; None where it ran out elsewhere."""
        if self.failed_step is None:
            return None
        command = self.checkpoints.run_dir.resume_command
        return (
            f"in the validation of step {self.failed_step}, which is saved. Go on with smaller parts of the images at "
            f"a time: {command} evaluation.{config.evaluation.with_less_memory()}"
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self.clock.restart()

    def _is_due(self, step: int) -> bool:
        return (step % self.every == 0 or step == self.steps) and self.checkpoints.validated_step != step


def validate_now(trainer: Trainer, task: Task) -> None:
    """A validation before the first step of a resumed run, by the hooks and with the log of Lightning's own.

    Args:
        trainer: at the start of training.
        task: what it trains.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # it is not declared
    modes = {module: module.training for module in task.modules()}
    trainer.validating = True
    task.eval()
    for callback in callbacks:
        callback.on_validation_start(trainer, task)
    task.on_validation_start()
    with torch.no_grad():
        for number, batch in enumerate(trainer.val_dataloaders or []):
            moved = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.val_step_context():
                task.validation_step(moved, number)
            for callback in callbacks:
                callback.on_validation_batch_end(trainer, task, None, moved, number)
        for callback in callbacks:
            callback.on_validation_epoch_end(trainer, task)
        task.measure_all()
    numbers = task.numbers()
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in numbers.items()})
    for board in trainer.loggers:
        board.log_metrics(numbers, trainer.global_step - 1)  # Lightning counts from 0
    for callback in callbacks:
        callback.on_validation_end(trainer, task)
    task.on_validation_end()
    for module, mode in modes.items():
        module.training = mode
    trainer.training = True


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
            trainer.should_stop = True
            if trainer.is_global_zero:
                line = "step %d: the last %d validations were no better than %s %.4f; the run ends here"
                title = task.main_metric.title
                logger.info(line, trainer.global_step, self.without_gain, title, self.best_score)
