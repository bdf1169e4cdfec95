"""Losses for dense prediction. Ignored pixels have no say in any of them."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from segzoo.registry import Registry

Loss = Callable[[Tensor, Tensor, int], Tensor]
"""(logits (N, K, H, W), target int64 (N, H, W), ignore_index) -> scalar."""

LOSSES = Registry[Loss]("loss")


def register_loss(name: str) -> Callable[[Loss], Loss]:
    """Make a loss of your own available as `loss.name: name`."""
    return LOSSES.register(name)


@register_loss("cross_entropy")
def cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Softmax cross-entropy, mean over the pixels that are not ignored; 0 where all are.

    Shape:
        logits (N, K, H, W), target int64 (N, H, W); result a scalar.

    Source: arXiv:1706.05587, section 4.1: the logits are upsampled, not the ground truth.
    """
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore_index, reduction="sum")
    return total / (target != ignore_index).sum().clamp(min=1)
