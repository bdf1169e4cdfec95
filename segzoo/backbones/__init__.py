"""Feature extractors: the Xception family at every output stride, and a registry for more."""

from segzoo.backbones.registry import build_backbone, build_classifier, list_backbones, register_backbone
from segzoo.backbones.spec import Backbone, FeatureSpec
from segzoo.config.model import BackboneOptions

__all__ = [
    "Backbone",
    "BackboneOptions",
    "FeatureSpec",
    "build_backbone",
    "build_classifier",
    "list_backbones",
    "register_backbone",
]
