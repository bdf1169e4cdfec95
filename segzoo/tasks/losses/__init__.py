"""Losses for dense prediction. Ignored pixels have no say in any of them."""

from segzoo.tasks.losses import overlap as _overlap  # noqa: F401  (registers its losses)
from segzoo.tasks.losses import pixels as _pixels  # noqa: F401  (registers its losses)
from segzoo.tasks.losses.base import SegmentationLoss, loss_weight_of
from segzoo.tasks.losses.registry import LOSSES, LossBuilder, build_loss, register_loss

__all__ = ["LOSSES", "LossBuilder", "SegmentationLoss", "build_loss", "loss_weight_of", "register_loss"]
