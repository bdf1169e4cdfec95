"""Modified Aligned Xception, the backbone of DeepLabV3+: deeper, and strided convolutions instead of max-pools.

Three variants differ in the number of blocks (41, 65 and 71 layers). `xception41p` and `xception65p` are timm's
pre-activation siblings.

Source: Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, ECCV 2018,
arXiv:1802.02611v3, section 3.2 and Fig. 4; the authors' `research/deeplab/core/xception.py`.
"""

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from segzoo.backbones.layers import (
    DropPath,
    SeparableConvolution,
    norm,
    separable_layers,
    shortcut,
    truncated_normal,
    variance_preserving,
)
from segzoo.backbones.strides import Block, PlannedBlock
from segzoo.backbones.xception import Xception
from segzoo.config.model import BackboneOptions

_ENTRY_FLOW = (
    Block("entry_flow", (128, 128, 128), stride=2),
    Block("entry_flow", (256, 256, 256), stride=2),
    Block("entry_flow", (728, 728, 728), stride=2),
)
_ENTRY_FLOW_71 = (
    Block("entry_flow", (128, 128, 128), stride=2),
    Block("entry_flow", (256, 256, 256)),
    Block("entry_flow", (256, 256, 256), stride=2),
    Block("entry_flow", (728, 728, 728)),
    Block("entry_flow", (728, 728, 728), stride=2),
)
_MIDDLE_FLOW = (Block("middle_flow", (728, 728, 728)),)
_EXIT_FLOW = (
    Block("exit_flow", (728, 1024, 1024), stride=2),
    Block("exit_flow", (1536, 1536, 2048), residual=False, relu="after"),
)
XCEPTION41 = (*_ENTRY_FLOW, *_MIDDLE_FLOW * 8, *_EXIT_FLOW)
XCEPTION65 = (*_ENTRY_FLOW, *_MIDDLE_FLOW * 16, *_EXIT_FLOW)
XCEPTION71 = (*_ENTRY_FLOW_71, *_MIDDLE_FLOW * 16, *_EXIT_FLOW)


class AlignedBlock(nn.Module):
    """One block of Fig. 4: three separable convolutions, the stride in the third, a linear residual around.

    A BatchNorm follows the depthwise convolution as well as the pointwise one.
    """

    def __init__(self, planned: PlannedBlock, options: BackboneOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList(separable_layers(planned, options, norm_between=True))
        self.shortcut = shortcut(planned, options)
        self.drop_path = DropPath(options.drop_path * planned.position)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block.

        Shape:
            x: (N, C, H, W). Returns the input (N, C', H, W) of the last convolution, the one that may stride, and
            the block's output (N, C", ceil(H / stride), ceil(W / stride)).
        """
        before_stride = out = x
        for layer in self.layers:
            before_stride, out = out, layer(out)
        if self.shortcut is not None:
            out = self.drop_path(out) + self.shortcut(x)
        return before_stride, out


class PreActivationBlock(nn.Module):
    """timm's pre-activation block: BatchNorm and ReLU before every separable convolution, none behind.

    The shortcut starts behind the first ReLU, and its convolution has no BatchNorm. The feature map is the output of
    the second convolution, before the norm and the ReLU that belong to the third. The network ends in a ReLU.
    """

    def __init__(self, planned: PlannedBlock, options: BackboneOptions) -> None:
        super().__init__()
        self.norm = norm(planned.in_channels, options)
        self.layers = nn.ModuleList(_preactivated_layers(planned, options))
        self.shortcut = shortcut(planned, options, with_norm=False)
        self.drop_path = DropPath(options.drop_path * planned.position)
        self.relu = nn.ReLU() if planned.block.relu == "after" else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block; shapes as `AlignedBlock`."""
        x = torch.relu(self.norm(x))
        before_stride = out = x
        for layer in self.layers:
            before_stride, out = out, layer(out)
        if self.shortcut is not None:
            out = self.drop_path(out) + self.shortcut(x)
        return before_stride, self.relu(out)


def _preactivated_layers(planned: PlannedBlock, options: BackboneOptions) -> Iterator[nn.Sequential]:
    """Norm, ReLU and convolution, three times; the block itself holds the first norm and ReLU."""
    for index, convolution in enumerate(planned.convolutions):
        separable = SeparableConvolution(convolution, options, activation=options.depthwise_activation)
        layers = OrderedDict[str, nn.Module](separable=separable)
        if index > 0:
            layers = OrderedDict(norm=norm(convolution.in_channels, options), relu=nn.ReLU(), separable=separable)
        yield nn.Sequential(layers)


class AlignedXception(Xception):
    """Modified Aligned Xception: Xception's stem and flows, with other blocks.

    Args:
        blocks: the table.
        options: everything else; `norm_eps` must be set.
        preactivation: timm's sibling, norm and ReLU before each convolution.

    Source: arXiv:1802.02611v3, Fig. 4. The rates of the last block's convolutions are equal, as there: section 4.3
    found no gain in the multi-grid of DeepLabV3. Departures: the pre-activation siblings, their eps and their start
    are not the paper's; a width multiplier; feature maps instead of class scores.
    """

    def __init__(self, blocks: tuple[Block, ...], options: BackboneOptions, *, preactivation: bool = False) -> None:
        block = PreActivationBlock if preactivation else AlignedBlock
        # A pre-activation network starts as Chollet's does: no norm behind its convolutions would mend their scale.
        initialise = variance_preserving if preactivation else truncated_normal
        super().__init__(blocks, options, block, activated_stem=not preactivation, initialise=initialise)
        self.preactivation = preactivation
