"""Losses that are means over pixels: two kinds of cross-entropy, focal loss, and cross-entropy of hard pixels."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.config.schema import FocalConfig, HardPixelConfig, LossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.losses.base import (
    DecisionLoss,
    PixelLoss,
    check_one_class,
    class_weights,
    counted_pixels,
    one_hot,
    register_loss,
    safe_divide,
)


class CrossEntropy(PixelLoss):
    """Softmax cross-entropy, the weighted mean over the pixels that are not ignored; 0 where all are.

    Args:
        label_smoothing: share of the target that is spread over all classes.

    Source: arXiv:1706.05587, section 4.1: the logits are upsampled, not the ground truth. Label smoothing as
        arXiv:1512.00567, section 7; with class weights each class's part has its own weight, as torch has it.
    """

    def __init__(
        self, ignore_index: int, class_weights: tuple[float, ...] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(ignore_index, class_weights)
        self.label_smoothing = label_smoothing

    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each pixel (N, H, W)."""
        return F.cross_entropy(logits, target, self.weight, reduction="none", label_smoothing=self.label_smoothing)


class HardPixelCrossEntropy(CrossEntropy):
    """Cross-entropy of the pixels that the network finds hardest.

    With several processes each chooses among its own pixels.

    Source: a share of the pixels, with a warm-up, from TensorFlow's research/deeplab (train_utils,
        top_k_percent_pixels and hard_example_mining_step); departure: the share is of the pixels that are not
        ignored, so that ignored ones have no say. A threshold with a least number of pixels per image from
        arXiv:1604.04339 (online bootstrapping).
    """

    def __init__(
        self,
        ignore_index: int,
        choice: HardPixelConfig,
        class_weights: tuple[float, ...] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(ignore_index, class_weights, label_smoothing)
        self.choice = choice
        self.step = 0

    def at_step(self, step: int) -> None:
        """Note the step, for the warm-up."""
        self.step = step

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean over the hardest pixels; shapes as `SegmentationLoss`."""
        scores, truth = counted_pixels(logits, target, self.ignore_index)
        losses = self.pixel_losses(scores, truth)
        if self.choice.threshold is not None:
            hard = _low_confidence(scores.detach(), truth, self.choice.threshold, self.choice.min_kept * len(target))
        else:
            hard = losses.detach().topk(self._number(len(truth)), sorted=False).indices
        weights = self.pixel_weights(truth)
        kept = losses[hard]
        return safe_divide(kept.sum(), torch.ones_like(kept).sum() if weights is None else weights[hard].sum())

    def _number(self, pixels: int) -> int:
        """How many of so many pixels count now."""
        warm = min(1.0, self.step / self.choice.warmup_steps) if self.choice.warmup_steps else 1.0
        return min(pixels, max(1, int((warm * self.choice.fraction + 1 - warm) * pixels)))


class BinaryCrossEntropy(PixelLoss):
    """Sigmoid cross-entropy of each class against the rest: the sum over classes, the mean over pixels.

    The sum keeps the gradient of a logit, probability minus truth, as large as softmax cross-entropy's.
    """

    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum over classes for each pixel (N, H, W)."""
        losses = _binary_entropy(logits, one_hot(target, logits)).sum(1)
        weights = self.pixel_weights(target)
        return losses if weights is None else losses * weights


class Focal(PixelLoss):
    """Cross-entropy times (1 - probability of the truth) ^ gamma, the mean over pixels.

    Source: arXiv:1708.02002, equations 4 and 5, sigmoid over each class against the rest, summed over classes.
        Departures: the mean is over pixels, not over those of objects; the softmax form is the common
        generalisation to classes that exclude each other.
    """

    def __init__(self, ignore_index: int, config: FocalConfig, class_weights: tuple[float, ...] | None = None) -> None:
        super().__init__(ignore_index, class_weights)
        self.config = config

    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each pixel (N, H, W)."""
        if self.config.mode == "softmax":
            losses = _focus(F.cross_entropy(logits, target, reduction="none"), self.config.gamma)
        else:
            losses = _sigmoid_focal(logits, one_hot(target, logits), self.config).sum(1)
        weights = self.pixel_weights(target)
        return losses if weights is None else losses * weights


def _sigmoid_focal(logits: Tensor, truth: Tensor, config: FocalConfig) -> Tensor:
    """Focal loss of each class's yes or no, (N, K, H, W) thrice."""
    losses = _focus(_binary_entropy(logits, truth), config.gamma)
    return losses if config.alpha is None else losses * (config.alpha * truth + (1 - config.alpha) * (1 - truth))


def _focus(entropy: Tensor, gamma: float) -> Tensor:
    """Play down where the entropy, -log of the probability, is small."""
    # Not below the least float: the root's slope at 0 is infinite, for gamma below 1.
    missed = (-torch.expm1(-entropy)).clamp(min=torch.finfo(torch.float32).tiny)  # 1 - probability
    return entropy * missed**gamma


def _binary_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def _low_confidence(scores: Tensor, truth: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Whether a pixel gives its true class less than the threshold, or is one of the `min_kept` that give it least."""
    if len(truth) <= min_kept:
        return torch.ones_like(truth, dtype=torch.bool)
    probability = torch.exp(-F.cross_entropy(scores, truth, reduction="none"))
    return (probability < threshold) | (probability <= probability.kthvalue(min_kept).values)


@register_loss("cross_entropy", reads=("class_weights", "label_smoothing", "hard_pixels"))
def build_cross_entropy(config: LossConfig, labels: LabelSpace) -> CrossEntropy:
    """Cross-entropy, of the hardest pixels only where the configuration says so."""
    check_one_class("cross_entropy", labels)
    weights = class_weights(config, labels)
    choice = config.hard_pixels
    if choice.fraction == 1 and choice.threshold is None:
        return CrossEntropy(labels.ignore_index, weights, config.label_smoothing)
    return HardPixelCrossEntropy(labels.ignore_index, choice, weights, config.label_smoothing)


@register_loss("binary_cross_entropy", reads=("class_weights",))
def build_binary_cross_entropy(config: LossConfig, labels: LabelSpace) -> BinaryCrossEntropy | DecisionLoss:
    """Sigmoid cross-entropy of each class against the rest."""
    weights = class_weights(config, labels)
    if labels.coding.exclusive:
        return BinaryCrossEntropy(labels.ignore_index, weights)
    return DecisionLoss(labels.ignore_index, _binary_entropy, weights)


@register_loss("focal", options=FocalConfig, reads=("class_weights",))
def build_focal(config: LossConfig, labels: LabelSpace, options: FocalConfig) -> Focal | DecisionLoss:
    """Focal loss."""
    if options.mode == "softmax":
        check_one_class("focal with mode softmax", labels)
    weights = class_weights(config, labels)
    if labels.coding.exclusive:
        return Focal(labels.ignore_index, options, weights)
    return DecisionLoss(labels.ignore_index, partial(_sigmoid_focal, config=options), weights)
