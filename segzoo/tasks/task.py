"""What every task does in a run, whatever it learns: a step of training, a validation, a checkpoint's description."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segzoo.backbones.spec import Network, check_scores
from segzoo.backbones.weights.own import PREFIXES
from segzoo.checkpoint.format import TRAINING_STATE, describe
from segzoo.config.classification import AnyRunConfig
from segzoo.cpu.recompute import TrainingPass
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import CheckpointError, ConfigError, DataError, TrainingError
from segzoo.tasks.losses.base import safe_divide
from segzoo.tasks.metrics import TASK_METRICS, AnyScores, MainMetric, Measured, MetricSet, main_metric
from segzoo.tasks.optim import WeightAverage, build_optimizer, build_schedule, step_period
from segzoo.tasks.processes import (
    join_lists,
    largest_of_processes,
    log_once,
    process_count,
    share_buffers,
    sum_over_processes,
)

logger = logging.getLogger(__name__)

LOOK_EVERY = 50  # steps between looks at the loss under a Trainer that logs nothing

_HELP = "Try a smaller optimizer.learning_rate, or trainer.clip_norm=1."


class _SeenLoss(NamedTuple):
    """The loss of a step, on the device still: of all processes, and this one's part with its images."""

    step: int
    loss: Tensor
    own: Tensor
    ids: list[str]


class Task(LightningModule, ABC):
    """A network that trains by a configuration; `SegmentationTask` and `ClassificationTask` say what and how.

    It optimises by hand, so that `training_step` is the whole of a step.

    `step_loss` is the loss of the newest step, over all processes. `without_scores` are this process's images in a
    validation for which the network's scores were no numbers. `own_parts` are those that no configuration describes.

    Args:
        config: the run.
        labels: classes of the data set.
        steps: optimiser steps in the whole run, for the schedule; None takes the Trainer's length.
        samples: images in the training split, for a schedule that counts passes over it.
    """

    config: AnyRunConfig
    measured: MetricSet
    """What a validation measures."""
    scores: AnyScores | None
    method = "forward"
    """The method of the network that training calls."""

    def __init__(
        self, config: AnyRunConfig, labels: LabelSpace, steps: int | None = None, *, samples: int | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        self.labels = labels
        self.steps = steps
        self.samples = samples
        self.main_metric: MainMetric = main_metric(config, labels)
        self.own_parts: dict[str, str] = {}
        self.found: Measured | None = None
        self.scores = None
        self.step_loss = torch.tensor(float("nan"))
        self.without_scores: list[str] = []
        self.average: WeightAverage | None = None
        self._saved_average: dict[str, Tensor] | None = None
        self._unread: list[_SeenLoss] = []
        self._training_pass = TrainingPass(self.method, recompute=config.trainer.recompute)

    @property
    @abstractmethod
    def network(self) -> Network:
        """What is trained and saved; in this module's state its tensors' names begin with `prefix`."""

    @property
    def prefix(self) -> str:
        """See `network`."""
        return PREFIXES[self.config.task]

    @abstractmethod
    def loss_weight(self, batch: Any) -> Tensor:
        """What the loss of a batch is divided by: its weight in a mean over several batches."""

    @abstractmethod
    def loss_of(self, batch: Any) -> Tensor:
        """The loss of images that pass the network together, a mean over what counts in them."""

    def measure(self) -> None:
        """Turn what a validation noted, in all processes, into `found` and `scores`, and forget it."""
        self.scores = TASK_METRICS[self.config.task].scores(self.measured.main.compute())
        self.found = self.measured.compute()
        self.measured.reset()

    def scores_by_name(self) -> dict[str, float | None]:
        """The newest validation's single numbers, as a checkpoint has them; empty before the first."""
        return {} if self.found is None else {f"val/{metric.name}": value for metric, value in self.found.numbers()}

    def all_scores(self) -> dict[str, float | None]:
        """The newest validation's numbers, as metrics.csv has them; empty before the first."""
        return {} if self.found is None else {f"val/{name}": value for name, value in self.found.by_name().items()}

    @property
    def main_score(self) -> float | None:
        """The newest validation's number by which checkpoints are compared; None before the first, or of nothing."""
        return self.scores_by_name().get(f"val/{self.main_metric.name}")

    # A step of training.

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """One step of the optimiser: `trainer.accumulate` parts of the batch, each forward and backward in its turn.

        Nothing here waits for the device: whether the loss is a number, `check_losses` asks later.
        """
        optimizer, schedule = self._optimizer_and_schedule()
        step, parts = self.global_step, parts_of(batch, self.config.trainer.accumulate)
        own_loss = torch.zeros((), device=self.device)
        optimizer.zero_grad()
        for number, (part, weight) in enumerate(zip(parts, self.loss_weights(parts), strict=True), 1):
            loss = self.loss_of(part) * weight
            # Processes exchange gradients once, with the last part; autocast is for the forward pass.
            sums_up = optimizer.toggle_model(sync_grad=number == len(parts))
            with sums_up, torch.autocast(self.device.type, enabled=False):
                self.manual_backward(loss)
            own_loss += loss.detach()
        optimizer.step()  # and before it, `on_before_optimizer_step`
        if schedule is not None:
            schedule.step()
        if self.average is not None:
            self.average.update(self.network, self.global_step)
        self.step_loss = sum_over_processes(own_loss) / process_count()
        self._unread.append(_SeenLoss(step, self.step_loss, own_loss, ids_of(batch)))
        self.log("train/loss", self.step_loss)
        return self.step_loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients, which float16's loss scale is out of by now."""
        if self.config.trainer.clip_norm is not None:
            self.clip_gradients(optimizer, self.config.trainer.clip_norm, "norm")

    def loss_weights(self, parts: Sequence[Any]) -> Tensor:
        """What the loss of each part counts in the step's.

        Each counts by its `loss_weight`, such as its pixels that are not ignored, in that of all parts of all
        processes, so that the sum is the loss of all images together. Losses that are no mean, such as Dice, count each
        part alike; for them, for hard pixels, and behind BatchNorm, which sees a part at a time, it is only near that.
        Times the number of processes, because they take the mean of their gradients.
        """
        own = torch.stack([self.loss_weight(part) for part in parts])
        return safe_divide(own, sum_over_processes(own.sum())) * process_count()

    def _optimizer_and_schedule(self) -> tuple[LightningOptimizer, LRScheduler | None]:
        """The only ones."""
        return cast(LightningOptimizer, self.optimizers()), cast("LRScheduler | None", self.lr_schedulers())

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Look at the losses where the log is written anyway."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # it is not declared
        if self.global_step % (every or LOOK_EVERY) == 0:
            self.check_losses()

    def check_losses(self) -> None:
        """See that the losses since the last look are numbers; it waits for the device. Every process has to ask.

        Raises:
            TrainingError: one is NaN or infinite; the message names the images of its step. The weights have learnt
                from it since, so nothing can be saved any more: this is raised again.
        """
        if not self._unread:
            return
        wrong = ~torch.stack([seen.loss for seen in self._unread]).isfinite()
        if not wrong.any():
            self._unread = []
            return
        first = self._unread[int(wrong.long().argmax())]
        value = "nan or infinite" if process_count() > 1 else str(first.loss.item())
        images = join_lists([] if first.own.isfinite() else first.ids)
        raise log_once(
            TrainingError(f"step {first.step}: the loss is {value}, for the images {', '.join(images)}. {_HELP}")
        )

    def _pixels(self, image: Tensor) -> Tensor:
        """Images as the network takes them."""
        pixels = normalize(image, self.config.data.preprocessing)
        if self.dtype != torch.float32:  # such as Trainer(precision="bf16-true") makes the weights
            pixels = pixels.to(self.dtype)
        return pixels.contiguous(memory_format=torch.channels_last) if self.config.trainer.channels_last else pixels

    def _trained(self, image: Tensor) -> Any:
        """What the network's `method` makes of images in training."""
        return self._training_pass(self.network, self._pixels(image))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser of the configuration, with its rate set at each step."""
        images = self.config.images_per_step
        advice = self._advice(images)
        if advice and self.trainer.is_global_zero:
            logger.info(advice)
        optimizer = build_optimizer(self.network, self.config.optimizer, images)
        period = step_period(self.config.optimizer, images, self.samples)
        schedule = build_schedule(optimizer, self._length(), self.config.optimizer, period)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _length(self) -> int:
        """Steps in the whole run."""
        steps = self.steps or self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError(
                "steps: the Trainer has no end, and the learning rate needs one. Give steps=, or max_steps."
            )
        return int(steps)

    def _advice(self, images_per_step: int) -> str | None:
        """What to say about the optimiser's settings, if anything."""
        return None

    def configure_callbacks(self) -> list[Callback]:
        """None. Lightning asks before it refuses what a task that optimises by hand does itself, and says less.

        Raises:
            ConfigError: which setting of the task does it.
        """
        trainer = self.trainer
        clip, parts = trainer.gradient_clip_val, trainer.accumulate_grad_batches
        problems = []
        if trainer.training and clip:
            problems.append(
                f"Trainer(gradient_clip_val={clip}): the task clips itself. Take clip_norm={clip} of from_network, or "
                f"trainer.clip_norm={clip} in a configuration."
            )
        if trainer.training and parts != 1:
            problems.append(
                f"Trainer(accumulate_grad_batches={parts}): the task accumulates itself. Take batches {parts} times as "
                f"large and accumulate={parts} of from_network, or trainer.accumulate={parts} in a configuration."
            )
        if problems:
            raise ConfigError(problems)
        return []

    # A validation, and a test, which is the same on other images.

    def on_fit_start(self) -> None:
        """Start the average with the weights as they are, or go on with the checkpoint's."""
        if self.config.optimizer.ema_decay is not None:
            self.average = WeightAverage(self.network, self.config.optimizer.ema_decay)
            if self._saved_average is not None:
                self.average.load(self._saved_average)
                self._saved_average = None

    def on_validation_start(self) -> None:
        """Measure the average where there is one, and in every process the first one's statistics, which are saved."""
        self.measured.reset()  # what a validation noted that was broken off
        self.without_scores = []
        if self.average is not None:
            self.average.swap(self.network)
        share_buffers(self.network)

    def on_validation_epoch_end(self) -> None:
        """Turn what was noted into `scores`, and log them."""
        self.measure_all()
        if self.trainer.sanity_checking:  # of a few images
            self.scores = None
            return
        stage = "test" if self.trainer.testing else "val"
        numbers = {name.replace("val", stage, 1): value for name, value in self.numbers().items()}
        self.log_dict(numbers, sync_dist=True, reduce_fx="max")  # of equal ones, which stays exact

    def measure_all(self) -> None:
        """Turn what every process noted into `scores`.

        Raises:
            TrainingError: the scores of some images were no numbers.
        """
        self._check_numbers()
        self.measure()

    def numbers(self) -> dict[str, float]:
        """`all_scores` for a log, the same in every process: without those that are n/a, but for the main one."""
        known = {name: value for name, value in self.all_scores().items() if value is not None}
        return {f"val/{self.main_metric.name}": float("nan"), **known}

    def on_validation_end(self) -> None:
        """Go on with the weights themselves."""
        if self.average is not None:
            self.average.swap(self.network)

    def test_step(self, batch: Any, batch_index: int) -> None:
        """A test measures as a validation does."""
        self.validation_step(batch, batch_index)

    def on_test_start(self) -> None:
        """A test begins as a validation does."""
        self.on_validation_start()

    def on_test_epoch_end(self) -> None:
        """Turn what was noted into `scores`, and log them below `test/`."""
        self.on_validation_epoch_end()

    def on_test_end(self) -> None:
        """A test ends as a validation does."""
        self.on_validation_end()

    def on_predict_start(self) -> None:
        """Predict by the network that validations measure."""
        self.on_validation_start()

    def on_predict_end(self) -> None:
        """Go on with the weights themselves."""
        self.on_validation_end()

    def checked_scores(self, scores: Tensor, images: Iterable[str]) -> Tensor:
        """The network's scores of images in a validation, which have to be numbers.

        Where several processes validate, all of them hear of it at the end, and zeros stand in until then.

        Raises:
            TrainingError: they are none, so that there is nothing to measure or to keep.
        """
        try:
            return check_scores(scores)
        except DataError:
            self.without_scores += images
            if process_count() == 1:
                self._check_numbers()
            return torch.zeros_like(scores)

    def _check_numbers(self) -> None:
        """End a validation in which the scores of images were no numbers, in any process."""
        if not largest_of_processes(len(self.without_scores), self.device):
            return
        images = join_lists(self.without_scores)
        raise log_once(
            TrainingError(
                f"step {self.global_step}: in the validation the network's scores are no numbers (NaN or infinite), "
                f"for {', '.join(images[:3])}. {_HELP}"
            )
        )

    # A checkpoint.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint describe itself; where weights are averaged, the average is the network it means.

        Raises:
            TrainingError: the weights have learnt from a loss that was no number.
        """
        self.check_losses()
        checkpoint["segzoo"] = describe(
            self.config, self.labels, self.scores_by_name(), self.global_step, self.own_parts
        )
        if self.average is not None:
            state = checkpoint["state_dict"]
            other = state | {self.prefix + name: tensor for name, tensor in self.average.tensors.items()}
            averaged, own = (state, other) if self.average.swapped else (other, state)  # saved amid a validation
            checkpoint["state_dict"], checkpoint[TRAINING_STATE] = averaged, own

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Where training goes on, take average and weights apart; elsewhere the average is the network.

        Raises:
            CheckpointError: it was saved by a run that does not average.
        """
        trainer = attached_trainer(self)
        if trainer is None or not trainer.training:
            self.average = None  # that of an earlier fit is not the checkpoint's
            return
        _count_steps(checkpoint)
        if self.config.optimizer.ema_decay is None:
            return
        if TRAINING_STATE not in checkpoint:
            raise CheckpointError(
                f"{trainer.ckpt_path}: has no {TRAINING_STATE}, the weights beside the average, which going on with "
                "optimizer.ema_decay needs. Start a new run from it: model.weights=CHECKPOINT."
            )
        state, prefix = checkpoint["state_dict"], self.prefix
        self._saved_average = {
            key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
        }
        checkpoint["state_dict"] = checkpoint[TRAINING_STATE]


def _count_steps(checkpoint: Mapping[str, Any]) -> None:
    """Tell Lightning the steps of a checkpoint from before tasks optimised by hand, which it counted elsewhere."""
    done = checkpoint["segzoo"]["step"]
    for loop in checkpoint["loops"].values():
        for name, progress in loop.items():
            if name.endswith("manual_optimization.optim_step_progress"):
                progress["total"].update(ready=done, completed=done)


def attached_trainer(module: LightningModule) -> Trainer | None:
    """The Trainer that a module runs under; None where it runs under none."""
    try:
        return module.trainer
    except RuntimeError:
        return None


def parts_of(batch: Any, count: int) -> list[Any]:
    """A batch, a mapping of tensors and lists with an entry for each sample, in `count` parts of equal size, in order.

    Raises:
        ConfigError: they would not be equal.
    """
    if count == 1:
        return [batch]
    size, rest = divmod(len(batch["image"]), count)
    if rest:
        raise ConfigError(
            f"trainer.accumulate: {len(batch['image'])} images do not make {count} equal parts. Is it the last batch "
            "of a pass? DataLoader(drop_last=True) leaves it out."
        )
    places = [slice(first, first + size) for first in range(0, size * count, size)]
    return [{name: values[own] for name, values in batch.items()} for own in places]


def ids_of(batch: Mapping[str, Any]) -> list[str]:
    """What messages call the images of a batch: their ids, or their numbers in it."""
    ids = batch.get("id")
    return [str(name) for name in (range(len(batch["image"])) if ids is None else ids)]
