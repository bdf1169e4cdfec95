"""What backbones and networks promise, and whether they keep it: feature maps as described, taps, finite scores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from segzoo.errors import ConfigError, DataError, first_line

_SIZE = (64, 97)  # a side that every stride divides, and one that none does


@dataclass(frozen=True)
class FeatureSpec:
    """One feature map ("tap") of a backbone.

    Args:
        channels: channels of the map.
        stride: image pixels between two pixels of the map.
        dilation: rate of the convolutions that made it.
        name: the module it is taken from, as in `state_dict`.
        activated: whether it is taken behind its ReLU. The first four taps of the Xceptions are not: a decoder
            that expects activated features applies the ReLU itself.
    """

    channels: int
    stride: int
    dilation: int = 1
    name: str = ""
    activated: bool = False


class Backbone(nn.Module, ABC):
    """A feature extractor: an image in, feature maps out, shallow to deep.

    A network of your own subclasses it, implements `forward`, and is registered with `register_backbone`.

    Args:
        feature_specs: one per feature map that `forward` returns, shallow to deep.
        output_stride: stride of the deepest map.
        in_channels: channels of the image.
    """

    def __init__(self, feature_specs: tuple[FeatureSpec, ...], *, output_stride: int, in_channels: int) -> None:
        super().__init__()
        self.feature_specs = feature_specs
        self.output_stride = output_stride
        self.in_channels = in_channels
        self.frozen = False
        self._frozen_modules = 0

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of a batch of images.

        Shape:
            image: (N, in_channels, H, W). Returns one (N, channels, ceil(H / stride), ceil(W / stride)) per spec.
        """

    def in_order(self) -> list[nn.Module]:
        """The modules that an image passes one after the other: the children, and the members of each flow.

        Chollet's network has the paper's 14: the stem, 3 of the entry flow, 8 of the middle flow, 2 of the exit flow.
        """
        flows = [
            list(child) if isinstance(child, nn.ModuleList | nn.Sequential) else [child] for child in self.children()
        ]
        return [module for flow in flows for module in flow]

    def freeze(self, modules: int | None = None) -> Self:
        """Stop learning: no gradients, and no moving statistics or drop path either, also in `train()`.

        `requires_grad=False` alone would leave BatchNorm's running statistics moving.

        Args:
            modules: so many of the first ones (`in_order`); None for all.
        """
        self.frozen = modules is None
        self._frozen_modules = modules or 0
        for part in [self] if modules is None else self.in_order()[:modules]:
            part.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; what is frozen stays in evaluation."""
        super().train(mode and not self.frozen)
        for module in self.in_order()[: self._frozen_modules]:
            module.eval()
        return self


class Network(nn.Module):
    """A backbone with its head, as a task trains it and a checkpoint holds it."""

    score_axes: ClassVar[tuple[str, ...]]
    """Names for the axes of its result."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def large_parts(self) -> list[nn.Module]:
        """The parts in which it spends its time: those worth compiling."""
        return [self.backbone]

    def dense_layers(self) -> list[nn.Linear]:
        """The fully connected layers behind the backbone, which files of published classifiers have, too."""
        return []


def check_scores(scores: Tensor) -> Tensor:
    """Return the scores if they are numbers. With NaN every comparison is false, so that class 0 would win everywhere.

    Raises:
        DataError: one is NaN or infinite.
    """
    if not torch.stack(torch.aminmax(scores)).isfinite().all():  # both are NaN where any score is
        raise DataError(
            "the network's scores are no numbers (NaN or infinite), so there is no class to choose. Look at the "
            "weights, at data.preprocessing, and at the values of the image"
        )
    return scores


def check_taps(name: str, specs: Sequence[FeatureSpec], output_stride: int, depth: int = 5) -> None:
    """Refuse a backbone without the taps that decoders count on.

    Args:
        name: the backbone's.
        specs: its feature maps.
        output_stride: the one that was asked for.
        depth: how many taps there have to be.

    Raises:
        ConfigError: fewer or more taps, or other strides.
    """
    strides, wanted = [spec.stride for spec in specs], [min(2**level, output_stride) for level in range(1, depth + 1)]
    if strides != wanted:
        raise ConfigError(
            f"backbone {name}: gives {len(strides)} feature maps, of strides {strides}; decoders need {depth}, of "
            f"strides {wanted}"
        )


def check_promises(name: str, backbone: Backbone) -> None:
    """Compare the maps of one image, in evaluation, with the backbone's `feature_specs`.

    On the meta device, where modules of a user's own need not run, nothing is tried.

    Raises:
        ConfigError: it cannot take the image, or gives other maps than it promises.
    """
    parameter = next(backbone.parameters(), torch.empty(0))
    if parameter.is_meta:
        return
    image = torch.zeros(1, backbone.in_channels, *_SIZE, device=parameter.device, dtype=parameter.dtype)
    training = backbone.training
    try:
        with torch.no_grad():
            given = [tuple(tap.shape) for tap in _maps(backbone.eval()(image))]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"backbone {name}: fails on an image of {_SIZE[0]}×{_SIZE[1]} pixels ({first_line(error)})"
        ) from error
    finally:
        backbone.train(training)
    promised = [(1, spec.channels, *(-(-side // spec.stride) for side in _SIZE)) for spec in backbone.feature_specs]
    if given != promised:
        raise ConfigError(
            f"backbone {name}: its feature_specs promise maps of {_shown(promised)} for an image of {_SIZE[0]}×"
            f"{_SIZE[1]} pixels, ceil(size / stride) each, and it gives {_shown(given)}"
        )


def _maps(taps: object) -> list[Tensor]:
    if not isinstance(taps, list | tuple) or not all(isinstance(tap, Tensor) for tap in taps):
        raise TypeError("it gives no list of tensors")
    return list(taps)


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, shape[1:])) for shape in shapes) or "none"
