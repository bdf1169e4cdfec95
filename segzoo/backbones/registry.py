"""Backbones by name, and the functions that build them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar

from segzoo.backbones.aligned_xception import XCEPTION41, XCEPTION65, XCEPTION71, AlignedXception
from segzoo.backbones.classifier import Classifier
from segzoo.backbones.spec import Backbone, check_promises
from segzoo.backbones.strides import Block
from segzoo.backbones.weights import load_weights
from segzoo.backbones.xception import XCEPTION, Xception
from segzoo.config.model import BackboneConfig, BackboneOptions, BackboneSwitches, NormSettings
from segzoo.config.problems import checked
from segzoo.config.sections import PartRegistry, Section
from segzoo.errors import ConfigError, did_you_mean

BackboneBuilder = Callable[[BackboneOptions], Backbone]

BuilderT = TypeVar("BuilderT", bound=Callable[..., Backbone])
"""A `BackboneBuilder`, which has the backbone's own options as a second argument where it was registered with some."""


@dataclass(frozen=True)
class RegisteredBackbone:
    """A backbone as its registry knows it: how to build it, and what it takes beside `BackboneOptions`."""

    build: Callable[..., Backbone]
    options: type[Section] | None


BACKBONES = PartRegistry[RegisteredBackbone](BackboneConfig)


def register_backbone(
    name: str, *, options: type[Section] | None = None, replace: bool = False
) -> Callable[[BuilderT], BuilderT]:
    """Register a function that builds a backbone, for `build_backbone` and configurations to name.

    What it builds is tried once, on an image of zeros: it has to give the maps that it promises.

    >>> @register_backbone("mine")
    ... def mine(options: BackboneOptions) -> Backbone: ...

    Args:
        name: what `build_backbone` and configurations call it.
        options: its own, a class that extends `segzoo.Section`, with a default for each. They are keywords of
            `build_backbone` and the keys `model.backbone.NAME.*` of a configuration, and the builder gets them as a
            second argument.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken, or options that no configuration can hold.
    """
    for key in BackboneOptions.model_fields.keys() & (options.model_fields if options else {}):
        raise ConfigError(f"backbone {name!r}: {key} is an option of every backbone. Give its own another name.")

    def register(build: BuilderT) -> BuilderT:
        def tried(*arguments: Section) -> Backbone:
            backbone = build(*arguments)
            check_promises(name, backbone)
            return backbone

        BACKBONES.add_part(name, RegisteredBackbone(tried, options), options, (), replace=replace)
        return build

    return register


def list_backbones() -> list[str]:
    """The names `build_backbone` knows, sorted."""
    return list(BACKBONES)


def build_backbone(name: str, *, weights: str | PathLike[str] | None = None, **options: Any) -> Backbone:
    """Build a backbone.

    >>> backbone = build_backbone("xception", output_stride=16, width=0.25)
    >>> [(spec.channels, spec.stride) for spec in backbone.feature_specs]
    [(32, 2), (64, 4), (184, 8), (256, 16), (512, 16)]

    Args:
        name: a variant, see `list_backbones`.
        weights: a published tag (imagenet), or the path of a file (Keras, timm, Cadene, DeepLab, segzoo) or run
            directory; None starts at random. Eps and paddings stay those asked for here:
            `segzoo.backbones.weights.recipe_of` says what the weights expect.
        options: `BackboneOptions` explains them, and holds their defaults; and those that a backbone of your own was
            registered with.

    Raises:
        UnknownNameError: no backbone has this name.
        ConfigError: an option is unknown or out of range, or the weights do not exist or cannot be downloaded.
        CheckpointError: the weights file does not fit this network exactly.
    """
    registered = BACKBONES[name]
    backbone = registered.build(*_checked_options(options, registered.options))
    if weights is not None:
        load_weights(backbone, weights)
    return backbone


def _checked_options(asked: Mapping[str, Any], own: type[Section] | None) -> list[Section]:
    """The options of every backbone, and its own.

    Raises:
        ConfigError: one line for each that is unknown or wrong.
    """
    kinds: list[type[Section]] = [BackboneOptions] if own is None else [BackboneOptions, own]
    known = [key for kind in kinds for key in kind.model_fields]
    problems = [f"{key}: unknown option. {did_you_mean(key, ['weights', *known])}" for key in asked if key not in known]
    sections = []
    for kind in kinds:
        try:
            sections.append(checked(kind, {key: asked[key] for key in kind.model_fields if key in asked}))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return sections


def backbone_of(config: NormSettings, backbone: BackboneConfig, *, pretrained: bool, **options: Any) -> Backbone:
    """Build the backbone of a configuration.

    Args:
        config: the model section, which states the norms.
        backbone: the section of the backbone in it.
        pretrained: load the weights that the configuration names.
        options: options of `build_backbone` that no configuration states.

    Raises:
        ConfigError: unknown names, or parts that do not fit together.
    """
    stated = {key: getattr(config, key) for key in NormSettings.model_fields}
    stated |= {key: getattr(backbone, key) for key in BackboneSwitches.model_fields}
    own = BACKBONES[backbone.name].options
    if own is not None:
        stated |= dict(backbone.part(backbone.name, own))
    return build_backbone(backbone.name, weights=backbone.weights if pretrained else None, **stated, **options)


def build_classifier(
    name: str,
    num_classes: int = 1000,
    *,
    weights: str | PathLike[str] | None = None,
    dropout: float = 0.5,
    fc_width: int | Sequence[int] | None = None,
    **backbone: Any,
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
        backbone: options of `build_backbone`.

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


def _xception(options: BackboneOptions) -> Backbone:
    """Chollet's network, with Keras' eps."""
    return Xception(XCEPTION, options.with_default_eps(1e-3))


def _aligned(blocks: tuple[Block, ...], norm_eps: float, *, preactivation: bool = False) -> BackboneBuilder:
    """A builder of one variant of Modified Aligned Xception."""

    def build(options: BackboneOptions) -> Backbone:
        return AlignedXception(blocks, options.with_default_eps(norm_eps), preactivation=preactivation)

    return build


# Not by `register_backbone`, which tries what it builds: the tests do that with these.
for _name, _build in {
    "xception": _xception,
    "xception41": _aligned(XCEPTION41, 1e-3),
    "xception65": _aligned(XCEPTION65, 1e-3),
    "xception71": _aligned(XCEPTION71, 1e-3),
    "xception41p": _aligned(XCEPTION41, 1e-5, preactivation=True),
    "xception65p": _aligned(XCEPTION65, 1e-3, preactivation=True),
}.items():
    BACKBONES.add_part(_name, RegisteredBackbone(_build, None), None, ())
