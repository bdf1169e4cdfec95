"""Backbone and decoder as one network that takes images of every size."""

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.backbones import Backbone
from segzoo.backbones.network import Network
from segzoo.config.schema import ModelConfig
from segzoo.models.auxiliary import AuxiliaryHead
from segzoo.models.decoder import Decoder


class Segmenter(Network):
    """Image in, logits of the same height and width out.

    Inside, the image is padded at the bottom and the right with zero, the normalised mid-gray, as far as the
    decoder needs; the logits are cropped back. So 513, 769 and 97×129 all work, and pixel (0, 0) stays where
    it was.

    Args:
        backbone: gives five taps.
        decoder: turns them into logits.
        auxiliary: gives a second set of logits from the tap before the last, in training; None for none.

    Shape:
        image: float (N, C, H, W), normalised. Result: logits (N, num_classes, H, W).
    """

    score_axes = ("batch", "classes", "height", "width")
    built_from: ModelConfig | None = None
    """The model section that describes it; None for one that was put together by hand."""

    def __init__(self, backbone: Backbone, decoder: Decoder, auxiliary: AuxiliaryHead | None = None) -> None:
        super().__init__(backbone)
        self.decoder = decoder
        self.auxiliary = auxiliary

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) for images (N, C, H, W)."""
        padded = self._pad(image)
        logits: Tensor = self.decoder(self.backbone(padded), (padded.shape[-2], padded.shape[-1]))
        return logits[..., : image.shape[-2], : image.shape[-1]]

    def training_logits(self, image: Tensor) -> tuple[Tensor, ...]:
        """What training's loss looks at: the logits, then those of the auxiliary head where there is one.

        Shape:
            image: (N, C, H, W). Returns one or two (N, num_classes, H, W).
        """
        padded = self._pad(image)
        size = (padded.shape[-2], padded.shape[-1])
        features = self.backbone(padded)
        outputs = [self.decoder(features, size)]
        if self.auxiliary is not None:
            outputs.append(self.auxiliary(features[-2], size))
        return tuple(logits[..., : image.shape[-2], : image.shape[-1]] for logits in outputs)

    def large_parts(self) -> list[nn.Module]:
        """Backbone, decoder and auxiliary head.

        What lies between them, padding to the decoder's sizes, is small, and training and prediction join them
        differently.
        """
        return [part for part in (self.backbone, self.decoder, self.auxiliary) if part is not None]

    def _pad(self, image: Tensor) -> Tensor:
        decoder = self.decoder
        return pad_to_multiple(image, decoder.size_multiple, decoder.size_remainder, decoder.minimum_size)


def pad_to_multiple(image: Tensor, divisor: int, remainder: int = 0, minimum: int = 1) -> Tensor:
    """Zeros at the bottom and the right until height and width are multiples of `divisor`, plus `remainder`.

    >>> import torch
    >>> pad_to_multiple(torch.ones(1, 3, 97, 129), 16).shape
    torch.Size([1, 3, 112, 144])
    >>> pad_to_multiple(torch.ones(1, 3, 97, 130), 16, 1).shape
    torch.Size([1, 3, 97, 145])
    >>> pad_to_multiple(torch.ones(1, 3, 97, 130), 16, minimum=128).shape
    torch.Size([1, 3, 128, 144])
    """
    height, width = (_at_least(size, minimum) for size in image.shape[-2:])
    bottom = height + (remainder - height) % divisor - image.shape[-2]
    right = width + (remainder - width) % divisor - image.shape[-1]
    return F.pad(image, (0, right, 0, bottom))


def _at_least(size: int, minimum: int) -> int:
    """`max`, in arithmetic: a graph that is traced for export computes it for every size."""
    return (size + minimum + abs(size - minimum)) // 2
