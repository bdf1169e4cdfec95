"""From configuration to network."""

from segzoo.backbones import build_backbone
from segzoo.config.schema import ModelConfig
from segzoo.models.decoder import DECODERS
from segzoo.models.segmenter import Segmenter
from segzoo.models.smp import decoders as _smp_decoders  # noqa: F401  (registers SMP's decoders)


def build_segmenter(config: ModelConfig, num_classes: int, *, in_channels: int = 3) -> Segmenter:
    """Build the network of a configuration, with fresh or pre-trained backbone weights.

    Args:
        config: the model section.
        num_classes: channels of the logits.
        in_channels: channels of the image.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    build_decoder = DECODERS[config.decoder]
    backbone = build_backbone(
        config.backbone.name,
        output_stride=config.output_stride,
        in_channels=in_channels,
        weights=config.backbone.weights,
        width=config.backbone.width,
        padding=config.backbone.padding,
        stem_padding=config.backbone.stem_padding,
        norm_momentum=config.norm_momentum,
    )
    return Segmenter(backbone, build_decoder(backbone.feature_specs, num_classes, config))


def list_decoders() -> list[str]:
    """Names for `model.decoder`."""
    return list(DECODERS)
