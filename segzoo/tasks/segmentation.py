"""Segmentation as a LightningModule: loss, confusion matrix, scores."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypedDict

import torch
from torch import Tensor

from segzoo.config.schema import RunConfig
from segzoo.data.items import Item
from segzoo.data.labels import LabelSpace
from segzoo.models.build import build_segmenter
from segzoo.models.evaluation import planned_for_evaluation
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.confusion import ConfusionMatrix, Scores
from segzoo.tasks.losses import SegmentationLoss, build_loss, loss_share
from segzoo.tasks.optim import batch_advice
from segzoo.tasks.task import Task


class Batch(TypedDict):
    """Images and masks of one size, and the samples' names.

    Shape: image (N, C, H, W), uint8 or float32 from 0 to 1; mask integer (N, H, W), or (N, K, H, W) where a pixel may
        have several classes.
    """

    image: Tensor
    mask: Tensor
    id: list[str]


class SegmentationTask(Task):
    """A segmenter that trains by a configuration and is measured by mIoU.

    `step_loss` is the loss of the newest step, over all processes; `scores` are the newest validation's.

    Args:
        config: the run.
        labels: classes, palette and ignore index of the data set.
        steps: optimiser steps in the whole run, for the schedule.
        pretrained: start from the weights that the configuration names; not where a checkpoint follows.
        samples: images in the training split, for a schedule that counts passes over it.
    """

    config: RunConfig
    method = "training_logits"

    def __init__(
        self,
        config: RunConfig,
        labels: LabelSpace,
        steps: int,
        *,
        pretrained: bool = True,
        samples: int | None = None,
    ) -> None:
        super().__init__(config, labels, steps, samples=samples)
        self.loss = build_loss(config.loss, labels)  # first, for it may refuse the classes
        self.segmenter = build_segmenter(
            config.model, labels.num_classes, in_channels=config.data.channels, pretrained=pretrained
        )
        self.confusion = ConfusionMatrix(labels)
        self.scores: Scores | None = None
        self._evaluated = self._plan_evaluation()  # now, so that what cannot be planned is refused before training
        if config.trainer.channels_last:
            self.segmenter.to(memory_format=torch.channels_last)

    @property
    def network(self) -> Segmenter:
        """The segmenter."""
        return self.segmenter

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K, H, W) of a batch's images (N, C, H, W), as evaluation sees them in `eval()`."""
        segmenter = self.segmenter if self.training else self._evaluated[0]
        logits: Tensor = segmenter(self._pixels(image))
        return logits

    def _plan_evaluation(self) -> tuple[Segmenter]:
        """The network at `model.eval_output_stride`; in a tuple, lest its weights count as a second set."""
        return (planned_for_evaluation(self.segmenter, self.config.model, self.labels.num_classes),)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """As every task's, after the loss has heard the step."""
        if isinstance(self.loss, SegmentationLoss):
            self.loss.at_step(self.global_step)
        return super().training_step(batch, batch_index)

    def loss_weight(self, batch: Batch) -> Tensor:
        """The pixels that count, or the sum of their weights; 1 for a loss that is no mean over pixels."""
        return loss_share(self.loss, self._target(batch), self.labels.ignore_index)

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss on the logits, plus the weighted one on the auxiliary head's where there is one."""
        target = self._target(batch)
        logits, *auxiliary = self._trained(batch["image"])
        loss: Tensor = self.loss(logits, target)
        for others in auxiliary:
            loss = loss + self.config.model.auxiliary_weight * self.loss(others, target)
        return loss

    def _target(self, batch: Batch) -> Tensor:
        """The masks as losses take them."""
        return self.labels.coding.mask_target(batch["mask"])

    def on_validation_start(self) -> None:
        """Plan the evaluated network anew: moving to a device has replaced the buffers that it shares."""
        super().on_validation_start()
        self._evaluated = self._plan_evaluation()

    def validation_step(self, batch: Sequence[Item], batch_index: int) -> None:
        """Count one batch's pixels, at the images' own resolution."""
        for group in stack_equal_sizes(batch):
            self.confusion.update(self.predicted(group["image"], group["id"]), group["mask"])

    def predicted(self, image: Tensor, ids: Sequence[str]) -> Tensor:
        """The masks of whole images, as a validation measures them.

        Args:
            image: (N, C, H, W).
            ids: of the images, for what is said of scores that are no numbers.
        """
        return self.labels.coding.predict_mask(self.checked_scores(self(image), ids))

    def measure(self) -> None:
        """Turn the counts of all processes into scores."""
        self.scores = Scores.from_matrix(self.confusion.compute())
        self.confusion.reset()

    def scores_by_name(self) -> dict[str, float | None]:
        """The newest validation's mIoU and pixel accuracy; empty before the first."""
        if self.scores is None:
            return {}
        return {"val/miou": self.scores.miou, "val/pixel_accuracy": self.scores.pixel_accuracy}

    def all_scores(self) -> dict[str, float | None]:
        """With the IoU of each class."""
        if self.scores is None:
            return {}
        classes = zip(self.labels.names, self.scores.iou, strict=True)
        return self.scores_by_name() | {f"val/iou/{name}": value for name, value in classes}

    def _advice(self, images_per_step: int) -> str | None:
        return batch_advice(self.config.optimizer, images_per_step)


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
