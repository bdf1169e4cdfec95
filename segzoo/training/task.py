"""Segmentation as a run trains it: several batches in a step, and compiled, where the configuration says so."""

import os
import shutil

import torch
from torch import Tensor

from segzoo.config.schema import RunConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.losses import loss_share
from segzoo.tasks.losses.base import mean_or_zero
from segzoo.tasks.segmentation import Batch, SegmentationTask
from segzoo.training.accumulation import accumulated_loss, parts_of

_COMPILERS = ("g++", "clang++", "c++", "cl")


class RunTask(SegmentationTask):
    """A `SegmentationTask` with `trainer.accumulate` and `trainer.compile`; a batch is what a whole step sees.

    Arguments as `SegmentationTask`.
    """

    def __init__(self, config: RunConfig, labels: LabelSpace, steps: int, *, pretrained: bool = True) -> None:
        super().__init__(config, labels, steps, pretrained=pretrained)
        if config.trainer.compile:
            compile_parts(self.segmenter)

    def _loss(self, batch: Batch) -> Tensor:
        """The loss of a step's batch, part by part.

        Every part counts by its pixels that are not ignored (or their weights), so that the sum is the loss of all
        images together, ignored pixels or not. Losses that are no mean over pixels, such as Dice, count each part
        alike; for them, for hard pixels, and behind BatchNorm, which sees a part at a time, it is not exactly that.
        """
        count = self.config.trainer.accumulate
        if count == 1 or not torch.is_grad_enabled():
            return super()._loss(batch)
        parts = parts_of(batch, count)
        ignored = self.labels.ignore_index
        shares = torch.stack([loss_share(self.loss, self._target(part), ignored) for part in parts])
        parameters = [parameter for parameter in self.segmenter.parameters() if parameter.requires_grad]
        weights = mean_or_zero(shares, shares.sum())
        return accumulated_loss(super()._loss, parts, weights, parameters, self._gradient_scale())

    def _gradient_scale(self) -> float:
        """What float16 training multiplies the loss by; 1 elsewhere."""
        scaler = None if self._trainer is None else getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _plan_evaluation(self) -> tuple[Segmenter]:
        """As without compiling; a network at a stride of its own is new at each validation."""
        (planned,) = super()._plan_evaluation()
        if self.config.trainer.compile and planned is not self.segmenter:
            compile_parts(planned)
        return (planned,)


def compile_parts(segmenter: Segmenter) -> None:
    """Have torch compile backbone, decoder and auxiliary head when they first run; names and weights stay.

    What lies between them, padding to the decoder's sizes, is small, and training and prediction join them differently.
    """
    for part in (segmenter.backbone, segmenter.decoder, segmenter.auxiliary):
        if part is not None:
            part.compile()


def check_compiler(config: RunConfig) -> None:
    """Refuse to compile where torch would find no compiler after minutes.

    Raises:
        ConfigError: there is none.
    """
    named = os.environ.get("CXX")
    if config.trainer.compile and not any(map(shutil.which, (named,) if named else _COMPILERS)):
        raise ConfigError(
            f"trainer.compile: torch.compile needs a C++ compiler, and {named or ' or '.join(_COMPILERS[:2])} is not "
            "installed. Install one, or take trainer.compile=false."
        )
