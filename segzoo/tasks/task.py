"""What every task does in a run, whatever it learns: the loss of a step over all processes, optimiser, description."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from segzoo.backbones.network import Network
from segzoo.backbones.weights.own import PREFIXES
from segzoo.checkpoint.format import describe
from segzoo.config.classification import AnyRunConfig
from segzoo.data.labels import LabelSpace
from segzoo.data.preprocessing import normalize
from segzoo.errors import DataError, TrainingError
from segzoo.models.lean.rewrite import TrainingPass
from segzoo.tasks.decide import check_scores
from segzoo.tasks.losses.base import mean_or_zero
from segzoo.tasks.metrics import AnyScores, MainMetric, main_metric
from segzoo.tasks.optim import build_optimizer, build_schedule, step_period
from segzoo.tasks.processes import join_lists, largest_of_processes, process_count, said_once, sum_over_processes

logger = logging.getLogger(__name__)


class Task(LightningModule, ABC):
    """A network that trains by a configuration; `SegmentationTask` and `ClassificationTask` say what and how.

    `step_loss` is the loss of the newest step, over all processes. `without_scores` are this process's images in a
    validation for which the network's scores were no numbers.

    Args:
        config: the run.
        labels: classes of the data set.
        steps: optimiser steps in the whole run, for the schedule.
        samples: images in the training split, for a schedule that counts passes over it.
    """

    config: AnyRunConfig
    scores: AnyScores | None
    method = "forward"
    """Of the network, which training runs."""

    def __init__(self, config: AnyRunConfig, labels: LabelSpace, steps: int, *, samples: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.labels = labels
        self.steps = steps
        self.samples = samples
        self.main_metric: MainMetric = main_metric(config, labels)
        self.step_loss = torch.tensor(float("nan"))
        self.without_scores: list[str] = []
        self._training_pass = TrainingPass(self.method, lean=config.trainer.recompute)

    @property
    @abstractmethod
    def network(self) -> Network:
        """What is trained and saved; in this module's state its tensors' names begin with `prefix`."""

    @property
    def prefix(self) -> str:
        """See `network`."""
        return PREFIXES[self.config.task]

    @abstractmethod
    def share(self, batch: Any) -> Tensor:
        """What the loss of a batch is divided by: its weight in a mean over several batches."""

    @abstractmethod
    def scores_by_name(self) -> dict[str, float | None]:
        """The newest validation's numbers, as a checkpoint has them; empty before the first."""

    def all_scores(self) -> dict[str, float | None]:
        """The newest validation's numbers, as metrics.csv has them; empty before the first."""
        return self.scores_by_name()

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
                self._refuse_no_numbers()
            return torch.zeros_like(scores)

    def _refuse_no_numbers(self) -> None:
        """End a validation in which the scores of images were no numbers, in any process."""
        if not largest_of_processes(len(self.without_scores), self.device):
            return
        images = join_lists(self.without_scores)
        raise said_once(
            TrainingError(
                f"step {self.global_step}: in the validation the network's scores are no numbers (NaN or infinite), "
                f"for {', '.join(images[:3])}. Try a smaller optimizer.learning_rate, or trainer.clip_norm=1."
            )
        )

    @property
    def main_score(self) -> float | None:
        """The newest validation's number by which checkpoints are compared; None before the first, or of nothing."""
        return self.scores_by_name().get(f"val/{self.main_metric.name}")

    @abstractmethod
    def _loss(self, batch: Any) -> Tensor:
        """The loss of images that pass the network together, a mean over what counts in them."""

    def _loss_of_step(self, batch: Any) -> Tensor:
        """The loss of a step's images."""
        return self._loss(batch)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: the loss is not finite; the message names the batch's images.
        """
        return self._of_all_processes(self._loss_of_step(batch), batch)

    def _of_all_processes(self, loss: Tensor, batch: Any) -> Tensor:
        """This process's part of the loss of a step.

        DDP takes the mean of the processes' gradients. Scaled by its share of what counts, a process's loss makes that
        the gradient of the loss of the whole batch, which `step_loss` has for the log.
        """
        share = self.share(batch)
        wrong = ~loss.detach().isfinite()
        part = torch.where(wrong, 0, loss.detach() * share)
        shares, parts, failures = sum_over_processes(torch.stack([share, part, wrong.float()]))
        if failures:
            values = "nan or infinite" if process_count() > 1 else str(loss.item())
            images = join_lists(batch["id"] if wrong else [])
            raise said_once(
                TrainingError(
                    f"step {self.global_step}: the loss is {values}, for the images {', '.join(images)}. "
                    "Try a smaller optimizer.learning_rate, or trainer.clip_norm=1."
                )
            )
        if process_count() == 1:
            self.step_loss = loss.detach()
            return loss
        self.step_loss = mean_or_zero(parts, shares)
        return loss * (process_count() * mean_or_zero(share, shares))

    def _pixels(self, image: Tensor) -> Tensor:
        """Images as the network takes them."""
        pixels = normalize(image, self.config.data.preprocessing)
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
        schedule = build_schedule(optimizer, self.steps, self.config.optimizer, period)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _advice(self, images_per_step: int) -> str | None:
        """What to say about the optimiser's settings, if anything."""
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint describe itself."""
        checkpoint["segzoo"] = describe(self.config, self.labels, self.scores_by_name(), self.global_step)
