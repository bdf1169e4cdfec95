"""Classification as a LightningModule: loss and scores."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from segzoo.backbones.classifier import Classifier
from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.models.classifier import build_configured_classifier
from segzoo.tasks.classification_loss import ImageLoss
from segzoo.tasks.metrics import MetricSet, validation_metrics
from segzoo.tasks.metrics.classification import ClassificationScores
from segzoo.tasks.task import Task, ids_of


class ImageBatch(TypedDict):
    """Images of one size, their classes, and the samples' names.

    Shape: image uint8 or float32 (N, C, H, W); target int64 (N,), or float32 (N, K) where an image may have several
    classes, or shares of them (mixup).
    """

    image: Tensor
    target: Tensor
    id: list[str]


class ClassificationTask(Task):
    """A classifier that trains by a configuration and is measured by top-1, or multi-label by mAP.

    `step_loss` is the loss of the newest step, over all processes; `scores` are the newest validation's.

    Args:
        config: the run.
        labels: classes of the data set.
        steps: optimiser steps in the whole run, for the schedule; None takes the Trainer's length.
        pretrained: start from the weights that the configuration names; not where a checkpoint follows.
        samples: images in the training split, for a schedule that counts passes over it.
    """

    config: ClassificationRunConfig
    scores: ClassificationScores | None

    def __init__(
        self,
        config: ClassificationRunConfig,
        labels: LabelSpace,
        steps: int | None = None,
        *,
        pretrained: bool = True,
        samples: int | None = None,
    ) -> None:
        super().__init__(config, labels, steps, samples=samples)
        self.loss = ImageLoss(config.loss, labels)  # first, for it may refuse the classes
        self.classifier = build_configured_classifier(
            config.model, labels.num_classes, in_channels=config.data.channels, pretrained=pretrained
        )
        self.measured = MetricSet.of_task(validation_metrics(config, labels), labels, config)
        if config.trainer.channels_last:
            self.classifier.to(memory_format=torch.channels_last)

    @property
    def network(self) -> Classifier:
        """The classifier."""
        return self.classifier

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W), uint8 or float32 from 0 to 1."""
        logits: Tensor = self.classifier(self._pixels(image))
        return logits

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """As every task's."""
        return super().training_step(_by_name(batch), batch_index)

    def loss_weight(self, batch: ImageBatch) -> Tensor:
        """The images, or the sum of their weights."""
        return self.loss.loss_weight(batch["target"])

    def loss_of(self, batch: ImageBatch) -> Tensor:
        """The loss on the logits."""
        loss: Tensor = self.loss(self._trained(batch["image"]), batch["target"])
        return loss

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Note one batch's scores; a process without images has an empty one."""
        if batch:
            named = _by_name(batch)
            self.measured.update(self.checked_scores(self(named["image"]), ids_of(named)), named["target"])

    def predict_step(self, batch: Any, batch_index: int) -> Tensor:
        """The scores (N, K) of images, whether or not their classes lie beside them."""
        named = _by_name(batch)
        return self.checked_scores(self(named["image"]), ids_of(named))


def _by_name(batch: Any) -> ImageBatch:
    """A dictionary, a pair (image, target), or images alone, as a dictionary."""
    if isinstance(batch, Mapping):
        return cast(ImageBatch, batch)
    parts = (batch,) if isinstance(batch, Tensor) else batch
    return cast(ImageBatch, dict(zip(("image", "target"), parts, strict=False)))
