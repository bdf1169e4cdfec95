"""Losses for dense prediction, by name; ignored pixels have no say in any of them.

`base` says what a loss is and registers it, `pixels` and `overlap` hold the losses. They import only labels and the
configuration.
"""

from segzoo.tasks.losses import overlap as _overlap  # noqa: F401  (registers its losses)
from segzoo.tasks.losses import pixels as _pixels  # noqa: F401  (registers its losses)
from segzoo.tasks.losses.base import LOSSES, LossBuilder, SegmentationLoss, build_loss, loss_weight_of, register_loss

__all__ = ["LOSSES", "LossBuilder", "SegmentationLoss", "build_loss", "loss_weight_of", "register_loss"]
