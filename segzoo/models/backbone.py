"""From configuration to backbone."""

from segzoo.backbones import Backbone, build_backbone
from segzoo.config.classification import ClassifierModelConfig
from segzoo.config.schema import ModelConfig


def build_configured_backbone(
    config: ModelConfig | ClassifierModelConfig, *, output_stride: int, in_channels: int, pretrained: bool
) -> Backbone:
    """Build the backbone of a model section.

    Args:
        config: its norms, and its `backbone` section.
        output_stride: of the deepest tap.
        in_channels: channels of the image.
        pretrained: load the weights that the configuration names.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    backbone = config.backbone
    return build_backbone(
        backbone.name,
        output_stride=output_stride,
        in_channels=in_channels,
        weights=backbone.weights if pretrained else None,
        width=backbone.width,
        padding=backbone.padding,
        stem_padding=backbone.stem_padding,
        norm=config.norm,
        norm_eps=backbone.norm_eps,
        norm_momentum=config.norm_momentum,
        residual=backbone.residual,
        depthwise_activation=backbone.depthwise_activation,
        depth_multiplier=backbone.depth_multiplier,
        pointwise_first=backbone.pointwise_first,
        channel_segments=backbone.channel_segments,
        drop_path=backbone.drop_path,
        gradient_checkpointing=backbone.gradient_checkpointing,
    )
