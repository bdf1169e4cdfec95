"""Classification: the loss of images, and the LightningModule that trains by it and measures."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.backbones.classifier import Classifier
from segzoo.config.classification import ClassificationLossConfig, ClassificationRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.models.build import build_configured_classifier
from segzoo.tasks.losses.base import class_weights, safe_divide
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


class ImageLoss(nn.Module):
    """Logits and targets in, a float32 scalar out: a weighted mean over the images.

    An image of one class, or a blend of images (mixup), weighs what its classes do. Multi-label, the loss of an image
    is the weighted mean over its yes-or-no decisions.

    Args:
        config: label smoothing and class weights.
        labels: the classes.

    Raises:
        ConfigError: another number of weights than of classes.

    Source: label smoothing as Szegedy et al., arXiv:1512.00567v3, section 7, with K classes and the uniform
        distribution; multi-label it is the same with K = 2 for each class.

    >>> loss = ImageLoss(ClassificationLossConfig(), LabelSpace.of_images(["cat", "dog"]))
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))  # ln 2
    tensor(0.6931)
    """

    weight: Tensor | None

    def __init__(self, config: ClassificationLossConfig, labels: LabelSpace) -> None:
        super().__init__()
        weights = class_weights(config, labels)
        self.smoothing = config.label_smoothing
        self.exclusive = labels.coding.exclusive
        # Part of the configuration, so no part of the weights.
        weight = None if weights is None else torch.tensor(weights)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Shape:
            logits (N, K) of any floating type; target int64 (N,), or float32 (N, K): shares of the classes that sum to
            1, or multi-label 1 where a class is present and 0 where it is not. Result a scalar.
        """
        losses = (self._class_losses if self.exclusive else self._decision_losses)(logits.float(), target)
        weights = self._image_weights(target)
        return safe_divide((losses * weights).sum(), weights.sum())

    def loss_weight(self, target: Tensor) -> Tensor:
        """The number of images, or the sum of their weights: what the mean is divided by."""
        return self._image_weights(target).sum()

    def _class_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, reduction="none", label_smoothing=self.smoothing)

    def _decision_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        smoothed = target.float() * (1 - self.smoothing) + self.smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
        return losses.mean(1) if self.weight is None else safe_divide((losses * self.weight).sum(1), self.weight.sum())

    def _image_weights(self, target: Tensor) -> Tensor:
        """The weight of each image (N,)."""
        if self.weight is None or not self.exclusive:
            return torch.ones(len(target), device=target.device)
        # No matrix product: autocast would make it one of 16 bits.
        return (target * self.weight).sum(1) if target.is_floating_point() else self.weight[target]
