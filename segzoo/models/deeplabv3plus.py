"""DeepLabV3+ and DeepLabV3 as published: a pyramid of atrous convolutions, and a decoder that finds the edges again.

Read it beside Fig. 2 of the paper. The encoder's last map, at output stride 16, goes through atrous spatial pyramid
pooling (ASPP): one 1×1 convolution, three 3×3 convolutions at growing rates, and the mean over the whole image. The
decoder resizes the result to an early tap of stride 4, puts the two side by side, and refines them by two 3×3
convolutions. `deeplabv3` stops behind the pyramid. A dense prediction cell (DPC) can stand in the pyramid's place.

Source: Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, ECCV 2018,
arXiv:1802.02611v3, sections 3.1 and 4.1 and Fig. 2; Rethinking Atrous Convolution for Semantic Image Segmentation,
arXiv:1706.05587v3, section 3.3; the authors' `research/deeplab/model.py` and `core/utils.py`, which settle what the
papers leave open (norms, initial weights, the order of the branches, the corners of a resize).

With `xception65` at 513×513 this makes 54.04 G multiply-adds at output stride 16 and 176.85 G at 8; the paper's Table 5
says 54.17 and 177.10. Its rows of plain convolutions lie 3 to 6 % above ours (68.00, 240.85, 89.76 and 262.59 G against
64.92, 227.04, 86.68 and 248.78): TensorFlow computes atrous convolutions on maps padded to multiples of the rate, 36
for 33 pixels and 72 for 65. With that counted, all six rows agree to 0.25 %.

Against SMP's decoder of the same name (`deeplabv3plus_smp`): BatchNorm and ReLU stand between depthwise and pointwise
too; nothing stands between the pyramid and its resize (SMP has one more separable convolution); two convolutions
follow the join (SMP: one); dropout 0.1 (0.5); rates follow the output stride (12, 24, 36 at every one); the early tap
comes before its ReLU; corners are aligned at sizes k·stride + 1, which the network is padded to (multiples of stride).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.backbones import FeatureSpec
from segzoo.backbones.layers import Convolution, group_count
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.decoder import Decoder, register_decoder
from segzoo.models.layers import NORM_EPS, classifier, head_norm, pointwise, resize, spatial, xavier

RATES_STRIDE = 16
"""The output stride that `atrous_rates` are stated for."""
LOW_LEVEL_STRIDE = 4

Rate = tuple[int, int]  # of rows and of columns

CELL: tuple[tuple[int | None, Rate], ...] = (
    (None, (1, 6)),
    (0, (18, 15)),
    (1, (6, 3)),
    (0, (1, 1)),
    (0, (6, 21)),
)
"""The branches of the dense prediction cell: which branch each one reads, None for the map itself, and its rate at
output stride 16.

Source: Chen et al., Searching for Efficient Multi-Scale Architectures for Dense Image Prediction, NeurIPS 2018,
arXiv:1809.04184, the best cell; the authors' name for it is `branch5_top1_cityscapes`.
"""


class ImagePooling(nn.Module):
    """The branch of the pyramid that sees the whole image: mean, 1×1 convolution, norm, ReLU, the same everywhere.

    Source: arXiv:1706.05587v3, section 3.3. The authors' evaluation pads every image to 513×513 and takes the mean
    over the padding too, as `model.canvas` does; without it, the mean is over the image, and over at most stride - 1
    rows and columns of padding.
    """

    def __init__(self, in_channels: int, config: ModelConfig) -> None:
        super().__init__()
        out_channels = config.deeplab.aspp_channels
        self.convolution = xavier(Convolution(in_channels, out_channels, 1))
        if config.norm == "batch":
            self.norm: nn.Module = PooledBatchNorm(out_channels, eps=NORM_EPS, momentum=config.norm_momentum)
        else:
            self.norm = head_norm(out_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        """From (N, in_channels, H, W) to (N, aspp_channels, H, W)."""
        pooled = torch.relu(self.norm(self.convolution(x.mean((2, 3), keepdim=True))))
        return pooled.expand(-1, -1, x.shape[2], x.shape[3])  # what a bilinear resize of one pixel is


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm behind a global mean, where a batch of one image has one value per channel.

    One value has no variance: BatchNorm would make its offset of it, whatever the image, and torch refuses. Such a
    batch is normalised by the running statistics instead, as in evaluation, and leaves them as they are. From two
    images on it is BatchNorm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling (ASPP): five views of the same map, joined by a 1×1 convolution and dropout.

    Source: arXiv:1706.05587v3, Fig. 5, with the separable convolutions of arXiv:1802.02611v3, section 3.1.
    """

    def __init__(self, feature: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        out_channels = config.deeplab.aspp_channels
        rates = scaled_rates(config.deeplab.atrous_rates, feature.stride)
        self.image_pooling = ImagePooling(feature.channels, config) if config.deeplab.image_pooling else None
        self.pointwise = pointwise(feature.channels, out_channels, config)
        self.atrous = nn.ModuleList(spatial(feature.channels, out_channels, config, rate=rate) for rate in rates)
        branches = (self.image_pooling is not None) + 1 + len(rates)
        self.projection = pointwise(branches * out_channels, out_channels, config)
        self.dropout = nn.Dropout(config.deeplab.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """From activated (N, C, H, W) to (N, aspp_channels, H, W)."""
        branches = [] if self.image_pooling is None else [self.image_pooling(x)]
        branches.append(self.pointwise(x))
        branches.extend(branch(x) for branch in self.atrous)
        joined: Tensor = self.dropout(self.projection(torch.cat(branches, 1)))
        return joined


class DensePredictionCell(nn.Module):
    """Five 3×3 convolutions, some behind others, at rates that differ between rows and columns, joined by a 1×1 one.

    Dropout comes before the join.

    Source: see `CELL`.
    """

    def __init__(self, feature: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        if feature.stride > RATES_STRIDE:
            raise ConfigError(
                f"model.deeplab.pyramid: dpc has no rates for output stride {feature.stride}. Take 8 or 16, or aspp."
            )
        channels = config.deeplab.aspp_channels
        self.sources = [source for source, _ in CELL]
        self.branches = nn.ModuleList(
            spatial(feature.channels if source is None else channels, channels, config, rate=(rows, columns))
            for source, (rows, columns) in ((source, scaled_rates(rate, feature.stride)) for source, rate in CELL)
        )
        self.dropout = nn.Dropout(config.deeplab.dropout)
        self.projection = pointwise(len(CELL) * channels, channels, config)

    def forward(self, x: Tensor) -> Tensor:
        """From activated (N, C, H, W) to (N, aspp_channels, H, W)."""
        maps: list[Tensor] = []
        for source, branch in zip(self.sources, self.branches, strict=True):
            maps.append(branch(x if source is None else maps[source]))
        joined: Tensor = self.projection(self.dropout(torch.cat(maps, 1)))
        return joined


PYRAMIDS: Mapping[str, Callable[[FeatureSpec, ModelConfig], nn.Module]] = {
    "aspp": AtrousPyramid,
    "dpc": DensePredictionCell,
}
"""`model.deeplab.pyramid` -> what it builds. Either stands at `aspp` in a decoder, where checkpoints have it."""


class DeepLabV3(Decoder):
    """The pyramid and a classifier, resized to the image by 16 at once.

    Of the backbone's taps it reads the deepest.

    Source: arXiv:1706.05587v3, section 3.3. Departure: the pyramid is separable, as arXiv:1802.02611v3 has it, unless
    `model.deeplab.separable` is false.
    """

    def __init__(self, features: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.activated = features[-1].activated
        self.size_multiple = features[-1].stride
        self.size_remainder = 1  # where the corners of all taps lie on the corners of the image
        self.aligned_stride = features[-1].stride
        self.aspp = PYRAMIDS[config.deeplab.pyramid](features[-1], config)
        self.logits = classifier(config.deeplab.aspp_channels, num_classes)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Class scores (N, num_classes, *size) from features as the specs describe them."""
        deepest = features[-1] if self.activated else torch.relu(features[-1])
        return resize(self.logits(self.aspp(deepest)), size)


class DeepLabV3Plus(Decoder):
    """The pyramid, resized and joined with the tap of stride 4, two 3×3 convolutions and a classifier.

    Of the backbone's taps it reads the deepest and the one of stride 4, that one before its ReLU.

    Raises:
        ConfigError: no tap has stride 4.

    Source: arXiv:1802.02611v3, Fig. 2 and section 4.1: 48 channels of the early tap (Table 1), two 3×3 convolutions
    of 256 (Table 2). TensorFlow's `refine_by_decoder` joins in this order, the pyramid first.
    """

    def __init__(self, features: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        options = config.deeplab
        self.tap = low_level_tap(features)
        self.activated = features[-1].activated
        self.size_multiple = features[-1].stride
        self.size_remainder = 1  # where the corners of all taps lie on the corners of the image
        self.aligned_stride = LOW_LEVEL_STRIDE
        self.aspp = PYRAMIDS[config.deeplab.pyramid](features[-1], config)
        self.low_level = pointwise(features[self.tap].channels, options.low_level_channels, config)
        widths = [options.decoder_channels] * options.decoder_convolutions
        inputs = [options.aspp_channels + options.low_level_channels, *widths[:-1]]
        layers = [spatial(channels, width, config) for channels, width in zip(inputs, widths, strict=True)]
        self.convolutions = nn.ModuleList(layers)
        self.logits = classifier(options.decoder_channels, num_classes)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Class scores (N, num_classes, *size) from features as the specs describe them."""
        deepest = features[-1] if self.activated else torch.relu(features[-1])
        low_level = self.low_level(features[self.tap])
        pyramid = resize(self.aspp(deepest), (low_level.shape[2], low_level.shape[3]))
        x = torch.cat([pyramid, low_level], 1)
        for convolution in self.convolutions:
            x = convolution(x)
        return resize(self.logits(x), size)


@register_decoder("deeplabv3plus", reads=("deeplab",))
def deeplabv3plus(features: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> Decoder:
    """The decoder of DeepLabV3+, see `DeepLabV3Plus`.

    Raises:
        ConfigError: rates or norms that the taps do not allow, or no tap of stride 4.
    """
    check_groups(config)
    return DeepLabV3Plus(features, num_classes, config)


@register_decoder("deeplabv3", reads=("deeplab",))
def deeplabv3(features: Sequence[FeatureSpec], num_classes: int, config: ModelConfig) -> Decoder:
    """The head of DeepLabV3, see `DeepLabV3`.

    Raises:
        ConfigError: rates or norms that the taps do not allow.
    """
    check_groups(config)
    return DeepLabV3(features, num_classes, config)


def scaled_rates(rates: Sequence[int], output_stride: int) -> tuple[int, ...]:
    """Rates stated for output stride 16, for another one, so that kernels see the same pixels of the image.

    >>> scaled_rates((6, 12, 18), 16), scaled_rates((6, 12, 18), 8), scaled_rates((6, 12, 18), 32)
    ((6, 12, 18), (12, 24, 36), (3, 6, 9))

    Raises:
        ConfigError: a rate does not come out whole.

    Source: arXiv:1706.05587v3, section 3.3: doubled at output stride 8. Output stride 32, halved, is ours.
    """
    uneven = [rate for rate in rates if rate * RATES_STRIDE % output_stride]
    if uneven:
        raise ConfigError(
            f"model.deeplab.atrous_rates: {uneven} cannot be scaled from output stride {RATES_STRIDE}, which rates are "
            f"stated for, to {output_stride}. Take multiples of {output_stride // RATES_STRIDE}."
        )
    return tuple(rate * RATES_STRIDE // output_stride for rate in rates)


def low_level_tap(features: Sequence[FeatureSpec]) -> int:
    """Index of the deepest tap of stride 4.

    Raises:
        ConfigError: no tap has this stride.
    """
    found = [index for index, spec in enumerate(features) if spec.stride == LOW_LEVEL_STRIDE]
    if not found:
        strides = ", ".join(str(spec.stride) for spec in features)
        raise ConfigError(
            f"model.decoder: deeplabv3plus needs a tap of stride {LOW_LEVEL_STRIDE}; this backbone has {strides}. "
            "Take deeplabv3."
        )
    return found[-1]


def check_groups(config: ModelConfig) -> None:
    """Refuse GroupNorm that would see a single number per group behind the global mean.

    Raises:
        ConfigError: it would; its output would be its offset, whatever the image.
    """
    channels = config.deeplab.aspp_channels
    pools = config.deeplab.pyramid == "aspp" and config.deeplab.image_pooling
    if pools and config.norm == "group" and group_count(channels) == channels:
        raise ConfigError(
            f"model.deeplab.aspp_channels: {channels} leave GroupNorm one number per group behind image pooling. "
            "Take 64 or more, model.deeplab.image_pooling=false, or model.norm=batch."
        )
