"""Names of losses, and the loss of a configuration."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from segzoo.config.classification import ClassificationLossConfig
from segzoo.config.schema import LossConfig
from segzoo.config.sections import Options, PartRegistry
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.tasks.losses.base import DecisionLoss, PixelLoss, SegmentationLoss, loss_weight_of

LossBuilder = Callable[[LossConfig, LabelSpace], nn.Module]
"""(configuration, classes) -> module (logits (N, K, H, W), target int64 (N, H, W)) -> scalar.

Where classes do not exclude each other the target is uint8 (N, K, H, W), see `SegmentationLoss`."""

BuilderT = TypeVar("BuilderT", bound=Callable[..., nn.Module])
"""A `LossBuilder`, which has the loss's options as a third argument where it was registered with some."""

LOSSES = PartRegistry[LossBuilder](LossConfig)


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


def needs_one_class(what: str, labels: LabelSpace) -> None:
    """Refuse a loss, or a form of it, for pixels that may have several classes.

    Args:
        what: the key and its value.
        labels: the classes.

    Raises:
        ConfigError: the classes are decided each on its own.
    """
    if not labels.coding.exclusive:
        raise ConfigError(
            f"loss: {what} needs one class a pixel, and here a pixel may have several (data.folder.multi_label). Take "
            "binary_cross_entropy, or focal or dice with loss.focal.mode=sigmoid or loss.dice.mode=sigmoid."
        )


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
    """The weights, as many as there are classes, or None.

    Raises:
        ConfigError: another number of them; it names the key.
    """
    if weights is not None and len(weights) != labels.num_classes:
        raise ConfigError(
            f"{key}: {len(weights)} weights for {labels.num_classes} classes. Give one for each, in the order "
            f"{', '.join(labels.names)}."
        )
    return weights


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
