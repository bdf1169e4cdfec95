"""One of SMP's decoders as a decoder of ours.

SMP's decoders want a list that starts with the image, and activated features. Only the size of that first
entry is ever read, so a tensor without channels stands in for it.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from torch import Tensor, nn

from segzoo.backbones import FeatureSpec
from segzoo.config.model import Norm
from segzoo.models.decoder import Decoder

IMAGE_CHANNELS = 3  # of the image that stands first in SMP's channel list; no decoder convolves it
NORMS: dict[Norm, str | dict[str, str | bool]] = {
    "batch": "batchnorm",
    "instance": {"type": "instancenorm", "affine": True},  # without, SMP finds no weights to initialise
    "none": "identity",
}


class SmpDecoder(Decoder):
    """One of SMP's decoders with its segmentation head.

    Sizes are padded to multiples of the output stride, as SMP demands.

    Args:
        features: the taps it gets.
        decoder: SMP's decoder.
        head: SMP's segmentation head; its upsampling reaches the image's size.
        minimum_pixels: height and width that the deepest tap needs.
        initialise: draw weights as SMP's models do; its DeepLabs keep torch's.
        follows_stride: see `Decoder`; most have convolutions on the dilated taps.
    """

    def __init__(
        self,
        features: Sequence[FeatureSpec],
        decoder: nn.Module,
        head: SegmentationHead,
        *,
        minimum_pixels: int = 1,
        initialise: bool = True,
        follows_stride: bool = False,
    ) -> None:
        super().__init__()
        self.activated = tuple(spec.activated for spec in features)
        self.follows_stride = follows_stride
        self.decoder = decoder
        self.head = head
        self.size_multiple = features[-1].stride
        self.minimum_size = minimum_pixels * features[-1].stride
        if initialise:
            initialize_decoder(decoder)
            initialize_head(head)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits of `size`; taps that are not activated yet pass a ReLU first."""
        active = [feature if done else F.relu(feature) for feature, done in zip(features, self.activated, strict=True)]
        image = features[0].new_empty((features[0].shape[0], 0, *size))
        logits: Tensor = self.head(self.decoder([image, *active]))
        return logits


def smp_channels(features: Sequence[FeatureSpec]) -> list[int]:
    """Channels as SMP lists them, the image's first."""
    return [IMAGE_CHANNELS, *(spec.channels for spec in features)]


def pixels_for(norm: Norm) -> int:
    """Height and width that a norm needs: instance norm has no variance of a single pixel."""
    return 2 if norm == "instance" else 1
