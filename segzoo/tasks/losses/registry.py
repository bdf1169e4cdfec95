"""Names of losses, and the loss of a configuration."""

from collections.abc import Callable

from torch import nn

from segzoo.config.schema import LossConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.registry import Registry
from segzoo.tasks.losses.total import WeightedSum

LossBuilder = Callable[[LossConfig, LabelSpace], nn.Module]
"""(configuration, classes) -> module (logits (N, K, H, W), target int64 (N, H, W)) -> scalar."""

LOSSES = Registry[LossBuilder]("loss")


def register_loss(name: str) -> Callable[[LossBuilder], LossBuilder]:
    """Make a loss of your own available as `loss.name: name`, and in `loss.add`."""
    return LOSSES.register(name)


def build_loss(config: LossConfig, labels: LabelSpace) -> nn.Module:
    """The loss `name`, or the sum with the losses in `add`.

    Raises:
        ConfigError: unknown names, or options that do not fit the classes.
    """
    first = LOSSES[config.name](config, labels)
    if not config.add:
        return first
    others = [(weight, LOSSES[name](config, labels)) for name, weight in config.add.items()]
    return WeightedSum([(1.0, first), *others], labels.ignore_index)


def class_weights(config: LossConfig, labels: LabelSpace) -> tuple[float, ...] | None:
    """The configuration's weight of each class.

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
    return weights
