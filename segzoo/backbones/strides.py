"""Where a network strides and where it dilates: arithmetic on a table of blocks, before any tensor exists.

A network is a table of `Block`s. `plan_blocks` walks it once for a wanted output stride: a block strides while the
network may still shrink; from then on it gives its stride up, and all that follows dilates by what was given up, so
that every kernel keeps looking at the pixels it was trained to look at. Weights are the same at every output stride.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from segzoo.backbones.spec import FeatureSpec

STEM_CHANNELS = (32, 64)
STEM_STRIDE = 2
STEM_RECEPTIVE_FIELD = 7  # a 3×3 kernel on the image, then one on every second pixel: 3 + 2 * 2

FlowName = Literal["entry_flow", "middle_flow", "exit_flow"]


@dataclass(frozen=True)
class Block:
    """One block, as the figure of its paper draws it.

    Args:
        flow: the part of the network it belongs to.
        channels: output channels of each of its separable convolutions.
        stride: 2 where the network shrinks.
        pool: the stride sits in a max-pool behind the convolutions (Chollet), not in the last of them (Chen et al.).
        residual: it has a shortcut around it.
        relu: where ReLUs stand: before every separable convolution, only between them, or after every one.
    """

    flow: FlowName
    channels: tuple[int, ...]
    stride: int = 1
    pool: bool = False
    residual: bool = True
    relu: Literal["before", "between", "after"] = "before"


@dataclass(frozen=True)
class PlannedConvolution:
    """One 3×3 (separable) convolution: its channels, its stride, its rate."""

    in_channels: int
    out_channels: int
    stride: int
    dilation: int


@dataclass(frozen=True)
class PlannedBlock:
    """A block as it stands in a network of one output stride.

    Args:
        block: what the table says.
        name: path of its module in the network ("entry_flow.0").
        in_channels: channels of its input.
        input_stride: image pixels between two pixels of its input.
        stride: the stride it keeps, 1 where it gave its own up.
        dilation: rate of its convolutions and of its pool.
        position: where in the network it stands, from 0 (first) to 1 (last).
    """

    block: Block
    name: str
    in_channels: int
    input_stride: int
    stride: int
    dilation: int
    position: float

    @property
    def is_tapped(self) -> bool:
        """Whether a feature map is taken here, before the stride."""
        return self.block.stride > 1

    @property
    def shortcut(self) -> Literal["none", "identity", "convolution"]:
        """What the residual connection around it is: a convolution where the shape changes."""
        if not self.block.residual:
            return "none"
        keeps_shape = self.block.stride == 1 and self.in_channels == self.block.channels[-1]
        return "identity" if keeps_shape else "convolution"

    @property
    def convolutions(self) -> tuple[PlannedConvolution, ...]:
        """Its separable convolutions; without a pool the last of them strides."""
        sizes = tuple(pairwise((self.in_channels, *self.block.channels)))
        strides = [1] * (len(sizes) - 1) + [1 if self.block.pool else self.stride]
        return tuple(
            PlannedConvolution(in_channels, out_channels, stride, self.dilation)
            for (in_channels, out_channels), stride in zip(sizes, strides, strict=True)
        )


def plan_blocks(blocks: tuple[Block, ...], output_stride: int, width: float = 1.0) -> tuple[PlannedBlock, ...]:
    """Give every block its stride and its dilation.

    A block that gives up its stride still runs at the rate of its input: its strided kernel saw neighbours one pixel
    of that input apart, and still does. Only what follows sees a map that is denser than it was.

    Args:
        blocks: the network's table.
        output_stride: image pixels between two pixels of the last feature map.
        width: multiplies channel counts.

    Source: Chen et al., DeepLab (arXiv:1606.00915v2), section 3.1, and DeepLabV3+ (arXiv:1802.02611v3), section 3.1.
    """
    stride, dilation = STEM_STRIDE, 1
    channels = scale_channels(STEM_CHANNELS[-1], width)
    planned: list[PlannedBlock] = []
    for index, block in enumerate(blocks):
        scaled = replace(block, channels=tuple(scale_channels(count, width) for count in block.channels))
        kept = block.stride if stride * block.stride <= output_stride else 1
        number = sum(earlier.flow == block.flow for earlier in blocks[:index])
        position = index / max(len(blocks) - 1, 1)
        name = f"{block.flow}.{number}"
        planned.append(PlannedBlock(scaled, name, channels, stride, kept, dilation, position))
        stride *= kept
        dilation *= block.stride // kept
        channels = scaled.channels[-1]
    return tuple(planned)


def feature_specs(plan: tuple[PlannedBlock, ...]) -> tuple[FeatureSpec, ...]:
    """The feature maps of a planned network: the last tensor before each stride, and the network's output."""
    specs = []
    for planned in plan:
        if planned.is_tapped:
            channels = planned.block.channels[-1 if planned.block.pool else -2]
            specs.append(FeatureSpec(channels, planned.input_stride, planned.dilation, planned.name))
    last = plan[-1]
    stride, activated = last.input_stride * last.stride, last.block.relu == "after"
    return (*specs, FeatureSpec(last.block.channels[-1], stride, last.dilation, last.name, activated))


def receptive_fields(plan: tuple[PlannedBlock, ...]) -> tuple[int, ...]:
    """Image pixels, along one side, that one pixel of each feature map depends on (normalisation left aside)."""
    field, fields = STEM_RECEPTIVE_FIELD, []
    for planned in plan:
        kernel_growth = 2 * planned.dilation * planned.input_stride  # of one 3×3 kernel
        kernels = len(planned.block.channels) + planned.block.pool
        if planned.is_tapped:
            fields.append(field + (kernels - 1) * kernel_growth)
        field += kernels * kernel_growth
    return (*fields, field)


def truncate(plan: tuple[PlannedBlock, ...], depth: int) -> tuple[PlannedBlock, ...]:
    """The plan up to its `depth`-th feature map, for decoders that need no deeper one."""
    tapped = [index for index, planned in enumerate(plan) if planned.is_tapped]
    if depth > len(tapped):
        return plan
    end = tapped[depth - 1]
    block = plan[end].block
    channels = block.channels if block.pool else block.channels[:-1]
    before_stride = replace(block, channels=channels, stride=1, pool=False, residual=False)
    return (*plan[:end], replace(plan[end], block=before_stride, stride=1))


def scale_channels(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8, at least 8; exact at width 1.

    >>> scale_channels(728, 1.0), scale_channels(728, 0.25), scale_channels(32, 0.1)
    (728, 184, 8)
    """
    return max(8, 8 * round(channels * width / 8))
