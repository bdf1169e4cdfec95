"""What cannot be trained, refused before the network is built and data are read."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from segzoo.backbones.weights.published import find_published
from segzoo.config.classification import ClassifierModelConfig
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, model_problems
from segzoo.models.classifier import OUTPUT_STRIDE, build_configured_classifier
from segzoo.models.decoder import DECODERS

_CLASSES = 2  # of the networks that are tried, for which any number does
_ONE_VALUE = "Expected more than 1"  # torch's words for a norm with nothing to normalise over
_logger = logging.getLogger(__name__)

Size = tuple[int, int]
Step = Callable[[Tensor], object]


def check_training(config: ModelConfig, images: int, crop_size: Size) -> None:
    """Refuse what cannot be trained, and warn where evaluation computes something else than training.

    Args:
        config: the model section.
        images: in one forward pass on one device.
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
    """Refuse a classifier that cannot be trained.

    Args:
        config: the model section.
        images: in one forward pass on one device.
        image_size: height and width of a training image.

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
        output_stride=OUTPUT_STRIDE,
    )
    if problems:
        raise ConfigError(problems)


def warn_of_other_stride(config: ModelConfig) -> None:
    """Say so where `model.eval_output_stride` changes what the decoder sees, which dilating cannot make good."""
    stride = config.eval_output_stride or config.output_stride
    if stride == config.output_stride:
        return
    with torch.device("meta"):
        decoder = build_segmenter(config, _CLASSES, pretrained=False).decoder
    if not decoder.follows_stride:
        _logger.warning(
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
        images: in one forward pass on one device.
        size: of an image.
        key: that states the size.
        name: of what needs larger batches, if larger images do not help.
        output_stride: of the deepest tap.
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
