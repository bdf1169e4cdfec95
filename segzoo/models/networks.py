"""The network of each task, from a run's configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from segzoo.backbones.network import Network
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.schema import RunConfig
from segzoo.models.build import build_segmenter
from segzoo.models.classifier import build_configured_classifier
from segzoo.models.evaluation import evaluation_config
from segzoo.models.limits import check_classifier_training, check_training


@dataclass(frozen=True)
class NetworkSpec:
    """How the network of a task is made.

    Args:
        build: from the model section, the number of classes and the image's channels.
        evaluated: the model section of the same network as it is evaluated.
        check: refuses a run's network that cannot learn from so many images at once.
    """

    build: Callable[..., Network]
    evaluated: Callable[[Any], Any]
    check: Callable[[Any, int], None]


def _check_segmenter(config: RunConfig, images: int) -> None:
    check_training(config.model, images, config.data.crop_size)


def _check_classifier(config: ClassificationRunConfig, images: int) -> None:
    check_classifier_training(config.model, images, config.data.image_size)


NETWORKS: Mapping[str, NetworkSpec] = {
    "segmentation": NetworkSpec(build_segmenter, evaluation_config, _check_segmenter),
    "classification": NetworkSpec(build_configured_classifier, lambda model: model, _check_classifier),
}
"""`task` -> its network."""


def build_network(
    config: AnyRunConfig, num_classes: int, *, pretrained: bool = True, evaluated: bool = False
) -> Network:
    """Build the network of a run.

    Args:
        config: the run.
        num_classes: class scores.
        pretrained: load the weights that the configuration names; not where a checkpoint brings its own.
        evaluated: as it is evaluated, at `model.eval_output_stride`, instead of as it is trained.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    spec = NETWORKS[config.task]
    model = spec.evaluated(config.model) if evaluated else config.model
    return spec.build(model, num_classes, in_channels=config.data.channels, pretrained=pretrained)


def sketch_network(config: AnyRunConfig, num_classes: int, *, evaluated: bool = False) -> Network:
    """As `build_network`, without memory for its tensors, without time and without random numbers."""
    with torch.device("meta"):
        return build_network(config, num_classes, pretrained=False, evaluated=evaluated)


def check_network_training(config: AnyRunConfig, images: int) -> None:
    """Refuse a network that cannot be trained.

    Args:
        config: the run.
        images: in one forward pass on one device.

    Raises:
        ConfigError: too few or too small images for its norms, weights of other norms, or parts that do not fit.
    """
    NETWORKS[config.task].check(config, images)
