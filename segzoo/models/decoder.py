"""What a decoder is: from the backbone's taps to class scores at the image's size."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from segzoo.backbones import FeatureSpec
from segzoo.config.schema import ModelConfig
from segzoo.registry import Registry


class Decoder(nn.Module, ABC):
    """Turns taps into logits. Subclasses are built from `FeatureSpec`s, before any tensor exists.

    Shape:
        features: five tensors (N, C_i, ceil(H / s_i), ceil(W / s_i)), shallow to deep, before their ReLU
        unless their `FeatureSpec.activated`. Result: logits (N, num_classes, H, W).
    """

    size_divisor: int = 1
    """Image sizes have to be multiples of this; `Segmenter` pads to it."""

    @abstractmethod
    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits of the padded image's `size` (height, width)."""


DecoderBuilder = Callable[[Sequence[FeatureSpec], int, ModelConfig], Decoder]
"""(taps, num_classes, configuration) -> decoder; raises ConfigError where they do not fit together."""

DECODERS = Registry[DecoderBuilder]("decoder")


def register_decoder(name: str) -> Callable[[DecoderBuilder], DecoderBuilder]:
    """Make a decoder of your own available as `model.decoder: name`."""
    return DECODERS.register(name)
