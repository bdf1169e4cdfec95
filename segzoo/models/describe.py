"""A network as a table of the parts that a reader thinks in: the numbers behind `segzoo model`."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import nn

from segzoo.backbones import Backbone
from segzoo.backbones.describe import Cost, check_size, measure
from segzoo.backbones.layers import Flow
from segzoo.config.schema import ModelConfig
from segzoo.models.build import build_segmenter
from segzoo.models.decoder import Decoder
from segzoo.models.segmenter import Segmenter

_IMAGES = 2  # some decoders do not train on one image; costs are halved


@dataclass(frozen=True)
class Part:
    """A part of a network, and what it costs for one image.

    Args:
        name: its modules' common name in the `state_dict`; empty for what is computed between the parts.
        modules: how many equal modules it stands for.
        channels: channels of the map that it ends in, if it computes one.
        size: height and width of that map in pixels.
        parameters: numbers it learns, or keeps frozen.
        macs: its multiply-adds in one forward pass.
        activation_bytes: what a training step keeps of it for the backward pass, in float32.
    """

    name: str
    modules: int
    channels: int | None
    size: tuple[int, int] | None
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class SegmenterDescription:
    """A network, part by part, and what it costs for one image; its counts are those of `Part`.

    Args:
        backbone: the variant.
        decoder: its name.
        output_stride: stride of the deepest tap.
        size: height and width of the image in pixels.
        num_classes: channels of the logits.
        parts: in the order they run; their sums are the totals.
    """

    backbone: str
    decoder: str
    output_stride: int
    size: tuple[int, int]
    num_classes: int
    parameters: int
    macs: int
    activation_bytes: int
    parts: tuple[Part, ...]


def describe_segmenter(
    config: ModelConfig, num_classes: int, *, size: tuple[int, int], in_channels: int = 3
) -> SegmenterDescription:
    """Measure a network on the meta device for an image of a height and a width: in seconds, without memory.

    The auxiliary head's parameters count; what it adds to a training step does not.

    Raises:
        ConfigError: parts that do not fit together, or an impossible size.
    """
    check_size(size)
    with torch.device("meta"):
        segmenter = build_segmenter(config, num_classes, in_channels=in_channels, pretrained=False)
        images = torch.empty(_IMAGES, in_channels, *size)
    modules = dict(reading_parts(segmenter))
    measured = measure(segmenter, images, list(modules))
    parts = [_part(name, module, measured.parts[name]) for name, module in modules.items()]
    shown = [part for part in parts if part.parameters or part.macs]
    whole = _part("", segmenter, measured.total)
    between = Part(
        name="",
        modules=1,
        channels=None,
        size=None,
        parameters=whole.parameters - sum(part.parameters for part in shown),
        macs=whole.macs - sum(part.macs for part in shown),
        activation_bytes=whole.activation_bytes - sum(part.activation_bytes for part in shown),
    )
    return SegmenterDescription(
        backbone=config.backbone.name,
        decoder=config.decoder,
        output_stride=config.output_stride,
        size=size,
        num_classes=num_classes,
        parameters=whole.parameters,
        macs=whole.macs,
        activation_bytes=whole.activation_bytes,
        parts=(*shown, between),
    )


def segmenter_table(description: SegmenterDescription) -> Table:
    """One line for each part, and the totals."""
    height, width = description.size
    table = Table(
        title=f"{description.decoder} on {description.backbone}, output stride {description.output_stride}, "
        f"{height}×{width} pixels",
        title_justify="left",
        box=SIMPLE_HEAD,  # narrow enough for 80 columns
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("part", overflow="fold")
    for heading in ("output", "parameters", "GMACs", "MiB kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in description.parts:
        name = part.name or "(between the parts)"
        repeated = f" ×{part.modules}" if part.modules > 1 else ""
        output = "" if part.size is None else f"{part.channels}×{part.size[0]}×{part.size[1]}"
        table.add_row(name + repeated, output, *_figures(part))
    table.add_section()
    table.add_row("total", f"{description.num_classes}×{height}×{width}", *_figures(description))
    return table


def reading_parts(segmenter: Segmenter) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the parts that a reader thinks in: the flows' modules, the decoder's stages."""
    for name, child in segmenter.named_children():
        yield from _opened(name, child, segmenter)


def _opened(name: str, module: nn.Module, parent: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if not _is_opened(module, parent):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _opened(f"{name}.{child_name}", child, module)


def _is_opened(module: nn.Module, parent: nn.Module) -> bool:
    """Whether a reader looks inside: into containers, and into what a decoder is made of."""
    if isinstance(module, Flow):
        return _equal_modules(module) == 1
    if isinstance(module, Backbone | Decoder | nn.ModuleList | nn.ModuleDict):
        return True
    has_parts = any(True for _ in module.children())
    return isinstance(parent, Decoder) and has_parts and not isinstance(module, nn.Sequential)


def _equal_modules(module: nn.Module) -> int:
    """How many modules a flow repeats; 1 where they differ."""
    if not isinstance(module, Flow):
        return 1
    return len(module) if len({_count_parameters(child) for child in module}) == 1 else 1


def _part(name: str, module: nn.Module, cost: Cost) -> Part:
    output = cost.output if cost.output is not None and len(cost.output) == 4 else None
    return Part(
        name=name,
        modules=_equal_modules(module),
        channels=None if output is None else output[1],
        size=None if output is None else (output[2], output[3]),
        parameters=_count_parameters(module),
        macs=cost.macs // _IMAGES,
        activation_bytes=cost.activation_bytes // _IMAGES,
    )


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _figures(costs: Part | SegmenterDescription) -> tuple[str, str, str]:
    return f"{costs.parameters:,}", f"{costs.macs / 1e9:,.3f}", f"{costs.activation_bytes / 2**20:,.1f}"
