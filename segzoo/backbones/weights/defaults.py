"""The settings that weights bring along, for a run that does not set them itself."""

import logging
from typing import Any

from segzoo.backbones.weights.find import recipe_of
from segzoo.backbones.weights.published import find_published
from segzoo.backbones.weights.source import Recipe
from segzoo.config.classification import AnyRunConfig
from segzoo.config.schema import BackboneConfig, Preprocessing
from segzoo.errors import ConfigError

_logger = logging.getLogger(__name__)


def with_weights_settings(config: AnyRunConfig) -> AnyRunConfig:
    """A run's configuration, completed by what its pre-trained weights expect.

    Weights determine `data.preprocessing`, `model.backbone.norm_eps` and `model.backbone.padding` unless the
    configuration sets them itself; where it sets something else, that stays, and a warning says so. A classifier takes
    `model.backbone.stem_padding`, too; a segmenter's stem stays padded unless asked, also for weights trained with
    Keras' stem, because a decoder needs feature maps of ceil(size / stride) pixels.

    Raises:
        ConfigError: no such tag or file, or published weights for a network of another width.
        CheckpointError: the file is refused.
    """
    backbone = config.model.backbone
    if backbone.weights is None:
        return config
    if backbone.width != 1 and find_published(backbone.name, backbone.weights) is not None:
        raise ConfigError(
            f"model.backbone.width: {backbone.width}, but weights are published for width 1 only. "
            "Leave width out, or write model.backbone.weights=null."
        )
    recipe = recipe_of(backbone.name, backbone.weights, backbone.width)
    completed = backbone.model_copy(update=_backbone_settings(backbone, recipe, config.weights_settings))
    model = config.model.model_copy(update={"backbone": completed})
    data = config.data.model_copy(update=_data_settings(config, recipe))
    return config.model_copy(update={"model": model, "data": data})


def _backbone_settings(backbone: BackboneConfig, recipe: Recipe, keys: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key in keys:
        asked, expected = getattr(backbone, key), getattr(recipe, key)
        if key not in backbone.model_fields_set or asked is None:
            settings[key] = expected
        elif expected is not None and asked != expected:
            _warn(f"model.backbone.{key}", asked, backbone.weights, expected)
    return settings


def _data_settings(config: AnyRunConfig, recipe: Recipe) -> dict[str, Any]:
    asked, expected = config.data.preprocessing, _preprocessing(recipe, config.data.channels)
    if "preprocessing" not in config.data.model_fields_set:
        return {"preprocessing": expected}
    for key in ("mean", "std"):
        if getattr(asked, key) != getattr(expected, key):
            _warn(
                f"data.preprocessing.{key}",
                list(getattr(asked, key)),
                config.model.backbone.weights,
                list(getattr(expected, key)),
            )
    return {}


def _preprocessing(recipe: Recipe, channels: int) -> Preprocessing:
    """What the weights expect of RGB, for as many channels: repeated in turn, as `adapt_channels` does with kernels."""
    turns = range(channels)
    return Preprocessing(
        mean=tuple(recipe.mean[turn % len(recipe.mean)] for turn in turns),
        std=tuple(recipe.std[turn % len(recipe.std)] for turn in turns),
    )


def _warn(key: str, asked: object, weights: object, expected: object) -> None:
    _logger.warning("%s is %s as you ask, but the weights %s expect %s", key, asked, weights, expected)
