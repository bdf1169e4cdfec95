"""Losses for dense prediction. Ignored pixels have no say in any of them."""

from segzoo.tasks.losses import overlap as _overlap  # noqa: F401  (registers its losses)
from segzoo.tasks.losses import pixels as _pixels  # noqa: F401  (registers its losses)
from segzoo.tasks.losses.base import LOSSES, LossBuilder, SegmentationLoss, build_loss, loss_weight_of, register_loss

__all__ = ["LOSSES", "LossBuilder", "SegmentationLoss", "build_loss", "loss_weight_of", "register_loss"]
