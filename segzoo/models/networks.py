"""The network of each task, from a run's configuration, and whether it can be trained.

What cannot be trained is refused before the network is built and data are read.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segzoo.backbones.spec import Network
from segzoo.backbones.weights.published import find_published
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig, ClassifierModelConfig
from segzoo.config.schema import ModelConfig, RunConfig
from segzoo.errors import ConfigError
from segzoo.models.build import (
    CLASSIFIER_STRIDE,
    build_configured_classifier,
    build_segmenter,
    evaluation_config,
    model_problems,
)
from segzoo.models.decoder import DECODERS

_CLASSES = 2  # any number does for networks that are only tried
_ONE_VALUE = "Expected more than 1"  # torch's words for a norm with nothing to normalise over
Size = tuple[int, int]
Step = Callable[[Tensor], object]
logger = logging.getLogger(__name__)


def check_training(config: ModelConfig, images: int, crop_size: Size) -> None:
    """Refuse what cannot be trained, and warn where evaluation computes something else than training.

    Args:
        config: the model section.
        images: how many are in one forward pass on one device.
        crop_size: height and width of a training image.

    Raises:
        ConfigError: what no network can be built for; images too few or too small for the norms; weights of other
            norms.
    """
    problems = model_problems(config)
    possible = _without_problems(config)
    problems += _value_problems(
        lambda: build_segmenter(possible, _CLASSES, pretrained=False).train().training_logits,
        images,
        crop_size,
        key="data.crop_size",
        name=config.decoder,
        output_stride=config.output_stride,
    )
    problems += _norm_problems(config)
    if problems:
        raise ConfigError(problems)
    warn_of_other_stride(config)


def check_classifier_training(config: ClassifierModelConfig, images: int, image_size: Size) -> None:
    """Refuse a classifier that cannot be trained; arguments as for `check_training`.

    Raises:
        ConfigError: weights of other norms, or a single image so small that nothing is left to normalise over.
    """
    problems = _norm_problems(config)
    problems += _value_problems(
        lambda: build_configured_classifier(config, _CLASSES, pretrained=False).train(),
        images,
        image_size,
        key="data.image_size",
        name=config.backbone.name,
        output_stride=CLASSIFIER_STRIDE,
    )
    if problems:
        raise ConfigError(problems)


def warn_of_other_stride(config: ModelConfig) -> None:
    """Log a warning where `model.eval_output_stride` changes what the decoder sees, which dilating cannot make good."""
    stride = config.eval_output_stride or config.output_stride
    if stride == config.output_stride:
        return
    with torch.device("meta"):
        decoder = build_segmenter(config, _CLASSES, pretrained=False).decoder
    if not decoder.follows_stride:
        logger.warning(
            "model.eval_output_stride: %s has convolutions on the dilated taps that do not dilate with them; at output "
            "stride %s they see another extent of the image than at %s, where they are trained. In deeplabv3plus they "
            "dilate.",
            config.decoder,
            stride,
            config.output_stride,
        )


def _value_problems(
    build: Callable[[], Step], images: int, size: Size, *, key: str, name: str, output_stride: int
) -> list[str]:
    """What to change where a norm of the network would see one value of a channel, which torch refuses.

    Only torch knows where, so the network is tried. Several images with more than a pixel in the deepest tap have
    values enough, and are spared the second that this takes.

    Args:
        build: makes the network, as it is called in training.
        images: how many are in one forward pass on one device.
        size: height and width of each.
        key: the configuration's key that states the size.
        name: what needs larger batches, if larger images do not help.
        output_stride: stride of the deepest tap.
    """
    if (images > 1 and max(size) > output_stride) or _trains(build, images, size):
        return []
    if _trains(build, images, (size[0] + output_stride, size[1] + output_stride)):
        larger = "images" if key.endswith("image_size") else "crops"
        return [
            f"{key}: {list(size)} leave one pixel at output stride {output_stride}, and BatchNorm needs two or more "
            f"over the batch, which is one image on each device. Take larger {larger} or batches."
        ]
    return [
        f"data.batch_size: {name} needs {images + 1} images or more on each device, not {images}: it normalises an "
        "image pooled to one pixel over the batch. Take a larger batch, or another decoder: deeplabv3plus and unet "
        "train on single images."
    ]


def _trains(build: Callable[[], Step], images: int, size: Size) -> bool:
    """Whether the norms of a network in training see enough, tried on tensors without content."""
    try:
        with torch.device("meta"), torch.no_grad():
            build()(torch.empty(images, 3, *size))
    except Exception as error:
        return _ONE_VALUE not in str(error)  # whatever else is wrong is said where it is built, or where it runs
    return True


def _without_problems(config: ModelConfig) -> ModelConfig:
    """The nearest network that can be built, which shows what else is wrong in the same go."""
    strides = DECODERS[config.decoder].output_strides
    stride = config.output_stride if config.output_stride in strides else strides[0]
    backbone = config.backbone.model_copy(update={"stem_padding": "padded"})
    return config.model_copy(update={"output_stride": stride, "eval_output_stride": None, "backbone": backbone})


def _norm_problems(config: ModelConfig | ClassifierModelConfig) -> list[str]:
    weights = config.backbone.weights
    if config.norm != "group" or weights is None or find_published(config.backbone.name, weights) is None:
        return []
    return [
        "model.norm: published weights are BatchNorm's, which group cannot take. Write model.norm=frozen for small "
        "batches, or model.backbone.weights=null."
    ]


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
        num_classes: how many classes have a score.
        pretrained: load the weights that the configuration names; not where a checkpoint brings its own.
        evaluated: plan it as it is evaluated, at `model.eval_output_stride`, instead of as it is trained.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    spec = NETWORKS[config.task]
    model = spec.evaluated(config.model) if evaluated else config.model
    return spec.build(model, num_classes, in_channels=config.data.channels, pretrained=pretrained)


def sketch_network(config: AnyRunConfig, num_classes: int, *, evaluated: bool = False) -> Network:
    """The same as `build_network`, but without memory for its tensors, time or random numbers."""
    with torch.device("meta"):
        return build_network(config, num_classes, pretrained=False, evaluated=evaluated)


def check_network_training(config: AnyRunConfig, images: int) -> None:
    """Refuse a network that cannot be trained with so many images in one forward pass on one device.

    Raises:
        ConfigError: too few or too small images for its norms, weights of other norms, or parts that do not fit.
    """
    NETWORKS[config.task].check(config, images)
