"""Backbone and decoder as one network that takes images of every size."""

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.backbones import Backbone
from segzoo.models.decoder import Decoder


class Segmenter(nn.Module):
    """Image in, logits of the same height and width out.

    Inside, the image is padded at the bottom and the right with zero, the normalised mid-gray, as far as the
    decoder needs; the logits are cropped back. So 513, 769 and 97×129 all work, and pixel (0, 0) stays where
    it was.

    Args:
        backbone: gives five taps.
        decoder: turns them into logits.

    Shape:
        image: float (N, C, H, W), normalised. Result: logits (N, num_classes, H, W).
    """

    def __init__(self, backbone: Backbone, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) for images (N, C, H, W)."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.decoder.size_divisor)
        logits: Tensor = self.decoder(self.backbone(padded), (padded.shape[-2], padded.shape[-1]))
        return logits[..., :height, :width]


def pad_to_multiple(image: Tensor, divisor: int) -> Tensor:
    """Zeros at the bottom and the right until height and width are multiples of `divisor`.

    >>> import torch
    >>> pad_to_multiple(torch.ones(1, 3, 97, 129), 16).shape
    torch.Size([1, 3, 112, 144])
    """
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % divisor, 0, -height % divisor))
