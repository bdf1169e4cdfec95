"""Overlap losses, which compare truth and prediction over all pixels together: Dice and Lovász."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.config.schema import DiceConfig, LossConfig, LovaszConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.losses.base import SegmentationLoss, check_one_class, counted_pixels, one_hot, register_loss


class Dice(SegmentationLoss):
    """1 - Dice coefficient of a batch's pixels, the mean over the classes in its truth.

    Source: arXiv:1606.04797, section 3. Departures: the denominator has probabilities, not their squares; several
        classes; classes that the truth lacks are left out.
    """

    def __init__(self, ignore_index: int, config: DiceConfig) -> None:
        super().__init__(ignore_index)
        self.config = config

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch; shapes as `SegmentationLoss`."""
        overlap, chances, size = self._sums(logits, target)
        total, smooth = chances + size, self.config.smooth
        present = size > 0
        losses = 1 - (2 * overlap[present] + smooth) / (total[present] + smooth)
        return losses.sum() / max(1, len(losses))

    def _sums(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each class, the sum of its probability where it is true and everywhere, and the number of its pixels."""
        scores, truth = counted_pixels(logits, target, self.ignore_index)
        probability = scores.softmax(1) if self.config.mode == "softmax" else scores.sigmoid()
        own = probability * one_hot(truth, scores)
        return own.sum(0), probability.sum(0), truth.bincount(minlength=scores.shape[1])


class MultiLabelDice(Dice):
    """`Dice` where a pixel may have several classes, each with a sigmoid."""

    def _sums(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        counted = target != self.ignore_index
        probability = logits.float().sigmoid().where(counted, 0)
        present = counted & (target == 1)
        own = probability.where(present, 0)
        return own.sum((0, 2, 3)), probability.sum((0, 2, 3)), present.sum((0, 2, 3))


class Lovasz(SegmentationLoss):
    """The Lovász extension of 1 - IoU, the mean over the classes in the truth.

    Source: arXiv:1705.08790, algorithm 1; softmax of section 3.2, hinge of section 3.1. Departures: the hinge takes
        each class against the rest where there are more than two; the steps of the Jaccard loss are written out,
        because differences of its values lose their digits in large batches.
    """

    def __init__(self, ignore_index: int, config: LovaszConfig) -> None:
        super().__init__(ignore_index)
        self.config = config

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch; shapes as `SegmentationLoss`."""
        images = len(target) if self.config.per_image else 1
        parts = zip(logits.chunk(images), target.chunk(images), strict=True)
        pixels = [counted_pixels(*part, self.ignore_index) for part in parts]
        losses = [self._joint_loss(scores, truth) for scores, truth in pixels if len(truth)]
        return torch.stack(losses).mean() if losses else pixels[0][0].sum()

    def _joint_loss(self, scores: Tensor, truth: Tensor) -> Tensor:
        """The loss of pixels (P, K) and (P,) together."""
        hinge = self.config.mode == "hinge"
        values = scores if hinge else scores.softmax(1)
        losses = []
        for index in truth.bincount().nonzero().flatten().tolist():
            own = truth == index
            value = values[:, index]
            errors = F.relu(1 - value.where(own, -value)) if hinge else (own.float() - value).abs()
            errors, order = errors.sort(descending=True)
            losses.append((errors * jaccard_steps(own[order])).sum())
        return torch.stack(losses).mean()


def jaccard_steps(own: Tensor) -> Tensor:
    """By how much 1 - IoU grows as pixels become wrong, one after the other.

    Args:
        own: whether each pixel is of the class, in the order in which they become wrong; at least one is.

    Shape:
        bool (P,); result float32 (P,).

    >>> jaccard_steps(torch.tensor([True, False, True]))  # IoU 1, 1/2, 1/3, 0
    tensor([0.5000, 0.1667, 0.3333])
    """
    total = own.sum()
    left = total - own.cumsum(0)
    union = total + (~own).cumsum(0)
    return (1 / union).where(own, left / union / (union - 1).clamp(min=1))


@register_loss("dice", options=DiceConfig)
def build_dice(_: LossConfig, labels: LabelSpace, options: DiceConfig) -> Dice:
    """Dice loss."""
    if options.mode == "softmax":
        check_one_class("dice with mode softmax", labels)
    return (Dice if labels.coding.exclusive else MultiLabelDice)(labels.ignore_index, options)


@register_loss("lovasz", options=LovaszConfig)
def build_lovasz(_: LossConfig, labels: LabelSpace, options: LovaszConfig) -> Lovasz:
    """Lovász loss."""
    check_one_class("lovasz", labels)
    return Lovasz(labels.ignore_index, options)
