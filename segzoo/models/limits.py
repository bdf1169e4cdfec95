"""Requests that a decoder cannot meet, refused before anything is built."""

import logging

from segzoo.backbones.weights.published import find_published
from segzoo.config.classification import ClassifierModelConfig
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.decoder import DECODERS, DecoderLimits

_CLASSIFIER_STRIDE = 32
_logger = logging.getLogger(__name__)


def check_model(config: ModelConfig) -> None:
    """Refuse combinations that no network can be built for.

    Raises:
        ConfigError: an unknown decoder, an output stride that it does not work at, or a stem that does not pad.
    """
    problems = _model_problems(config)
    if problems:
        raise ConfigError(problems)


def check_training(config: ModelConfig, images: int, crop_size: tuple[int, int]) -> None:
    """Refuse what cannot be trained, and warn where evaluation computes something else than training.

    Args:
        config: the model section.
        images: in one forward pass on one device.
        crop_size: height and width of a training image.

    Raises:
        ConfigError: as `check_model`; fewer images than the decoder's norms need, or a single one so small that nothing
            is left to normalise over; weights of other norms.
    """
    problems = _model_problems(config)
    limits = DECODERS[config.decoder].limits
    if images < limits.least_batch:
        problems.append(
            f"data.batch_size: {config.decoder} needs {limits.least_batch} images or more on each device, not "
            f"{images}: it normalises an image pooled to one pixel over the batch. Take a larger batch, or another "
            "decoder: deeplabv3plus and unet train on single images."
        )
    elif images == 1 and _normalises_one_pixel(config, crop_size):
        problems.append(
            f"data.crop_size: {list(crop_size)} leave one pixel at output stride {config.output_stride}, and BatchNorm "
            "needs two or more over the batch, which is one image on each device. Take larger crops or batches."
        )
    problems += _norm_problems(config)
    if problems:
        raise ConfigError(problems)
    warn_of_other_stride(config)


def check_classifier_training(config: ClassifierModelConfig, images: int, image_size: tuple[int, int]) -> None:
    """Refuse a classifier that cannot be trained.

    Args:
        config: the model section.
        images: in one forward pass on one device.
        image_size: height and width of a training image.

    Raises:
        ConfigError: weights of other norms, or a single image so small that nothing is left to normalise over.
    """
    problems = _norm_problems(config)
    learns = config.norm == "batch" and config.frozen_modules != "all"
    if images == 1 and learns and max(image_size) <= _CLASSIFIER_STRIDE:
        problems.append(
            f"data.image_size: {list(image_size)} leave one pixel at output stride {_CLASSIFIER_STRIDE}, and BatchNorm "
            "needs two or more over the batch, which is one image on each device. Take larger images or batches."
        )
    if problems:
        raise ConfigError(problems)


def _norm_problems(config: ModelConfig | ClassifierModelConfig) -> list[str]:
    weights = config.backbone.weights
    if config.norm != "group" or weights is None or find_published(config.backbone.name, weights) is None:
        return []
    return [
        "model.norm: published weights are BatchNorm's, which group cannot take. Write model.norm=frozen for small "
        "batches, or model.backbone.weights=null."
    ]


def warn_of_other_stride(config: ModelConfig) -> None:
    """Say so where `model.eval_output_stride` changes what the decoder sees, which dilating cannot make good."""
    stride = config.eval_output_stride or config.output_stride
    if stride != config.output_stride and not DECODERS[config.decoder].limits.follows_stride:
        _logger.warning(
            "model.eval_output_stride: %s has convolutions on the dilated taps that do not dilate with them; at output "
            "stride %s they see another extent of the image than at %s, where they are trained. In deeplabv3plus they "
            "dilate.",
            config.decoder,
            stride,
            config.output_stride,
        )


def _model_problems(config: ModelConfig) -> list[str]:
    limits = DECODERS[config.decoder].limits
    problems = [f"model: {line}" for line in config.unread_options()]
    problems += [
        f"{key}: {config.decoder} works at output stride {_either(limits)}, not {stride}: {limits.reason}."
        for key, stride in (
            ("model.output_stride", config.output_stride),
            ("model.eval_output_stride", config.eval_output_stride),
        )
        if stride is not None and stride not in limits.output_strides
    ]
    if config.backbone.stem_padding != "padded":
        problems.append(
            "model.backbone.stem_padding: a decoder needs taps of ceil(size / stride) pixels, which only the padded "
            "stem gives. Take padded; valid is for build_backbone and build_classifier."
        )
    return problems


def _normalises_one_pixel(config: ModelConfig, crop_size: tuple[int, int]) -> bool:
    """Whether a BatchNorm that learns sees a deepest tap of a single pixel."""
    limits = DECODERS[config.decoder].limits
    ours = not config.freeze_backbone or limits.aligned or config.auxiliary_weight > 0
    own = limits.norms_deepest and getattr(config, config.decoder).norm == "batch"
    largest = 1 if limits.aligned else config.output_stride
    return max(crop_size) <= largest and (own or (ours and config.norm == "batch"))


def _either(limits: DecoderLimits) -> str:
    return " or ".join(map(str, limits.output_strides))
