"""From configuration to network."""

from segzoo.backbones import build_backbone
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.decoder import DECODERS
from segzoo.models.segmenter import Segmenter
from segzoo.models.smp import decoders as _smp_decoders  # noqa: F401  (registers SMP's decoders)


def build_segmenter(
    config: ModelConfig, num_classes: int, *, in_channels: int = 3, pretrained: bool = True
) -> Segmenter:
    """Build the network of a configuration, with fresh or pre-trained backbone weights.

    Args:
        config: the model section.
        num_classes: channels of the logits.
        in_channels: channels of the image.
        pretrained: load the weights that the configuration names; not where a checkpoint brings its own.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    if config.backbone.stem_padding != "padded":
        raise ConfigError(
            "model.backbone.stem_padding: a decoder needs taps of ceil(size / stride) pixels, which only the padded "
            "stem gives. Take padded; valid is for build_backbone and build_classifier."
        )
    build_decoder = DECODERS[config.decoder]
    backbone = build_backbone(
        config.backbone.name,
        output_stride=config.output_stride,
        in_channels=in_channels,
        weights=config.backbone.weights if pretrained else None,
        width=config.backbone.width,
        padding=config.backbone.padding,
        stem_padding=config.backbone.stem_padding,
        norm_eps=config.backbone.norm_eps,
        norm_momentum=config.norm_momentum,
        residual=config.backbone.residual,
        depthwise_activation=config.backbone.depthwise_activation,
        depth_multiplier=config.backbone.depth_multiplier,
        pointwise_first=config.backbone.pointwise_first,
        channel_segments=config.backbone.channel_segments,
        drop_path=config.backbone.drop_path,
        gradient_checkpointing=config.backbone.gradient_checkpointing,
    )
    return Segmenter(backbone, build_decoder(backbone.feature_specs, num_classes, config))


def list_decoders() -> list[str]:
    """Names for `model.decoder`."""
    return list(DECODERS)
