"""Training with an exponential moving average of the weights: `optimizer.ema_decay`."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.errors import CheckpointError
from segzoo.tasks.averaging import WeightAverage
from segzoo.training.callbacks import task_of


class AveragedWeights(Callback):
    """Keeps the average, validates with it, and saves it as the network that a checkpoint means.

    It has to stand before the callbacks that save and validate.

    Args:
        decay: share of the average that stays at each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: WeightAverage | None = None
        self._saved: dict[str, Any] | None = None
        self._step = 0
        self._swapped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the weights as they are, or go on with the average of the checkpoint."""
        self.average = WeightAverage(task_of(pl_module).network, self.decay)
        if self._saved is not None:
            self.average.load(self._saved)
            self._saved = None
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Follow the weights, where the batch ended an optimiser step."""
        if self.average is not None and trainer.global_step > self._step:
            self._step = trainer.global_step
            self.average.update(task_of(pl_module).network, self._step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the weights themselves."""
        self._swap(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the network, and the weights beside it."""
        if self.average is None:
            return
        state = checkpoint["state_dict"]
        prefix = task_of(pl_module).prefix
        other = state | {prefix + name: tensor for name, tensor in self.average.tensors.items()}
        averaged, own = (state, other) if self._swapped else (other, state)  # a signal may save amid a validation
        checkpoint["state_dict"], checkpoint[TRAINING_STATE] = averaged, own

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the two apart again; the module has the average by now.

        Raises:
            CheckpointError: it was saved by a run that does not average.
        """
        if TRAINING_STATE not in checkpoint:
            raise CheckpointError(
                f"{trainer.ckpt_path}: has no {TRAINING_STATE}, the weights beside the average, which going on with "
                "optimizer.ema_decay needs. Start a new run from it: model.weights=CHECKPOINT."
            )
        state, prefix = checkpoint["state_dict"], task_of(pl_module).prefix
        self._saved = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        pl_module.load_state_dict(checkpoint[TRAINING_STATE])

    def _swap(self, pl_module: LightningModule) -> None:
        if self.average is not None:
            self.average.swap(task_of(pl_module).network)
            self._swapped = not self._swapped
