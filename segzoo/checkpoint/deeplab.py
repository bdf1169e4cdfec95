"""The segmenters that DeepLab's authors published, as trained networks of ours.

Their files hold variables and nothing else. The backbone, widths, pyramid and number of classes show in names and
shapes, and the number of classes tells the data set. What no file says is what its authors evaluated with, unless asked
otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segzoo.backbones.registry import build_backbone
from segzoo.backbones.weights.deeplab import backbone_names, decoder_names
from segzoo.backbones.weights.recognise import read_weights
from segzoo.backbones.weights.source import SourceWeights
from segzoo.backbones.xception import Xception
from segzoo.checkpoint.format import Description
from segzoo.config.classification import AnyRunConfig
from segzoo.config.load import config_from_tree
from segzoo.data.datasets import ade20k, cityscapes, voc
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import CheckpointError, ConfigError

_TRAINED_STRIDE = 16
_STEPS = 30_000  # a run of the authors'; nobody trains by this number here
_CELL = "meta_architecture/concat_projection/weights"
_PYRAMID = "concat_projection/weights"
_TAP = "decoder/feature_projection0/weights"
_REFINEMENT = "decoder/decoder_conv{}_pointwise/weights"
_LOGITS = "logits/semantic/weights"
_COUNTER = "num_batches_tracked"
_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Protocol:
    """What no file of DeepLab's says; None is what its authors evaluated with.

    Args:
        class_names: one for each class.
        output_stride: to evaluate at, 8 or 16.
        canvas: least height and width that images are padded to.
    """

    class_names: Sequence[str] | None = None
    output_stride: int | None = None
    canvas: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Published:
    """What the number of classes tells of a network: its data, their classes, and the sizes of training and canvas."""

    dataset: str
    labels: LabelSpace
    crop: int
    canvas: tuple[int, int]


_BY_CLASSES = {
    published.labels.num_classes: published
    for published in (
        _Published("voc", voc.LABELS, 513, (513, 513)),
        _Published("cityscapes", cityscapes.LABELS, 769, (1025, 2049)),
        _Published("ade20k", ade20k.SCORED, 513, (513, 513)),
    )
}


def read_published(file: Path, protocol: Protocol) -> tuple[Description, dict[str, Tensor]]:
    """What a file of DeepLab's describes, and its tensors by our names.

    Args:
        file: a checkpoint's index, a frozen graph, or an archive.
        protocol: what the file does not say.

    Raises:
        ConfigError: another number of class names than of classes.
        CheckpointError: refused, no segmenter, or with variables that ours has no place for.
    """
    weights = read_weights(file)
    if _LOGITS not in weights.behind:
        raise CheckpointError(
            f"{file}: holds no segmenter, but a backbone, which may start one: model.backbone.weights={file}."
        )
    published = _published(weights.behind[_LOGITS].shape[0], protocol)
    try:
        config = config_from_tree(_tree(file, weights, published, protocol))
    except ConfigError as error:
        raise CheckpointError(f"{file}: {problem}" for problem in error.problems) from None
    return Description(config, published.labels, metrics={}, step=0), _tensors(weights, config)


def _published(num_classes: int, protocol: Protocol) -> _Published:
    names, known = protocol.class_names, _BY_CLASSES.get(num_classes)
    if names is None and known is not None:
        return known
    names = [f"class_{number}" for number in range(num_classes)] if names is None else names
    if len(names) != num_classes:
        raise ConfigError(f"{len(names)} names of classes for a network of {num_classes}. Give one for each.")
    if known is not None and tuple(names) == known.labels.names:
        return known
    return _Published("folder", LabelSpace.from_names(names), 513, (513, 513))


def _tree(file: Path, weights: SourceWeights, published: _Published, protocol: Protocol) -> dict[str, Any]:
    """The configuration of a run that begins with this network."""
    pyramid = _CELL if _CELL in weights.behind else _PYRAMID
    refinements = [name for name in map(_REFINEMENT.format, range(16)) if name in weights.behind]
    deeplab = {
        "pyramid": "dpc" if pyramid is _CELL else "aspp",
        "aspp_channels": _channels(weights, pyramid),
        "low_level_channels": _channels(weights, _TAP),
        "decoder_channels": _channels(weights, _REFINEMENT.format(0)),
        "decoder_convolutions": len(refinements),
    }
    recipe = weights.recipe
    stride = protocol.output_stride or _TRAINED_STRIDE
    data: dict[str, Any] = {"name": published.dataset, "crop_size": published.crop}
    if published.dataset == "folder":
        data["classes"] = list(published.labels.names)
    if published.labels is ade20k.SCORED:
        data["ade20k"] = {"other": True}
    return {
        "data": data | {"preprocessing": {"mean": list(recipe.mean), "std": list(recipe.std)}},
        "model": {
            "weights": _origin(file),
            "decoder": "deeplabv3plus",
            "output_stride": _TRAINED_STRIDE,
            "eval_output_stride": None if stride == _TRAINED_STRIDE else stride,
            "canvas": list(protocol.canvas or published.canvas),
            "backbone": {
                "name": weights.backbone,
                "width": weights.width or 1.0,
                "norm_eps": recipe.norm_eps,
                "padding": recipe.padding,
            },
            "deeplab": deeplab,
        },
        "trainer": {"max_steps": _STEPS},
    }


def _origin(file: Path) -> str:
    """What to call the file: an index, whose name is much the same everywhere, with its folder's."""
    if file.suffix != ".index":
        return file.name
    return f"{file.absolute().parent.name}/{file.name.removesuffix('.index')}"


def _channels(weights: SourceWeights, name: str) -> int:
    found = weights.behind.get(name)
    if found is None or found.ndim != 4:
        raise CheckpointError(f"{weights.source}: no DeepLabV3+, which has a convolution {name}")
    return found.shape[0]


def _tensors(weights: SourceWeights, config: AnyRunConfig) -> dict[str, Tensor]:
    """All tensors, by the names of our network; whether they are complete is seen when they are loaded."""
    with torch.device("meta"):
        backbone = build_backbone(weights.backbone, width=config.model.backbone.width)
    names = backbone_names(backbone.full_plan) if isinstance(backbone, Xception) else {}
    parts = (("backbone", weights.tensors, names), ("decoder", weights.behind, decoder_names(weights.behind)))
    found: dict[str, Tensor] = {}
    for part, tensors, ours in parts:
        unknown = sorted(tensors.keys() - set(ours.values()))
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            raise CheckpointError(
                f"{weights.source}: has variables that no network here has: {', '.join(unknown[:_SHOWN])}{more}"
            )
        found |= {f"{part}.{name}": tensors[theirs] for name, theirs in ours.items() if theirs in tensors}
    counters = [name.removesuffix("running_mean") + _COUNTER for name in found if name.endswith(".running_mean")]
    return found | {name: torch.tensor(0) for name in counters}
