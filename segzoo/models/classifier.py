"""From configuration to classifier."""

from segzoo.backbones import Backbone
from segzoo.backbones.classifier import Classifier
from segzoo.backbones.registry import backbone_of
from segzoo.config.classification import ClassifierModelConfig
from segzoo.errors import ConfigError

OUTPUT_STRIDE = 32


def build_configured_classifier(
    config: ClassifierModelConfig, num_classes: int, *, in_channels: int = 3, pretrained: bool = True
) -> Classifier:
    """Build the classifier of a configuration, with fresh or pre-trained backbone weights.

    Args:
        config: the model section.
        num_classes: class scores.
        in_channels: channels of the image.
        pretrained: load the weights that the configuration names; not where a checkpoint brings its own.

    Raises:
        ConfigError: unknown names, or more modules to freeze than there are.
    """
    backbone = backbone_of(
        config, config.backbone, pretrained=pretrained, output_stride=OUTPUT_STRIDE, in_channels=in_channels
    )
    _freeze(backbone, config)
    return Classifier(backbone, num_classes, dropout=config.dropout, fc_width=config.fc_width)


def _freeze(backbone: Backbone, config: ClassifierModelConfig) -> None:
    modules, asked = len(backbone.in_order()), config.frozen_modules
    if asked == "all":
        backbone.freeze()
    elif asked > modules:
        raise ConfigError(
            f"model.frozen_modules: {asked}, but {config.backbone.name} has {modules} modules. Take all, or up to "
            f"{modules}."
        )
    elif asked:
        backbone.freeze(asked)
