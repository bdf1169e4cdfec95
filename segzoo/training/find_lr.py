"""Learning-rate range test: which learning rate a configuration can bear."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning import Callback, LightningModule, Trainer

from segzoo.checkpoint.transfer import with_starting_settings
from segzoo.config.classification import AnyRunConfig
from segzoo.data.pictures import save_figure
from segzoo.errors import ConfigError, TrainingError
from segzoo.tasks.optim import learning_rate
from segzoo.training.callbacks import SeededSteps, as_task
from segzoo.training.faults import faults_explained
from segzoo.training.launch import with_processes
from segzoo.training.run import prepare
from segzoo.training.trainer import build_trainer, quiet_lightning

SMOOTHING = 3.0  # standard deviation of the smoothing of the curve, in steps
DIVERGED = 3.0  # times the lowest loss, at which the sweep ends
MIN_STEPS = 10


@dataclass(frozen=True)
class RangeTest:
    """The loss at each learning rate, in the order of the sweep.

    Args:
        rates: learning rates, rising by a constant factor.
        losses: of one batch each.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> npt.NDArray[np.float64]:
        """The losses under a Gaussian, which does not shift the curve as a running mean would."""
        steps = np.arange(len(self.losses))
        weights = np.exp(-0.5 * ((steps[:, None] - steps) / SMOOTHING) ** 2)
        smoothed: npt.NDArray[np.float64] = weights @ np.array(self.losses) / weights.sum(1)
        return smoothed

    @property
    def lowest(self) -> int:
        """Where the smoothed loss is lowest."""
        return int(self.smoothed.argmin())

    @property
    def steepest(self) -> int | None:
        """Where the smoothed loss falls fastest over the logarithm of the rate; None where it never falls."""
        slope = np.gradient(self.smoothed)[: self.lowest + 1]
        return int(slope.argmin()) if slope.min() < 0 else None

    @property
    def suggestion(self) -> tuple[float, float] | None:
        """The careful rate, at the steepest fall, and the bold one, a tenth of that at the lowest loss, in order."""
        if self.steepest is None:
            return None
        careful, bold = sorted((self.rates[self.steepest], self.rates[self.lowest] / 10))
        return careful, bold


def find_learning_rate(
    config: AnyRunConfig, *, lowest: float = 1e-5, highest: float = 1.0, steps: int = 100
) -> RangeTest:
    """Train a few steps while the learning rate rises, on one device; write nothing.

    The groups of parameters keep their proportions, such as biases that learn twice as fast.

    Args:
        config: the run; its schedule and length play no part.
        lowest: first learning rate.
        highest: last learning rate, unless the loss diverges before.
        steps: length of the sweep.

    Raises:
        ConfigError: the request cannot be met.
        TrainingError: the loss is not finite before there is anything to say.

    Source: arXiv:1506.01186v6, section 3.3; departures: the rate rises by a factor, not by a summand; what is
        suggested is the range from the steepest fall to a tenth of the lowest loss's rate. Lightning's own finder
        gives all groups one rate, takes the slope over the rate itself, which favours the smallest ones, and writes
        a checkpoint.
    """
    if not 0 < lowest < highest:
        raise ConfigError(f"--range: {lowest:g} to {highest:g}: learning rates are above 0, and the range has to rise")
    if steps < MIN_STEPS:
        raise ConfigError(f"--steps: {steps} are too few to see a curve; take {MIN_STEPS} or more")
    alone = {"max_steps": steps, "max_epochs": None, "devices": 1, "num_nodes": 1}
    config = config.model_copy(update={"trainer": config.trainer.model_copy(update=alone)})
    config, data, task = prepare(with_starting_settings(with_processes(config)), None)
    rates = tuple(np.geomspace(lowest, highest, steps).tolist())
    sweep = RateSweep(rates, learning_rate(config.optimizer, config.images_per_step))
    with quiet_lightning(), faults_explained():
        try:
            build_trainer(config, data, [SeededSteps(config.seed), sweep]).fit(task, data)
        except TrainingError:
            if len(sweep.losses) < MIN_STEPS:
                raise
        except SystemExit as error:  # what Lightning makes of Ctrl-C, with status 1
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    return RangeTest(sweep.rates[: len(sweep.losses)], tuple(sweep.losses))


class RateSweep(Callback):
    """Sets the learning rate of each step, and ends the run when the loss diverges.

    Args:
        rates: of each step.
        base: the learning rate that the optimiser was built with.
    """

    def __init__(self, rates: tuple[float, ...], base: float) -> None:
        self.rates = rates
        self.base = base
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Overrule the schedule."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] / self.base * self.rates[trainer.global_step]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss of the step, which is of the weights before it."""
        as_task(pl_module).check_losses()
        self.losses.append(float(outputs["loss"]))
        # A running mean, so that one hard batch does not end the sweep.
        mean = list(accumulate(self.losses, lambda before, loss: 0.7 * before + 0.3 * loss))
        if len(self.losses) >= MIN_STEPS and mean[-1] > DIVERGED * min(mean):
            trainer.should_stop = True


def plot(test: RangeTest, path: Path) -> None:
    """Draw the curve and the suggestion into an image file.

    Raises:
        ConfigError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second, and only this needs it

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, color="0.75", label="loss of each batch")
    axes.plot(test.rates, test.smoothed, color="tab:blue", label="smoothed")
    if test.suggestion is not None:
        careful, bold = test.suggestion
        axes.axvspan(careful, bold, color="tab:green", alpha=0.2, label=f"suggested: {careful:.2g} to {bold:.2g}")
    axes.axvline(test.rates[test.lowest], color="0.4", linestyle=":", label=f"lowest: {test.rates[test.lowest]:.2g}")
    top = float(test.smoothed[: test.lowest + 1].max())
    bottom = float(test.smoothed.min())
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    fall = (top - bottom) or 1.0  # of a loss that never fell, something to look at
    axes.set_ylim(bottom - 0.2 * fall, top + 0.4 * fall)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    try:
        save_figure(figure, path, path.suffix.removeprefix(".") or "png")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output: {path} cannot be written ({error})") from None
