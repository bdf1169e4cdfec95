"""The networks that are measured: ours, and those that a user would run instead."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from laboratory.baseline import ENCODER, as_segmenter, baseline_network
from laboratory.benchmarks.settings import Settings
from segzoo.backbones.describe import measure
from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import BackboneConfig, ModelConfig, RunConfig
from segzoo.data.datasets.spec import count_classes
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter
from segzoo.models.segmenter import Segmenter, pad_to_multiple

CHANNELS = 3

_STRIDE: Final = 16
_SETTLING = 96  # pixels a side of the images that give norms their statistics
_SMALL_ENCODER = "mobilenet_v2"
_SMALL_WIDTH = 0.125


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Args:
        title: of it, in tables.
        build: makes it, with random weights; another process can import it.
        model: the model section that it is built from, where it is ours.
        divisor: of the heights and widths that it takes.
    """

    title: str
    build: Callable[[], nn.Module]
    model: ModelConfig | None = None
    divisor: int = 1

    def network(self) -> nn.Module:
        """The network in evaluation, with the same random weights at each call, its norms as after training."""
        return copy.deepcopy(_settled(self.build))

    def macs(self, batch: int, size: int) -> int:
        """Multiply-adds of a forward pass of square images."""
        with torch.device("meta"), torch.no_grad():
            network = self.fitted(self.build(), size).eval()
            return measure(network, torch.empty(batch, CHANNELS, size, size)).total.macs

    def fitted(self, network: nn.Module, size: int) -> nn.Module:
        """The network, with the padding that whoever uses it has to put around it for square images of this size."""
        return Padded(network, self.divisor) if size % self.divisor else network


class Padded(nn.Module):
    """A network that refuses odd sizes, made to take them.

    Args:
        network: image in, logits of its size out.
        divisor: of the heights and widths that it takes.
    """

    def __init__(self, network: nn.Module, divisor: int) -> None:
        super().__init__()
        self.network = network
        self.divisor = divisor

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K, H, W) of images (N, C, H, W)."""
        logits: Tensor = self.network(pad_to_multiple(image, self.divisor))
        return logits[..., : image.shape[-2], : image.shape[-1]]


@dataclass(frozen=True)
class Subjects:
    """What to measure together.

    Args:
        baseline: what a user would run instead, and all are compared with.
        ours: beside them.
    """

    baseline: Subject
    ours: tuple[Subject, ...]


def segmentation_subjects(config: RunConfig, settings: Settings, model: ModelConfig) -> Subjects:
    """DeepLabV3+ of SMP on timm's Xception-65; the configuration's network; ours of the same architecture as SMP's.

    Args:
        config: says how many classes there are.
        settings: whether small ones do.
        model: the configuration's model section, at the output stride that is wanted.

    Raises:
        ConfigError: the images are not RGB, which the baseline takes.
    """
    if config.data.channels != CHANNELS:
        raise ConfigError(f"data.channels: {config.data.channels}, but the networks to compare with take {CHANNELS}.")
    classes = numbered_labels(config).num_classes
    encoder = _SMALL_ENCODER if settings.quick else ENCODER
    baseline = Subject(f"SMP, {encoder}", partial(baseline_network, classes, encoder), divisor=_STRIDE)
    alike = baseline_architecture(_SMALL_WIDTH if settings.quick else 1.0)
    ours = (_ours(model, classes), _ours(alike, classes)) if model != alike else (_ours(model, classes),)
    return Subjects(baseline, ours)


def baseline_architecture(width: float = 1.0) -> ModelConfig:
    """The model section of the same architecture as SMP's DeepLabV3+ on timm's Xception-65."""
    backbone = BackboneConfig(name="xception65", width=width)
    return ModelConfig(decoder="deeplabv3plus_smp", output_stride=_STRIDE, backbone=backbone)


def numbered_labels(config: RunConfig) -> LabelSpace:
    """As many classes as the data set has; the subjects of `segmentation_subjects` have as many."""
    classes, _ = count_classes(config.data)
    return LabelSpace.from_names([str(index) for index in range(classes)])


def as_trained(network: nn.Module, config: RunConfig, labels: LabelSpace) -> TrainedSegmenter:
    """A network as engines take it: the same modules, so the same numbers.

    Args:
        network: a segmenter, or `baseline_network`'s result.
        config: says how pixels become input.
        labels: of its classes.
    """
    segmenter = network if isinstance(network, Segmenter) else as_segmenter(network)
    return TrainedSegmenter(segmenter, Description(config, labels, metrics={}, step=0), Path("random.ckpt"))


@torch.no_grad()
def settle(network: nn.Module) -> None:
    """Give norms the statistics of what they see, as training does.

    Without, the values grow or fade from layer to layer, down to numbers so small that processors slow down, and
    differences between precisions say nothing.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(torch.rand(2, CHANNELS, _SETTLING, _SETTLING) * 2 - 1)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@lru_cache(maxsize=1)  # many cases in a row are of one network, and drawing its weights takes seconds
def _settled(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = build()
    settle(network)
    return network.eval()


def _ours(model: ModelConfig, classes: int) -> Subject:
    width = "" if model.backbone.width == 1 else f" ×{model.backbone.width:g}"
    title = f"segzoo, {model.decoder} on {model.backbone.name}{width}"
    return Subject(title, partial(build_segmenter, model, classes, in_channels=CHANNELS, pretrained=False), model)
