"""Backbone, decoder and, in training, an auxiliary head as one network that takes images of every size."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.backbones import Backbone, FeatureSpec
from segzoo.backbones.layers import Convolution
from segzoo.backbones.spec import Network
from segzoo.config.schema import ModelConfig
from segzoo.models.decoder import Decoder
from segzoo.models.layers import classifier, head_norm, resize, xavier

NARROWING = 4
DROPOUT = 0.1


class AuxiliaryHead(nn.Module):
    """A second, small classifier in the middle of the backbone, for training only.

    It is a 3×3 convolution, norm, ReLU, dropout and a 1×1 convolution on one tap. Its loss reaches the
    backbone's middle without passing the deep end, which helps deep networks to learn.

    Source: Zhao et al., Pyramid Scene Parsing Network, arXiv:1612.01105v2, section 3.3, and the authors' code: a
    quarter of the tap's channels, dropout of whole channels at 0.1. There it reads ResNet's fourth stage; here the
    tap before the last, 1,024 channels in the full Xceptions.
    """

    def __init__(self, feature: FeatureSpec, num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        channels = max(1, feature.channels // NARROWING)
        self.activated = feature.activated
        self.layers = nn.Sequential(
            OrderedDict(
                convolution=xavier(Convolution(feature.channels, channels, 3)),
                norm=head_norm(channels, config),
                relu=nn.ReLU(),
                dropout=nn.Dropout2d(DROPOUT),
                logits=classifier(channels, num_classes),
            )
        )

    def forward(self, feature: Tensor, size: tuple[int, int]) -> Tensor:
        """Class scores (N, num_classes, *size) from the tap (N, C, h, w)."""
        return resize(self.layers(feature if self.activated else torch.relu(feature)), size)


class Segmenter(Network):
    """Image in, logits of the same height and width out.

    Inside, the image is padded at the bottom and the right with zero, the normalised mid-gray, as far as the
    decoder needs and, but in training, to the canvas; the logits are cropped back. So 513, 769 and 97×129 all work, and
    pixel (0, 0) stays where it was.

    Args:
        backbone: gives five taps.
        decoder: turns them into logits.
        auxiliary: gives a second set of logits from the tap before the last, in training; None for none.
        canvas: least height and width that smaller images are padded to.

    Shape:
        image: float (N, C, H, W), normalised. Result: logits (N, num_classes, H, W).
    """

    score_axes = ("batch", "classes", "height", "width")
    built_from: ModelConfig | None = None
    """The model section that describes it; None for one that was put together by hand."""

    def __init__(
        self,
        backbone: Backbone,
        decoder: Decoder,
        auxiliary: AuxiliaryHead | None = None,
        canvas: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__(backbone)
        self.decoder = decoder
        self.auxiliary = auxiliary
        self.canvas = canvas

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) for images (N, C, H, W)."""
        padded = self.padded(image)
        logits: Tensor = self.decoder(self.backbone(padded), (padded.shape[-2], padded.shape[-1]))
        return logits[..., : image.shape[-2], : image.shape[-1]]

    def training_logits(self, image: Tensor) -> tuple[Tensor, ...]:
        """The logits that training's loss looks at, then those of the auxiliary head where there is one.

        Shape: images (N, C, H, W); result one or two (N, num_classes, H, W).
        """
        padded = self._with_sizes(image, (1, 1))  # the crop is training's canvas
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

    def padded(self, image: Tensor) -> Tensor:
        """The images (N, C, H, W) as evaluation and prediction compute them, with zeros below and to the right."""
        return self._with_sizes(image, self.canvas)

    def _with_sizes(self, image: Tensor, canvas: tuple[int, int]) -> Tensor:
        decoder, (height, width) = self.decoder, canvas
        minimum = (max(height, decoder.minimum_size), max(width, decoder.minimum_size))
        return pad_to_multiple(image, decoder.size_multiple, decoder.size_remainder, minimum)


def pad_to_multiple(image: Tensor, divisor: int, remainder: int = 0, minimum: int | tuple[int, int] = 1) -> Tensor:
    """Zeros at the bottom and the right until height and width are multiples of `divisor`, plus `remainder`.

    `minimum` is the least size of both sides, or of height and of width.

    >>> import torch
    >>> pad_to_multiple(torch.ones(1, 3, 97, 129), 16).shape
    torch.Size([1, 3, 112, 144])
    >>> pad_to_multiple(torch.ones(1, 3, 97, 130), 16, 1).shape
    torch.Size([1, 3, 97, 145])
    >>> pad_to_multiple(torch.ones(1, 3, 97, 130), 16, minimum=128).shape
    torch.Size([1, 3, 128, 144])
    """
    least = (minimum, minimum) if isinstance(minimum, int) else minimum
    height, width = _at_least(image.shape[-2], least[0]), _at_least(image.shape[-1], least[1])
    bottom = height + (remainder - height) % divisor - image.shape[-2]
    right = width + (remainder - width) % divisor - image.shape[-1]
    return F.pad(image, (0, right, 0, bottom))


def _at_least(size: int, minimum: int) -> int:
    """`max`, in arithmetic: a graph that is traced for export computes it for every size."""
    return (size + minimum + abs(size - minimum)) // 2
