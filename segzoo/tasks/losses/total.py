"""Several losses as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segzoo.tasks.losses.base import DecisionLoss, PixelLoss, SegmentationLoss, loss_weight_of


class WeightedSum(SegmentationLoss):
    """Losses times their weights, added up.

    Args:
        terms: (weight, loss) pairs.
        ignore_index: target value of pixels that do not count.
    """

    def __init__(self, terms: Sequence[tuple[float, nn.Module]], ignore_index: int) -> None:
        super().__init__(ignore_index)
        self.weights = tuple(weight for weight, _ in terms)
        self.terms = nn.ModuleList(loss for _, loss in terms)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum of the terms; shapes as `SegmentationLoss`."""
        values = [weight * term(logits, target).float() for weight, term in zip(self.weights, self.terms, strict=True)]
        return torch.stack(values).sum()

    def loss_weight(self, target: Tensor) -> Tensor:
        """That of the first term that is a mean over pixels or decisions; all such terms have the same."""
        for term in self.terms:
            if isinstance(term, PixelLoss | DecisionLoss) or not isinstance(term, SegmentationLoss):
                return loss_weight_of(term, target, self.ignore_index)
        return super().loss_weight(target)

    def at_step(self, step: int) -> None:
        """Tell every term."""
        for term in self.terms:
            if isinstance(term, SegmentationLoss):
                term.at_step(step)
