"""What a backbone promises: five feature maps, described before any tensor exists."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn


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
