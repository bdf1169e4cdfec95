"""Backbones by name, and the functions that build them."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Unpack

from segzoo.backbones.aligned_xception import XCEPTION41, XCEPTION65, XCEPTION71, AlignedXception
from segzoo.backbones.classifier import Classifier
from segzoo.backbones.options import (
    BackboneKeywords,
    BackboneOptions,
    DepthwiseActivation,
    NormName,
    Padding,
    StemPadding,
)
from segzoo.backbones.promises import check_promises
from segzoo.backbones.spec import Backbone
from segzoo.backbones.strides import Block
from segzoo.backbones.weights import load_weights
from segzoo.backbones.xception import XCEPTION, Xception
from segzoo.registry import Registry

BackboneBuilder = Callable[[BackboneOptions], Backbone]

BACKBONES = Registry[BackboneBuilder]("backbone")
"""All that can be built, by name."""


def register_backbone(name: str, *, replace: bool = False) -> Callable[[BackboneBuilder], BackboneBuilder]:
    """Register a function that builds a backbone, for `build_backbone` and configurations to name.

    What it builds is tried once, on an image of zeros: it has to give the maps that it promises.

    >>> @register_backbone("mine")
    ... def mine(options: BackboneOptions) -> Backbone: ...

    Args:
        name: what `build_backbone` and configurations call it.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken.
    """

    def register(build: BackboneBuilder) -> BackboneBuilder:
        def tried(options: BackboneOptions) -> Backbone:
            backbone = build(options)
            check_promises(name, backbone)
            return backbone

        BACKBONES.add(name, tried, replace=replace)
        return build

    return register


def list_backbones() -> list[str]:
    """The names `build_backbone` knows, sorted."""
    return list(BACKBONES)


def build_backbone(
    name: str,
    *,
    output_stride: int = 32,
    depth: int = 5,
    in_channels: int = 3,
    weights: str | PathLike[str] | None = None,
    width: float = 1.0,
    padding: Padding = "symmetric",
    stem_padding: StemPadding = "padded",
    norm: NormName = "batch",
    norm_momentum: float = 0.1,
    norm_eps: float | None = None,
    residual: bool = True,
    depthwise_activation: DepthwiseActivation = "none",
    depth_multiplier: int = 1,
    pointwise_first: bool = False,
    channel_segments: int | None = None,
    drop_path: float = 0.0,
    gradient_checkpointing: bool = False,
) -> Backbone:
    """Build a backbone.

    >>> backbone = build_backbone("xception", output_stride=16, width=0.25)
    >>> [(spec.channels, spec.stride) for spec in backbone.feature_specs]
    [(32, 2), (64, 4), (184, 8), (256, 16), (512, 16)]

    Args:
        name: a variant, see `list_backbones`.
        output_stride: image pixels between two pixels of the deepest feature map: 8, 16 or 32.
        depth: number of feature maps; modules that only deeper maps need are not built.
        in_channels: channels of the image. Weights of RGB images are adapted, see `segzoo.backbones.weights`.
        weights: a published tag (imagenet), or the path of a file (Keras, timm, Cadene, segzoo) or run directory; None
            starts at random. Eps and paddings stay those asked for here: `segzoo.backbones.weights.recipe_of` says
            what the weights expect.
        width: multiplies every channel count, rounded to multiples of 8.
        padding: symmetric pads strided kernels on both sides, for dense prediction; same is TensorFlow's rule and
            gives Keras' numbers for `xception`.
        stem_padding: padded makes feature maps of ceil(size / stride) pixels; valid is the stem of Chollet's
            network, of Keras, and of timm's `legacy_xception`.
        norm: batch, group (GroupNorm, for small batches), or frozen (BatchNorm that never moves or learns).
        norm_momentum: share of a new batch in BatchNorm's running statistics. The DeepLab papers' decay 0.9997 is
            0.0003, for runs of 30,000 steps.
        norm_eps: added to the variance in every norm; None is the variant's own.
        residual: keep the shortcuts around modules (Chollet, section 4.6, Fig. 9).
        depthwise_activation: what stands between the depthwise and the pointwise half of a separable convolution
            (section 4.7, Fig. 10).
        depth_multiplier: spatial filters per channel in a separable convolution (1 in the paper).
        pointwise_first: the pointwise half first, the "extreme Inception" of section 1.2, Fig. 4.
        channel_segments: groups of channels that share their spatial filters: 1 is a plain convolution beside the
            pointwise one, None one segment per channel (sections 1.2 and 5).
        drop_path: probability of leaving out the last module's body in training; earlier modules less, in proportion.
        gradient_checkpointing: recompute activations in the backward pass: slower, for less memory.

    Raises:
        UnknownNameError: no backbone has this name.
        ConfigError: a value is out of range, or the weights do not exist or cannot be downloaded.
        CheckpointError: the weights file does not fit this network exactly.
    """
    options = BackboneOptions(
        output_stride=output_stride,
        depth=depth,
        in_channels=in_channels,
        width=width,
        padding=padding,
        stem_padding=stem_padding,
        norm=norm,
        norm_momentum=norm_momentum,
        norm_eps=norm_eps,
        residual=residual,
        depthwise_activation=depthwise_activation,
        depth_multiplier=depth_multiplier,
        pointwise_first=pointwise_first,
        channel_segments=channel_segments,
        drop_path=drop_path,
        gradient_checkpointing=gradient_checkpointing,
    )
    backbone = BACKBONES[name](options)
    if weights is not None:
        load_weights(backbone, weights)
    return backbone


def build_classifier(
    name: str,
    num_classes: int = 1000,
    *,
    weights: str | PathLike[str] | None = None,
    dropout: float = 0.5,
    fc_width: int | Sequence[int] | None = None,
    **backbone: Unpack[BackboneKeywords],
) -> Classifier:
    """Build an image classifier: a backbone and the paper's head.

    Args:
        name: a variant, see `list_backbones`.
        num_classes: classes to tell apart.
        weights: as for `build_backbone`. The file's head is loaded where its layers agree with this one's; else, which
            the log says, the head starts at random.
        dropout: probability of dropping a feature before the class scores: 0.5 for ImageNet in the paper, 0 for JFT.
        fc_width: widths of fully connected layers in front of the class scores, such as [100]; one number is the width
            of two (4096 in section 4.5.1, Fig. 7 and 8); None for none.
        backbone: keywords of `build_backbone`.

    Raises:
        UnknownNameError: no backbone has this name.
        ConfigError: a value is out of range, or the weights do not exist or cannot be downloaded.
        CheckpointError: the weights file does not fit this network exactly.
    """
    network = build_backbone(name, **backbone)
    classifier = Classifier(network, num_classes, dropout=dropout, fc_width=fc_width)
    if weights is not None:
        load_weights(classifier, weights)
    return classifier


@BACKBONES.register("xception")
def _xception(options: BackboneOptions) -> Backbone:
    """Chollet's network, with Keras' eps."""
    return Xception(XCEPTION, options.with_default_eps(1e-3))


def _aligned(blocks: tuple[Block, ...], norm_eps: float, *, preactivation: bool = False) -> BackboneBuilder:
    """A builder of one variant of Modified Aligned Xception."""

    def build(options: BackboneOptions) -> Backbone:
        return AlignedXception(blocks, options.with_default_eps(norm_eps), preactivation=preactivation)

    return build


BACKBONES.add("xception41", _aligned(XCEPTION41, 1e-3))
BACKBONES.add("xception65", _aligned(XCEPTION65, 1e-3))
BACKBONES.add("xception71", _aligned(XCEPTION71, 1e-3))
BACKBONES.add("xception41p", _aligned(XCEPTION41, 1e-5, preactivation=True))
BACKBONES.add("xception65p", _aligned(XCEPTION65, 1e-3, preactivation=True))
