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

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of a batch of images.

        Shape:
            image: (N, in_channels, H, W). Returns one (N, channels, ceil(H / stride), ceil(W / stride)) per spec.
        """

    def freeze(self) -> Self:
        """Stop all learning: no gradients, and no moving statistics or drop path either, also in `train()`.

        `requires_grad=False` alone would leave BatchNorm's running statistics moving.
        """
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a frozen backbone stays in evaluation."""
        return super().train(mode and not self.frozen)
