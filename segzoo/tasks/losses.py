"""Losses for dense prediction. Ignored pixels have no say in any of them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.config.schema import LossConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.registry import Registry

LossBuilder = Callable[[LossConfig, LabelSpace], nn.Module]
"""(configuration, classes) -> module (logits (N, K, H, W), target int64 (N, H, W)) -> scalar."""

LOSSES = Registry[LossBuilder]("loss")


def register_loss(name: str) -> Callable[[LossBuilder], LossBuilder]:
    """Make a loss of your own available as `loss.name: name`."""
    return LOSSES.register(name)


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, the weighted mean over the pixels that are not ignored; 0 where all are.

    Args:
        ignore_index: target value of pixels that do not count.
        class_weights: weight of each class, None for equal ones.

    Source: arXiv:1706.05587, section 4.1: the logits are upsampled, not the ground truth.
    """

    weight: Tensor | None

    def __init__(self, ignore_index: int, class_weights: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        # Part of the configuration, so no part of the weights.
        weight = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Shape:
            logits (N, K, H, W), target int64 (N, H, W); result a scalar.
        """
        total = F.cross_entropy(logits.float(), target, self.weight, ignore_index=self.ignore_index, reduction="sum")
        counted = target != self.ignore_index
        share = counted.sum() if self.weight is None else self.weight[target[counted]].sum()
        return total / share.clamp(min=torch.finfo(torch.float32).tiny)


@LOSSES.register("cross_entropy")
def build_cross_entropy(config: LossConfig, labels: LabelSpace) -> CrossEntropy:
    """Cross-entropy with the configuration's class weights.

    Raises:
        ConfigError: another number of weights than of classes, or "balanced" weights that were not computed.
    """
    weights = config.class_weights
    if isinstance(weights, str):
        raise ConfigError(f"loss.class_weights: {weights} has to be resolved with the training masks first")
    if weights is not None and len(weights) != labels.num_classes:
        raise ConfigError(
            f"loss.class_weights: {len(weights)} weights for {labels.num_classes} classes. Give one for each, in the "
            f"order {', '.join(labels.names)}."
        )
    return CrossEntropy(labels.ignore_index, weights)
