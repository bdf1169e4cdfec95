"""What every loss promises, the means over pixels that most of them are, and losses by their names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from segzoo.config.classification import ClassificationLossConfig
from segzoo.config.schema import LossConfig
from segzoo.config.sections import Options, PartRegistry
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError

DecisionLosses = Callable[[Tensor, Tensor], Tensor]
LossBuilder = Callable[[LossConfig, LabelSpace], nn.Module]
"""(configuration, classes) -> module (logits (N, K, H, W), target int64 (N, H, W)) -> scalar.

Where classes do not exclude each other the target is uint8 (N, K, H, W), see `SegmentationLoss`."""

BuilderT = TypeVar("BuilderT", bound=Callable[..., nn.Module])
"""A `LossBuilder`, which has the loss's options as a third argument where it was registered with some."""

LOSSES = PartRegistry[LossBuilder](LossConfig)


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

        Shape: logits (N, K, H, W) of any floating type, target int64 (N, H, W); result a scalar.
        """

    def loss_weight(self, target: Tensor) -> Tensor:
        """What this batch's mean is divided by, which is its weight in a mean over several processes.

        Losses that are no mean over pixels, such as Dice, count each process alike; for them the mean over
        processes is not exactly the loss of all their pixels together.

        Shape: target int64 (N, H, W); result a float32 scalar.
        """
        return torch.ones((), device=target.device)

    def at_step(self, step: int) -> None:
        """Hear how many steps are done, before each step; for losses that change during a run."""


class MeanLoss(SegmentationLoss):
    """A mean that is weighted by class; None for equal weights."""

    weight: Tensor | None

    def __init__(self, ignore_index: int, class_weights: tuple[float, ...] | None = None) -> None:
        super().__init__(ignore_index)
        weight = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("weight", weight, persistent=False)  # the configuration has it, not the weights file


class PixelLoss(MeanLoss):
    """Mean of a loss of each pixel, weighted by its true class."""

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


class DecisionLoss(MeanLoss):
    """Weighted mean of a loss of each class's yes or no, times the number of classes; a pixel may have several.

    Masks whose pixels have one class each then give the sum over classes and the mean over pixels, as the same loss
    does in its form for them.

    Args:
        ignore_index: target value of pixels that do not count for a class.
        decision_losses: logits and truth, float32 (N, K, H, W), to losses (N, K, H, W).
        class_weights: weight of each class's decisions; None for equal ones.
    """

    def __init__(
        self, ignore_index: int, decision_losses: DecisionLosses, class_weights: tuple[float, ...] | None = None
    ) -> None:
        super().__init__(ignore_index, class_weights)
        self.decision_losses = decision_losses

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


class WeightedSum(SegmentationLoss):
    """The sum of (weight, loss) terms."""

    def __init__(self, terms: Sequence[tuple[float, nn.Module]], ignore_index: int) -> None:
        super().__init__(ignore_index)
        self.weights = tuple(weight for weight, _ in terms)
        self.terms = nn.ModuleList(loss for _, loss in terms)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum of the terms; shapes as `SegmentationLoss`."""
        values = [weight * term(logits, target).float() for weight, term in zip(self.weights, self.terms, strict=True)]
        return torch.stack(values).sum()

    def loss_weight(self, target: Tensor) -> Tensor:
        """The weight of the first term that is a mean over pixels or decisions; all such terms have the same."""
        for term in self.terms:
            if isinstance(term, MeanLoss) or not isinstance(term, SegmentationLoss):
                return loss_weight_of(term, target, self.ignore_index)
        return super().loss_weight(target)

    def at_step(self, step: int) -> None:
        """Tell every term."""
        for term in self.terms:
            if isinstance(term, SegmentationLoss):
                term.at_step(step)


def build_loss(config: LossConfig, labels: LabelSpace) -> nn.Module:
    """The loss `name`, or the sum with the losses in `add`.

    Raises:
        ConfigError: unknown names, or options that do not fit the classes or are for another loss.
    """
    builders = [(weight, LOSSES[name]) for name, weight in ((config.name, 1.0), *config.add.items())]
    terms: list[tuple[float, nn.Module]] = []
    problems = [f"loss: {line}" for line in config.unread_options()]
    for weight, build in builders:
        try:
            terms.append((weight, build(config, labels)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return WeightedSum(terms, labels.ignore_index) if config.add else terms[0][1]


def register_loss(
    name: str, *, options: type[Options] | None = None, reads: Iterable[str] | None = None, replace: bool = False
) -> Callable[[BuilderT], BuilderT]:
    """Make a loss of your own available as `loss.name: name`, and in `loss.add`.

    Args:
        name: what configurations call it.
        options: its options, a class that extends `segzoo.Section`, with a default for each. They are the keys
            `loss.NAME.*` of a configuration, and the builder gets them as a third argument.
        reads: keys of the loss section that only some losses read, and this one does, such as `class_weights`; None
            without options says that it may read any.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken, or options that no configuration can hold.
    """

    def register(build: BuilderT) -> BuilderT:
        def with_options(config: LossConfig, labels: LabelSpace) -> nn.Module:
            own = () if options is None else (config.part(name, options),)
            return build(config, labels, *own)

        LOSSES.add_part(name, with_options, options, reads, replace=replace)
        return build

    return register


def class_weights(config: LossConfig | ClassificationLossConfig, labels: LabelSpace) -> tuple[float, ...] | None:
    """The configuration's weight of each class.

    Raises:
        ConfigError: another number of weights than of classes, or "balanced" weights that were not computed.
    """
    weights = config.class_weights
    if isinstance(weights, str):
        raise ConfigError(f"loss.class_weights: {weights} has to be resolved with the training masks first")
    return one_for_each_class(weights, labels, "loss.class_weights")


def one_for_each_class(weights: tuple[float, ...] | None, labels: LabelSpace, key: str) -> tuple[float, ...] | None:
    """Return the weights if there are as many as classes; else raise a `ConfigError` that names the key."""
    if weights is not None and len(weights) != labels.num_classes:
        raise ConfigError(
            f"{key}: {len(weights)} weights for {labels.num_classes} classes. Give one for each, in the order "
            f"{', '.join(labels.names)}."
        )
    return weights


def check_one_class(what: str, labels: LabelSpace) -> None:
    """Refuse `what`, a loss or a form of it, where a pixel may have several classes."""
    if not labels.coding.exclusive:
        raise ConfigError(
            f"loss: {what} needs one class a pixel, and here a pixel may have several (data.folder.multi_label). Take "
            "binary_cross_entropy, or focal or dice with loss.focal.mode=sigmoid or loss.dice.mode=sigmoid."
        )


def loss_weight_of(loss: nn.Module, target: Tensor, ignore_index: int) -> Tensor:
    """The weight of a batch's loss among others: `loss_weight`, or the pixels that count, for a module without one."""
    if isinstance(loss, SegmentationLoss):
        return loss.loss_weight(target)
    return (target != ignore_index).sum().float()


def safe_divide(total: Tensor, weight: Tensor) -> Tensor:
    """`total / weight`, and 0 with finite gradients where nothing counts."""
    return total / weight.clamp(min=torch.finfo(torch.float32).tiny)


def counted_pixels(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The pixels that are not ignored, as one list.

    Shape: logits (N, K, H, W), target int64 (N, H, W); result float32 (P, K) and int64 (P,).
    """
    counted = target != ignore_index
    return logits.movedim(1, -1)[counted].float(), target[counted]


def one_hot(target: Tensor, scores: Tensor) -> Tensor:
    """1 at the true class, 0 elsewhere, as large as the scores.

    Shape: target int64 (N, ...), scores and result (N, K, ...).
    """
    return torch.zeros_like(scores).scatter_(1, target.unsqueeze(1), 1)
