"""Layers of the decoders written here: convolution, norm and ReLU in one, their first weights, and the resize.

Source: what TensorFlow's slim and the DeepLab authors' `research/deeplab/core/utils.py` build.
"""

from collections import OrderedDict
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.backbones.layers import Convolution, named_norm
from segzoo.config.schema import ModelConfig

ConvolutionT = TypeVar("ConvolutionT", bound=nn.Conv2d)

NORM_EPS = 1e-5  # of what is behind the backbone; the backbone's is 1e-3


def pointwise(in_channels: int, out_channels: int, config: ModelConfig) -> nn.Sequential:
    """A 1×1 convolution, norm and ReLU."""
    convolution = xavier(Convolution(in_channels, out_channels, 1))
    return nn.Sequential(
        OrderedDict(convolution=convolution, norm=head_norm(out_channels, config), relu=nn.ReLU()),
    )


def spatial(
    in_channels: int, out_channels: int, config: ModelConfig, *, rate: int | tuple[int, int] = 1
) -> nn.Sequential:
    """A 3×3 convolution, norm and ReLU; separable unless that is off, with norm and ReLU behind both convolutions.

    Source: DeepLab's `split_separable_conv2d`, also for the first weights: deviation 0.33 and 0.06.
    """
    if not config.deeplab.separable:
        convolution = xavier(Convolution(in_channels, out_channels, 3, dilation=rate))
        return nn.Sequential(
            OrderedDict(convolution=convolution, norm=head_norm(out_channels, config), relu=nn.ReLU()),
        )
    depthwise = Convolution(in_channels, in_channels, 3, dilation=rate, groups=in_channels)
    mixing = Convolution(in_channels, out_channels, 1)
    return nn.Sequential(
        OrderedDict(
            depthwise=truncated_normal(depthwise, 0.33),
            depthwise_norm=head_norm(in_channels, config),
            depthwise_relu=nn.ReLU(),
            pointwise=truncated_normal(mixing, 0.06),
            pointwise_norm=head_norm(out_channels, config),
            pointwise_relu=nn.ReLU(),
        )
    )


def classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    """The 1×1 convolution to class scores, the only one with a bias."""
    logits = truncated_normal(nn.Conv2d(in_channels, num_classes, 1), 0.01)
    if logits.bias is not None:
        nn.init.zeros_(logits.bias)
    return logits


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corner pixels on corner pixels: pixel i of stride s stays over image pixel s·i at sizes k·s + 1.

    >>> import torch
    >>> resize(torch.arange(3.0).view(1, 1, 1, 3), (1, 5)).flatten()
    tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000])
    """
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def head_norm(channels: int, config: ModelConfig) -> nn.Module:
    """The norm that the configuration names, with the eps of DeepLab's head."""
    return named_norm(config.norm, channels, eps=NORM_EPS, momentum=config.norm_momentum)


def xavier(convolution: ConvolutionT) -> ConvolutionT:
    """Uniform weights after Glorot and Bengio, slim's default, which plain convolutions start from."""
    nn.init.xavier_uniform_(convolution.weight)
    return convolution


def truncated_normal(convolution: ConvolutionT, deviation: float) -> ConvolutionT:
    """Normal weights of a deviation, cut at twice that."""
    nn.init.trunc_normal_(convolution.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    return convolution
