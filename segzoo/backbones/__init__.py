"""Feature extractors: the Xception family at every output stride, a registry for more, and their published weights.

A network is a table of blocks (`xception`, `aligned_xception`) that `strides` plans before any tensor exists.
Backbones import the configuration (`segzoo.config`) and what is below it; no data, decoders or tasks.
"""

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
