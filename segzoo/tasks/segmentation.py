"""Segmentation as a LightningModule: loss, confusion matrix, optimiser."""

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypedDict

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from segzoo.checkpoint.format import describe
from segzoo.config.schema import RunConfig
from segzoo.data.items import Item
from segzoo.data.labels import LabelSpace
from segzoo.data.preprocessing import normalize
from segzoo.errors import TrainingError
from segzoo.models.build import build_segmenter
from segzoo.models.evaluation import planned_for_evaluation
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.confusion import Scores, build_confusion
from segzoo.tasks.decide import decide
from segzoo.tasks.losses import SegmentationLoss, build_loss, loss_share
from segzoo.tasks.losses.base import mean_or_zero
from segzoo.tasks.optim import batch_advice, build_optimizer, build_schedule
from segzoo.tasks.processes import join_lists, process_count, said_once, sum_over_processes

logger = logging.getLogger(__name__)


class Batch(TypedDict):
    """Images and masks of one size, and the samples' names.

    Shape: image uint8 (N, 3, H, W); mask integer (N, H, W), or (N, K, H, W) where a pixel may have several classes.
    """

    image: Tensor
    mask: Tensor
    id: list[str]


class SegmentationTask(LightningModule):
    """A segmenter that trains by a configuration and is measured by mIoU.

    `step_loss` is the loss of the newest step, over all processes; `scores` are the newest validation's.

    Args:
        config: the run.
        labels: classes, palette and ignore index of the data set.
        steps: optimiser steps in the whole run, for the schedule.
        pretrained: start from the weights that the configuration names; not where a checkpoint follows.
    """

    def __init__(self, config: RunConfig, labels: LabelSpace, steps: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.labels = labels
        self.steps = steps
        self.loss = build_loss(config.loss, labels)  # first, for it may refuse the classes
        self.segmenter = build_segmenter(
            config.model, labels.num_classes, in_channels=config.data.channels, pretrained=pretrained
        )
        self.confusion = build_confusion(labels)
        self.scores: Scores | None = None
        self.step_loss = torch.tensor(float("nan"))
        self._evaluated = self._plan_evaluation()  # now, so that what cannot be planned is refused before training
        if config.trainer.channels_last:
            self.segmenter.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K, H, W) of uint8 images (N, 3, H, W), as evaluation sees them in `eval()`."""
        segmenter = self.segmenter if self.training else self._evaluated[0]
        logits: Tensor = segmenter(self._pixels(image))
        return logits

    def _pixels(self, image: Tensor) -> Tensor:
        pixels = normalize(image, self.config.data.preprocessing)
        return pixels.contiguous(memory_format=torch.channels_last) if self.config.trainer.channels_last else pixels

    def _plan_evaluation(self) -> tuple[Segmenter]:
        """The network at `model.eval_output_stride`; in a tuple, lest its weights count as a second set."""
        return (planned_for_evaluation(self.segmenter, self.config.model, self.labels.num_classes),)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: the loss is not finite; the message names the batch's images.
        """
        if isinstance(self.loss, SegmentationLoss):
            self.loss.at_step(self.global_step)
        return self._of_all_processes(self._loss(batch), batch)

    def _of_all_processes(self, loss: Tensor, batch: Batch) -> Tensor:
        """This process's part of the loss of a step.

        DDP takes the mean of the processes' gradients. Scaled by its share of the pixels that count, a process's loss
        makes that the gradient of the loss of the whole batch, which `step_loss` has for the log.
        """
        share = loss_share(self.loss, self._target(batch), self.labels.ignore_index)
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

    def _loss(self, batch: Batch) -> Tensor:
        """The loss on the logits, plus the weighted one on the auxiliary head's where there is one."""
        target = self._target(batch)
        logits, *auxiliary = self.segmenter.training_logits(self._pixels(batch["image"]))
        loss: Tensor = self.loss(logits, target)
        for others in auxiliary:
            loss = loss + self.config.model.auxiliary_weight * self.loss(others, target)
        return loss

    def _target(self, batch: Batch) -> Tensor:
        """The masks as losses take them; those with a plane for each class stay small."""
        return batch["mask"] if self.labels.multi_label else batch["mask"].long()

    def on_validation_start(self) -> None:
        """Plan the evaluated network anew: moving to a device has replaced the buffers that it shares."""
        self._evaluated = self._plan_evaluation()

    def validation_step(self, batch: Sequence[Item], batch_index: int) -> None:
        """Count one batch's pixels, at the images' own resolution."""
        for group in stack_equal_sizes(batch):
            self.confusion.update(decide(self(group["image"]), self.labels), group["mask"])

    def on_validation_epoch_end(self) -> None:
        """Turn the counts of all processes into scores."""
        self.scores = Scores.from_matrix(self.confusion.compute())
        self.confusion.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser of the configuration, with its rate set at each step."""
        images = self.config.images_per_step
        advice = batch_advice(self.config.optimizer, images)
        if advice and self.trainer.is_global_zero:
            logger.info(advice)
        optimizer = build_optimizer(self.segmenter, self.config.optimizer, images)
        schedule = build_schedule(optimizer, self.steps, self.config.optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint describe itself."""
        checkpoint["segzoo"] = describe(self.config, self.labels, self.scores_by_name(), self.global_step)

    def scores_by_name(self) -> dict[str, float | None]:
        """The newest validation's mIoU and pixel accuracy; empty before the first."""
        if self.scores is None:
            return {}
        return {"val/miou": self.scores.miou, "val/pixel_accuracy": self.scores.pixel_accuracy}


def stack_equal_sizes(samples: Sequence[Item]) -> Iterator[Batch]:
    """Samples as batches, one for each image size, so that no image is padded to fit its neighbours."""

    def size(sample: Item) -> tuple[int, ...]:
        return tuple(sample["image"].shape)

    for _, group in groupby(sorted(samples, key=size), key=size):
        members = list(group)
        yield Batch(
            image=torch.stack([member["image"] for member in members]),
            mask=torch.stack([member["mask"] for member in members]),
            id=[member["id"] for member in members],
        )
