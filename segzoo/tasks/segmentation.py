"""Segmentation as a LightningModule: loss, confusion matrix, optimiser."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypedDict

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from segzoo.checkpoint.format import describe
from segzoo.config.schema import RunConfig
from segzoo.data.datamodule import Item
from segzoo.data.labels import LabelSpace
from segzoo.data.preprocessing import normalize
from segzoo.errors import TrainingError
from segzoo.models.build import build_segmenter
from segzoo.tasks.confusion import ConfusionMatrix, Scores
from segzoo.tasks.losses import LOSSES
from segzoo.tasks.optim import build_optimizer, build_schedule


class Batch(TypedDict):
    """Images and masks of one size: uint8 (N, 3, H, W), integer (N, H, W), and the samples' names."""

    image: Tensor
    mask: Tensor
    id: list[str]


class SegmentationTask(LightningModule):
    """A segmenter that trains by a configuration and is measured by mIoU.

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
        self.segmenter = build_segmenter(config.model, labels.num_classes, pretrained=pretrained)
        self.loss = LOSSES[config.loss.name](config.loss, labels)
        self.confusion = ConfusionMatrix(labels.num_classes, labels.ignore_index)
        self.scores: Scores | None = None
        if config.trainer.channels_last:
            self.segmenter.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K, H, W) of uint8 images (N, 3, H, W)."""
        pixels = normalize(image, self.config.data.preprocessing)
        if self.config.trainer.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.segmenter(pixels)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: the loss is not finite; the message names the batch's images.
        """
        loss: Tensor = self.loss(self(batch["image"]), batch["mask"].long())
        if not torch.isfinite(loss):
            raise TrainingError(
                f"step {self.global_step}: the loss is {loss.item()}, for the images "
                f"{', '.join(batch['id'])}. "
                "Try a smaller optimizer.learning_rate, or trainer.clip_norm=1."
            )
        return loss

    def validation_step(self, batch: Sequence[Item], batch_index: int) -> None:
        """Count one batch's pixels, at the images' own resolution."""
        for group in stack_equal_sizes(batch):
            self.confusion.update(self(group["image"]).argmax(1), group["mask"])

    def on_validation_epoch_end(self) -> None:
        """Turn the counts into scores and log them."""
        self.scores = Scores.from_matrix(self.confusion.compute())
        self.confusion.reset()
        named = {f"val/iou/{name}": iou for name, iou in zip(self.labels.names, self.scores.iou, strict=True)}
        named |= {"val/miou": self.scores.miou, "val/pixel_accuracy": self.scores.pixel_accuracy}
        self.log_dict({name: float("nan") if value is None else value for name, value in named.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser of the configuration, with its rate set at each step."""
        optimizer = build_optimizer(self.segmenter, self.config.optimizer)
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
