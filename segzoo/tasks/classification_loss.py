"""What a classifier minimises: cross-entropy, or binary cross-entropy where an image may have several classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.config.classification import ClassificationLossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.losses.base import safe_divide
from segzoo.tasks.losses.registry import class_weights


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
