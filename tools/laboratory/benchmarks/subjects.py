"""The networks that are measured: ours, and those that a user would run instead."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from laboratory.baseline import ENCODER, as_segmenter, baseline_network
from laboratory.benchmarks.settings import Settings
from laboratory.benchmarks.work import Work, count_work
from segzoo.backbones import build_classifier
from segzoo.backbones.classifier import Classifier
from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.schema import BackboneConfig, ModelConfig, RunConfig
from segzoo.data.dataset import count_classes
from segzoo.data.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter
from segzoo.models.decoder import Decoder
from segzoo.models.evaluation import evaluation_config
from segzoo.models.segmenter import Segmenter, pad_to_multiple

CHANNELS = 3
IMAGENET_CLASSES = 1000

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
        model: the model section that it is built from, where it is a segmenter of ours.
        fits_engines: whether `as_trained` takes it.
        is_ours: whether it is.
        divisor: of the heights and widths that it takes.
        classifies: images, not pixels.
    """

    title: str
    build: Callable[[], nn.Module]
    model: ModelConfig | None = None
    fits_engines: bool = True
    is_ours: bool = True
    divisor: int = 1
    classifies: bool = False

    def network(self) -> nn.Module:
        """The network in evaluation, with the same random weights at each call, its norms as after training."""
        return copy.deepcopy(_settled(self.build))

    def work(self, batch: int, size: int) -> Work:
        """What a forward pass of square images takes."""
        with torch.device("meta"):
            return count_work(self.fitted(self.build(), size), torch.empty(batch, CHANNELS, size, size))

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
        baselines: what a user would run instead; the first is what all are compared with.
        ours: beside them.
    """

    baselines: tuple[Subject, ...]
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
    baseline = Subject(f"SMP, {encoder}", partial(baseline_network, classes, encoder), is_ours=False, divisor=_STRIDE)
    alike = baseline_architecture(_SMALL_WIDTH if settings.quick else 1.0)
    ours = (_ours(model, classes), _ours(alike, classes)) if model != alike else (_ours(model, classes),)
    return Subjects((baseline,), ours)


def classification_subjects() -> Subjects:
    """Chollet's network of timm, Inception-v3, which the paper compares it with, and ours as timm has it."""
    baselines = [
        Subject(
            f"timm, {name}",
            partial(timm.create_model, name, num_classes=IMAGENET_CLASSES),
            is_ours=False,
            fits_engines=False,
            classifies=True,
        )
        for name in ("legacy_xception", "inception_v3")
    ]
    build = partial(build_classifier, "xception", IMAGENET_CLASSES, stem_padding="valid")
    ours = Subject("segzoo, xception", build, classifies=True)
    return Subjects(tuple(baselines), (ours,))


def baseline_architecture(width: float = 1.0) -> ModelConfig:
    """The model section of the same architecture as SMP's DeepLabV3+ on timm's Xception-65."""
    backbone = BackboneConfig(name="xception65", width=width)
    return ModelConfig(decoder="deeplabv3plus_smp", output_stride=_STRIDE, backbone=backbone)


def numbered_labels(config: RunConfig) -> LabelSpace:
    """As many classes as the data set has; the subjects of `segmentation_subjects` have as many."""
    classes, _ = count_classes(config.data)
    return LabelSpace.from_names([str(index) for index in range(classes)])


def untrained(config: RunConfig, labels: LabelSpace) -> TrainedSegmenter:
    """A configuration's network at the stride it is evaluated at, with random weights, which cost as much."""
    model = evaluation_config(config.model)
    segmenter = build_segmenter(model, labels.num_classes, in_channels=config.data.channels, pretrained=False)
    return as_trained(segmenter.eval(), config, labels)


def as_trained(network: nn.Module, config: RunConfig, labels: LabelSpace) -> TrainedSegmenter:
    """A network as engines take it: the same modules, so the same numbers.

    Args:
        network: a segmenter, `baseline_network`'s result, or one of our classifiers.
        config: says how pixels become input.
        labels: of its classes; for a classifier, which knows them by number, any.
    """
    return TrainedSegmenter(_segmenter(network), Description(config, labels, metrics={}, step=0), Path("random.ckpt"))


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


class PooledClasses(Decoder):
    """A classifier's head as a decoder, which makes it a network that engines take: one pixel of class scores.

    Args:
        classifier: whose head it is.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.fully_connected, self.logits = classifier.fully_connected, classifier.logits

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Scores (N, num_classes, 1, 1) of the deepest tap."""
        scores: Tensor = self.logits(self.fully_connected(features[-1].mean(dim=(2, 3))))
        return scores[..., None, None]


@lru_cache(maxsize=1)  # many cases in a row are of one network, and drawing its weights takes seconds
def _settled(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = build()
    settle(network)
    return network.eval()


def _segmenter(network: nn.Module) -> Segmenter:
    if isinstance(network, Segmenter):
        return network
    if isinstance(network, Classifier):
        return Segmenter(network.backbone, PooledClasses(network)).eval()
    return as_segmenter(network)


def _ours(model: ModelConfig, classes: int) -> Subject:
    width = "" if model.backbone.width == 1 else f" ×{model.backbone.width:g}"
    title = f"segzoo, {model.decoder} on {model.backbone.name}{width}"
    return Subject(title, partial(build_segmenter, model, classes, in_channels=CHANNELS, pretrained=False), model)
