"""What every loss promises, and the mean over pixels that most of them are."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

DecisionLosses = Callable[[Tensor, Tensor], Tensor]


class SegmentationLoss(nn.Module, ABC):
    """Logits and target in, a float32 scalar out, in which ignored pixels have no say; 0 where all are ignored.

    A loss of your own may subclass it, or be any module that is called as `forward` is here. Where a pixel may have
    several classes (`LabelSpace.coding`), every target (N, H, W) is one of integers (N, K, H, W): 1 where a class
    is present, 0 where it is not, or `ignore_index`.

    Args:
        ignore_index: target value of pixels that do not count.
    """

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    @abstractmethod
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Shape:
            logits (N, K, H, W) of any floating type, target int64 (N, H, W); result a scalar.
        """

    def loss_weight(self, target: Tensor) -> Tensor:
        """What this batch's mean is divided by: its weight in a mean over several processes.

        Losses that are no mean over pixels, such as Dice, count each process alike; for them the mean over
        processes is not exactly the loss of all their pixels together.

        Shape:
            target int64 (N, H, W); result a float32 scalar.
        """
        return torch.ones((), device=target.device)

    def at_step(self, step: int) -> None:
        """Hear how many steps are done, before each step; for losses that change during a run."""


class PixelLoss(SegmentationLoss):
    """Weighted mean of a loss of each pixel.

    Args:
        ignore_index: target value of pixels that do not count.
        class_weights: weight of a pixel by its true class; None for equal ones.
    """

    weight: Tensor | None

    def __init__(self, ignore_index: int, class_weights: tuple[float, ...] | None = None) -> None:
        super().__init__(ignore_index)
        # Part of the configuration, so no part of the weights.
        weight = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("weight", weight, persistent=False)

    @abstractmethod
    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each pixel, weighted by class; what it says of ignored pixels does not matter.

        Shape:
            logits float32 (N, K, H, W), target int64 (N, H, W) with class 0 in place of ignored pixels; result
            float32 (N, H, W).
        """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean over the pixels that are not ignored; shapes as `SegmentationLoss`."""
        counted = target != self.ignore_index
        losses = self.pixel_losses(logits.float(), target.where(counted, 0))
        return safe_divide(losses.where(counted, 0).sum(), self.loss_weight(target))

    def loss_weight(self, target: Tensor) -> Tensor:
        """The number of pixels that are not ignored, or the sum of their weights."""
        counted = target != self.ignore_index
        weights = self.pixel_weights(target.where(counted, 0))
        return counted.sum().float() if weights is None else weights.where(counted, 0).sum()

    def pixel_weights(self, target: Tensor) -> Tensor | None:
        """The weight of each pixel (N, H, W) of a target without ignored ones; None where all are equal."""
        return None if self.weight is None else self.weight[target]


def safe_divide(total: Tensor, weight: Tensor) -> Tensor:
    """`total / weight`, and 0 with finite gradients where nothing counts."""
    return total / weight.clamp(min=torch.finfo(torch.float32).tiny)


class DecisionLoss(SegmentationLoss):
    """Weighted mean of a loss of each class's yes or no, times the number of classes; a pixel may have several.

    So that masks whose pixels have one class each give the sum over classes and the mean over pixels, as the same loss
    does in its form for them.

    Args:
        ignore_index: target value of pixels that do not count for a class.
        decision_losses: logits and truth, float32 (N, K, H, W), to losses (N, K, H, W).
        class_weights: weight of each class's decisions; None for equal ones.
    """

    weight: Tensor | None

    def __init__(
        self, ignore_index: int, decision_losses: DecisionLosses, class_weights: tuple[float, ...] | None = None
    ) -> None:
        super().__init__(ignore_index)
        self.decision_losses = decision_losses
        weight = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("weight", weight, persistent=False)  # as in PixelLoss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean over the decisions that are not ignored; shapes as `SegmentationLoss`."""
        counted = target != self.ignore_index
        losses = self.decision_losses(logits.float(), target.where(counted, 0).float())
        return safe_divide(self._over_classes(losses.where(counted, 0).sum((0, 2, 3))), self.loss_weight(target))

    def loss_weight(self, target: Tensor) -> Tensor:
        """The decisions that are not ignored, or the sum of their weights, over the number of classes."""
        return self._over_classes((target != self.ignore_index).sum((0, 2, 3)).float()) / target.shape[1]

    def _over_classes(self, values: Tensor) -> Tensor:
        """The weighted sum of a value of each class."""
        return values.sum() if self.weight is None else (values * self.weight).sum()


def counted_pixels(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The pixels that are not ignored, as one list.

    Shape:
        logits (N, K, H, W), target int64 (N, H, W); result float32 (P, K) and int64 (P,).
    """
    counted = target != ignore_index
    return logits.movedim(1, -1)[counted].float(), target[counted]


def one_hot(target: Tensor, scores: Tensor) -> Tensor:
    """1 at the true class, 0 elsewhere, as large as the scores.

    Shape:
        target int64 (N, ...), scores and result (N, K, ...).
    """
    return torch.zeros_like(scores).scatter_(1, target.unsqueeze(1), 1)


def loss_weight_of(loss: nn.Module, target: Tensor, ignore_index: int) -> Tensor:
    """The weight of a batch's loss among others: `loss_weight`, or the pixels that count, for a module without one."""
    if isinstance(loss, SegmentationLoss):
        return loss.loss_weight(target)
    return (target != ignore_index).sum().float()
