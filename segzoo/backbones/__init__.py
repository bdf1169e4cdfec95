"""Feature extractors: the Xception family at every output stride, and a registry for more."""

from segzoo.backbones.options import BackboneOptions
from segzoo.backbones.registry import build_backbone, build_classifier, list_backbones, register_backbone
from segzoo.backbones.spec import Backbone, FeatureSpec

__all__ = [
    "Backbone",
    "BackboneOptions",
    "FeatureSpec",
    "build_backbone",
    "build_classifier",
    "list_backbones",
    "register_backbone",
]
