"""Training with an exponential moving average of the weights: `optimizer.ema_decay`."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.errors import CheckpointError
from segzoo.training.callbacks import as_task


class WeightAverage:
    """A shadow of a network that follows its weights slowly, and predicts better than they do.

    All floating-point tensors of the state are averaged: parameters, and the running mean and variance of norms
    alike, so that the statistics are those of the averaged weights' recent past. Counters are copied.

    Args:
        network: starts the average.
        decay: share of the average that stays at each step; less in the first ones, see `decay_at`.

    Source: Polyak averaging as in arXiv:1610.02357v3, section 4.2; TensorFlow's ExponentialMovingAverage with
        num_updates, which its Inception training applies to the moving statistics too.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def decay_at(self, step: int) -> float:
        """The decay of an update: small at first, or the random start would stay in the average for long.

        Args:
            step: steps done, this one among them.

        >>> average = WeightAverage(nn.Identity(), 0.999)
        >>> average.decay_at(1), average.decay_at(10_000)
        (0.18181818181818182, 0.999)
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follow the network's weights.

        Args:
            network: after an optimiser step.
            step: steps done, this one among them.
        """
        weight = 1 - self.decay_at(step)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, weight)
            else:
                self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the average with the network's weights, in place; a second time puts them back."""
        for name, tensor in network.state_dict().items():
            own = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(own)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a saved average.

        Args:
            tensors: by the names of the network's state.
        """
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


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
        self.average = WeightAverage(as_task(pl_module).network, self.decay)
        if self._saved is not None:
            self.average.load(self._saved)
            self._saved = None
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Follow the weights, where the batch ended an optimiser step."""
        if self.average is not None and trainer.global_step > self._step:
            self._step = trainer.global_step
            self.average.update(as_task(pl_module).network, self._step)

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
        prefix = as_task(pl_module).prefix
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
        state, prefix = checkpoint["state_dict"], as_task(pl_module).prefix
        self._saved = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        pl_module.load_state_dict(checkpoint[TRAINING_STATE])

    def _swap(self, pl_module: LightningModule) -> None:
        if self.average is not None:
            self.average.swap(as_task(pl_module).network)
            self._swapped = not self._swapped
