"""SMP's decoders on segzoo's backbones.

SMP's decoders want a list that starts with the image, and activated features. Only the size of that first
entry is ever read, so a tensor without channels stands in for it.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from segzoo.backbones import FeatureSpec
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.decoder import Decoder, register_decoder

IMAGE_CHANNELS = 3  # of the image that stands first in SMP's channel list; no decoder here convolves it


class SmpDecoder(Decoder):
    """One of SMP's decoders with its segmentation head.

    Args:
        features: the taps it gets.
        decoder: SMP's decoder.
        head: SMP's segmentation head; its upsampling reaches the image's size.
        size_divisor: what image sizes have to be a multiple of.
    """

    def __init__(self, features: Sequence[FeatureSpec], decoder: nn.Module, head: nn.Module, size_divisor: int) -> None:
        super().__init__()
        self.activated = tuple(spec.activated for spec in features)
        self.decoder = decoder
        self.head = head
        self.size_divisor = size_divisor

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits of `size`; taps that are not activated yet pass a ReLU first."""
        active = [feature if done else F.relu(feature) for feature, done in zip(features, self.activated, strict=True)]
        image = features[0].new_empty((features[0].shape[0], 0, *size))
        logits: Tensor = self.head(self.decoder([image, *active]))
        return logits


@register_decoder("deeplabv3plus_smp")
def deeplabv3plus_smp(features: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> Decoder:
    """SMP's DeepLabV3+ with its own defaults, which are not the paper's.

    Raises:
        ConfigError: output stride 32.

    Source: segmentation_models_pytorch 0.6. Against arXiv:1802.02611: no norm and ReLU between depthwise and
        pointwise, one more separable convolution before upsampling, one convolution instead of two after the
        concatenation, dropout 0.5, and rates 12/24/36 at every output stride.
    """
    if config.output_stride not in (8, 16):
        raise ConfigError(
            f"model.output_stride: deeplabv3plus_smp needs 8 or 16, not {config.output_stride}. Its decoder "
            "upsamples the deepest tap straight to stride 4."
        )
    width = 256
    decoder = DeepLabV3PlusDecoder(
        encoder_channels=_smp_channels(features),
        encoder_depth=5,
        out_channels=width,
        atrous_rates=(12, 24, 36),
        output_stride=config.output_stride,
        aspp_separable=True,
        aspp_dropout=0.5,
    )
    head = SegmentationHead(width, num_classes, kernel_size=1, upsampling=4)
    return SmpDecoder(features, decoder, head, size_divisor=config.output_stride)


@register_decoder("unet")
def unet(features: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> Decoder:
    """SMP's U-Net decoder with its own defaults: 256, 128, 64, 32, 16 channels, BatchNorm.

    Source: segmentation_models_pytorch 0.6; after arXiv:1505.04597 with padding and nearest upsampling.
    """
    channels = (256, 128, 64, 32, 16)
    decoder = UnetDecoder(_smp_channels(features), channels, n_blocks=len(features))
    head = SegmentationHead(channels[-1], num_classes, kernel_size=3)
    return SmpDecoder(features, decoder, head, size_divisor=max(spec.stride for spec in features))


def _smp_channels(features: Sequence[FeatureSpec]) -> list[int]:
    return [IMAGE_CHANNELS, *(spec.channels for spec in features)]
