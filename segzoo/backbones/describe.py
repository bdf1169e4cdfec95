"""What a backbone is and what it costs: the numbers behind `segzoo backbones`.

Networks are measured on PyTorch's meta device, where tensors have a shape and no content.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from segzoo.backbones.registry import build_backbone
from segzoo.backbones.spec import FeatureSpec
from segzoo.backbones.strides import receptive_fields
from segzoo.backbones.xception import Xception
from segzoo.errors import ConfigError

_LONGEST = 1_000_000  # pixels a side, far beyond any image; torch counts in 64 bits


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
        output_stride: stride of its deepest feature map.
        size: height and width of the image in pixels.
        parameters: how many numbers are trained.
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
    """Measure the backbone of a name, see `list_backbones`, for an image of a height and a width.

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


@dataclass(frozen=True)
class Cost:
    """What one forward pass of a network, or of a part of it, takes.

    Args:
        macs: multiply-adds of the convolutions and matrix products.
        activation_bytes: what a training step keeps of the forward pass for the backward pass, in float32.
        output: shape of the last tensor that was computed there, if any was.
    """

    macs: int
    activation_bytes: int
    output: tuple[int, ...] | None


@dataclass(frozen=True)
class Measurement:
    """A network's output, its cost, and that of its parts by name."""

    output: Any
    total: Cost
    parts: dict[str, Cost]


def measure(network: nn.Module, image: Tensor, parts: Sequence[str] = ()) -> Measurement:
    """Run a network once, in the mode it is in, and count.

    What two parts share of the kept memory counts for the one that came first.

    Args:
        network: on the meta device.
        image: on the meta device.
        parts: modules to count apart, none inside another, by their names in the network.
    """
    weights = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, tuple[Tensor, str | None]] = {}  # holding the tensors keeps their storages, and so the keys, apart
    root = type(network).__name__
    named = {f"{root}.{part}": part for part in parts}

    with FlopCounterMode(display=False) as counter:
        shapes = _Shapes(counter.mod_tracker.parents, named)

        def keep(tensor: Tensor) -> Tensor:
            if _storage(tensor) not in weights:
                kept.setdefault(_storage(tensor), (tensor, shapes.part()))
            return tensor

        with shapes, saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(image)
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    sizes = dict.fromkeys((None, *parts), 0)
    for tensor, part in kept.values():
        sizes[part] += tensor.untyped_storage().nbytes()
    costs = {
        part: Cost(flops.get(full_name, 0) // 2, sizes[part], shapes.last.get(part))
        for full_name, part in named.items()
    }
    total = Cost(counter.get_total_flops() // 2, sum(sizes.values()), shapes.last.get(None))
    return Measurement(output, total, costs)


def check_size(size: tuple[int, int]) -> None:
    """Raise `ConfigError` where no image can have this height and width."""
    if not 1 <= min(size) <= max(size) <= _LONGEST:
        raise ConfigError(f"size is {size[0]}×{size[1]}; both sides must be 1 to {_LONGEST:,} pixels")


class _Shapes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hooks untyped
    """Remembers the shape of the last tensor that each part computed.

    Args:
        running: names of the modules that run at present, kept up to date by their owner.
        named: the parts among them.
    """

    def __init__(self, running: set[str], named: dict[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = running
        self.named = named
        self.last: dict[str | None, tuple[int, ...]] = {}

    def part(self) -> str | None:
        """The part that runs at present."""
        return next((self.named[name] for name in self.running if name in self.named), None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor):
                self.last[self.part()] = self.last[None] = tuple(tensor.shape)
                break
        return out


def _storage(tensor: Tensor) -> int:
    """The identity of a tensor's memory, which its views share."""
    return tensor.untyped_storage()._cdata
