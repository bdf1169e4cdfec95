"""What a backbone is and what it costs, without running it: the numbers behind `segzoo backbones`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import Tensor

from segzoo.backbones.measure import check_size, measure
from segzoo.backbones.registry import build_backbone
from segzoo.backbones.spec import FeatureSpec
from segzoo.backbones.strides import receptive_fields
from segzoo.backbones.xception import Xception


@dataclass(frozen=True, kw_only=True)
class Tap(FeatureSpec):
    """A feature map with its size and its reach.

    Args:
        size: height and width in pixels.
        receptive_field: image pixels along one side that one pixel depends on; None where the network does not say.
    """

    size: tuple[int, int]
    receptive_field: int | None


@dataclass(frozen=True)
class Description:
    """What a backbone is and costs for one image.

    Args:
        name: the variant.
        output_stride: stride of its deepest feature map.
        size: height and width of the image in pixels.
        parameters: trainable numbers.
        macs: multiply-adds of the convolutions in one forward pass.
        activation_bytes: what a training step keeps of the forward pass for the backward pass, in float32.
        taps: its feature maps.
    """

    name: str
    output_stride: int
    size: tuple[int, int]
    parameters: int
    macs: int
    activation_bytes: int
    taps: tuple[Tap, ...]


def describe_backbone(
    name: str, *, size: tuple[int, int] = (513, 513), output_stride: int = 16, width: float = 1.0
) -> Description:
    """Measure a backbone on PyTorch's meta device, where tensors have a shape and no content.

    Args:
        name: a variant, see `list_backbones`.
        size: height and width of the image in pixels.
        output_stride: 8, 16 or 32.
        width: multiplies channel counts.

    Raises:
        UnknownNameError: no backbone has this name.
        ConfigError: a value is out of range.
    """
    check_size(size)
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=output_stride, width=width)
        image = torch.empty(1, backbone.in_channels, *size)
    measured = measure(backbone, image)
    features: list[Tensor] = measured.output
    fields = receptive_fields(backbone.plan) if isinstance(backbone, Xception) else [None] * len(features)
    taps = tuple(
        Tap(**asdict(spec), size=(feature.shape[2], feature.shape[3]), receptive_field=field)
        for spec, feature, field in zip(backbone.feature_specs, features, fields, strict=True)
    )
    parameters = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    cost = measured.total
    return Description(name, backbone.output_stride, size, parameters, cost.macs, cost.activation_bytes, taps)


def cost_table(descriptions: Sequence[Description]) -> Table:
    """One line for each backbone: what it costs."""
    first = descriptions[0]
    table = Table(
        title=f"{first.size[0]}×{first.size[1]} pixels, output stride {first.output_stride}", title_justify="left"
    )
    table.add_column("backbone")
    for heading in ("parameters", "multiply-adds", "training memory"):
        table.add_column(heading, justify="right")
    for one in descriptions:
        memory = f"{one.activation_bytes / 2**20:,.0f} MiB"
        table.add_row(one.name, f"{one.parameters:,}", f"{one.macs / 1e9:,.2f} G", memory)
    return table


def tap_table(description: Description) -> Table:
    """One line for each feature map, shallow to deep."""
    table = Table(title="feature maps", title_justify="left")
    table.add_column("name")
    for heading in ("stride", "channels", "size", "dilation", "receptive field"):
        table.add_column(heading, justify="right")
    for tap in description.taps:
        field = "n/a" if tap.receptive_field is None else str(tap.receptive_field)
        size = f"{tap.size[0]}×{tap.size[1]}"
        table.add_row(tap.name, str(tap.stride), str(tap.channels), size, str(tap.dilation), field)
    return table
