"""What a network costs, measured on PyTorch's meta device, where tensors have a shape and no content."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from segzoo.errors import ConfigError

_LONGEST = 1_000_000  # pixels a side, far beyond any image; torch counts in 64 bits


def check_size(size: tuple[int, int]) -> None:
    """See that an image can have this height and width.

    Raises:
        ConfigError: it cannot.
    """
    if not 1 <= min(size) <= max(size) <= _LONGEST:
        raise ConfigError(f"size is {size[0]}×{size[1]}; both sides must be 1 to {_LONGEST:,} pixels")


@dataclass(frozen=True)
class Cost:
    """What one forward pass of a network, or of a part of it, takes.

    Args:
        macs: multiply-adds of the convolutions and matrix products.
        activation_bytes: what a training step keeps of the forward pass for the backward pass, in float32.
        output: shape of the last tensor that was computed there; None where none was.
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
    """What tells memory apart: views of one tensor share it."""
    return tensor.untyped_storage()._cdata
