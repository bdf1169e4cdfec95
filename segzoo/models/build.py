"""From configuration to network."""

from segzoo.backbones.promises import check_taps
from segzoo.backbones.registry import backbone_of
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models import deeplabv3plus as _deeplab  # noqa: F401  (registers the papers' decoders)
from segzoo.models.auxiliary import AuxiliaryHead
from segzoo.models.decoder import DECODERS
from segzoo.models.decoder import (
    register_decoder as register_decoder,  # once ours are there: no name can be taken twice
)
from segzoo.models.segmenter import Segmenter
from segzoo.models.smp import decoders as _smp_decoders  # noqa: F401  (registers SMP's decoders)


def model_problems(config: ModelConfig) -> list[str]:
    """A line for each reason why no network can be built: what nothing reads, an output stride, a stem."""
    strides = DECODERS[config.decoder].output_strides
    problems = [f"model: {line}" for line in config.unread_options()]
    problems += [
        f"{key}: {config.decoder} works at output stride {' or '.join(map(str, strides))}, not {stride}. Take that, or "
        "another decoder."
        for key, stride in (
            ("model.output_stride", config.output_stride),
            ("model.eval_output_stride", config.eval_output_stride),
        )
        if stride is not None and stride not in strides
    ]
    if config.backbone.stem_padding != "padded":
        problems.append(
            "model.backbone.stem_padding: a decoder needs taps of ceil(size / stride) pixels, which only the padded "
            "stem gives. Take padded; valid is for build_backbone and build_classifier."
        )
    return problems


def check_model(config: ModelConfig) -> None:
    """Refuse combinations that no network can be built for.

    Raises:
        ConfigError: an unknown decoder, an output stride that it does not work at, or a stem that does not pad.
    """
    problems = model_problems(config)
    if problems:
        raise ConfigError(problems)


def build_segmenter(
    config: ModelConfig, num_classes: int, *, in_channels: int = 3, pretrained: bool = True
) -> Segmenter:
    """Build the network of a configuration, with fresh or pre-trained backbone weights, at `model.output_stride`.

    Args:
        config: the model section.
        num_classes: channels of the logits.
        in_channels: channels of the image.
        pretrained: load the weights that the configuration names; not where a checkpoint brings its own.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    check_model(config)
    backbone = backbone_of(
        config,
        config.backbone,
        pretrained=pretrained,
        output_stride=config.output_stride,
        in_channels=in_channels,
    )
    if config.freeze_backbone:
        backbone.freeze()
    taps = backbone.feature_specs
    check_taps(config.backbone.name, taps, config.output_stride)
    decoder = DECODERS[config.decoder].build(taps, num_classes, config)
    if hasattr(decoder, "size_divisor"):  # its name before, which nothing would pad to any more
        raise ConfigError(f"decoder {config.decoder!r}: size_divisor is called size_multiple now.")
    auxiliary = AuxiliaryHead(taps[-2], num_classes, config) if config.auxiliary_weight else None
    segmenter = Segmenter(backbone, decoder, auxiliary, config.canvas or (1, 1))
    segmenter.built_from = config
    return segmenter


def list_decoders() -> list[str]:
    """Names for `model.decoder`."""
    return list(DECODERS)
