"""A second, small classifier in the middle of the backbone, for training only."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from segzoo.backbones import FeatureSpec
from segzoo.backbones.layers import Convolution
from segzoo.config.schema import ModelConfig
from segzoo.models.layers import classifier, head_norm, resize, xavier

NARROWING = 4
DROPOUT = 0.1


class AuxiliaryHead(nn.Module):
    """Class scores from one tap: 3×3 convolution, norm, ReLU, dropout, 1×1 convolution.

    Its loss reaches the backbone's middle without passing the deep end, which helps deep networks to learn.

    Args:
        feature: the tap it reads.
        num_classes: channels of the logits.
        config: the model section.

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
        """Class scores of the image's `size`.

        Shape:
            feature: (N, C, h, w). Returns (N, num_classes, *size).
        """
        return resize(self.layers(feature if self.activated else torch.relu(feature)), size)
