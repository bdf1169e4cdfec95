"""When a run validates and saves, so that a killed one loses little and a resumed one repeats nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from segzoo.config.classification import AnyRunConfig
from segzoo.errors import TrainingError
from segzoo.tasks.processes import largest_of_processes, said_once
from segzoo.training.callbacks import TrainingClock, as_task
from segzoo.training.run_dir import RunDir


class Checkpoints(Callback):
    """Writes last.ckpt, best.ckpt when the main metric is the highest so far, and those that stay.

    Args:
        run_dir: where to.
        clock: stands still meanwhile.
        save_every_steps: steps between writings of last.ckpt; None for validations only.
        keep_every_steps: steps between checkpoints that stay; None for none.
    """

    def __init__(
        self,
        run_dir: RunDir,
        clock: TrainingClock,
        *,
        save_every_steps: int | None = None,
        keep_every_steps: int | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.clock = clock
        self.save_every_steps = save_every_steps
        self.keep_every_steps = keep_every_steps
        self.best_score: float | None = None
        self.best_step: int | None = None
        self.validated_step: int | None = None
        self._saved_step: int | None = None
        self._ids: Sequence[str] = ()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Save where it is time; before the validation, which can take long."""
        self._ids = batch["id"]
        if self.keep_every_steps and trainer.global_step % self.keep_every_steps == 0:
            self._save(trainer, self.run_dir.kept(trainer.global_step))
        if self.save_every_steps and trainer.global_step % self.save_every_steps == 0:
            self.save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; every process takes part, the first one writes."""
        score = as_task(pl_module).main_score
        self.validated_step = trainer.global_step
        # Without a score, as of masks with nothing but ignored pixels, the newest network is as good a guess as any.
        better = self.best_score is None or (score is not None and score > self.best_score)
        if better:
            self.best_score, self.best_step = score, trainer.global_step
            # First: a run that is killed between the two goes on from the older last.ckpt and comes by here again.
            self._save(trainer, self.run_dir.best)
        self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Write last.ckpt."""
        self._save(trainer, self.run_dir.last)
        self._saved_step = trainer.global_step

    def save_step(self, trainer: Trainer) -> None:
        """Write last.ckpt where it is of an earlier step: a validation can take long, and more memory than there is."""
        if self._saved_step != trainer.global_step:
            self.save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_score": self.best_score, "best_step": self.best_step, "validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        # Those of segmenters alone had another name for it.
        self.best_score = state_dict["best_score"] if "best_score" in state_dict else state_dict["best_miou"]
        self.best_step = state_dict["best_step"]
        self.validated_step = state_dict.get("validated_step")  # the first checkpoints did not say

    def _save(self, trainer: Trainer, path: Path) -> None:
        task = as_task(trainer.lightning_module)
        tensors = (*task.network.parameters(), *task.network.buffers())
        wrong = not all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())
        if largest_of_processes(int(wrong), task.device):
            raise said_once(
                TrainingError(
                    f"step {trainer.global_step}: weights are no longer finite, so none were saved. The last images "
                    f"were {', '.join(self._ids)}. Try a smaller optimizer.learning_rate, or trainer.clip_norm=1."
                )
            )
        trainer.save_checkpoint(path)
        self.clock.restart()


class Validations(Callback):
    """Validates every `every` steps and at the end; in a resumed run first, where that was left undone.

    Lightning's own schedule forgets the validation of a step whose checkpoint was saved before it. This has to be the
    last of the callbacks, because the others' work on a step comes before.

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
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False  # from its beginning, although the checkpoint may be from amid one
            trainer.validating = True
            loop.run()
            trainer.training = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Have Lightning validate behind this step, or not: it does after each `val_check_batch` batches."""
        due = self._is_due(trainer.global_step)
        if due:
            self.checkpoints.save_step(trainer)
        trainer.val_check_batch = 1 if due else self.steps + 1

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remember where it was, for what is said of it."""
        self.failed_step = trainer.global_step if trainer.validating else None

    def memory_advice(self, config: AnyRunConfig) -> str | None:
        """What helps where memory ran out in a validation; None where it ran out elsewhere."""
        if self.failed_step is None:
            return None
        run = self.checkpoints.run_dir.to_resume
        return (
            f"in the validation of step {self.failed_step}, which is saved. Go on with smaller parts of the images at "
            f"a time: segzoo train --resume {run} evaluation.{config.evaluation.with_less_memory()}"
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self.clock.restart()

    def _is_due(self, step: int) -> bool:
        return (step % self.every == 0 or step == self.steps) and self.checkpoints.validated_step != step
