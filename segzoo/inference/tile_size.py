"""How large a tile may be: from the memory at hand and what the network takes of it."""

import math
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segzoo.backbones.spec import Network
from segzoo.checkpoint.read import AnyTrained
from segzoo.config.evaluation import SMALLEST_TILE
from segzoo.inference.augment import TestTimeAugmentation
from segzoo.inference.tiles import GRID
from segzoo.models.networks import sketch_network

LARGEST_TILE = 2048
"""Pixels: larger ones take longer for little more context, and progress is seen once a tile."""

_SHARE = 0.5  # of the free memory: beside the network's tensors there are images, blended scores and work space
_LARGEST_BATCH = 8
_PROBE = 513  # pixels a side
_UNKNOWN = 4 * 2**30  # bytes, where the system does not say
_CGROUPS = Path("/sys/fs/cgroup")


def choose_tile(source: AnyTrained, device: torch.device, augmentation: TestTimeAugmentation | None = None) -> int:
    """What `evaluation.tile=auto` means here and now for a network, in pixels a side."""
    return auto_tile(free_memory(device), _largest_per_pixel(source, augmentation))


def choose_batch(
    source: AnyTrained, device: torch.device, tile: int, augmentation: TestTimeAugmentation | None = None
) -> int:
    """Tiles that a GPU should get together; processors gain nothing from more than one."""
    if device.type != "cuda":
        return 1
    return auto_batch(free_memory(device), _largest_per_pixel(source, augmentation), tile)


def auto_tile(free: float, per_pixel: float) -> int:
    """The largest tile, a multiple of 32, that takes at most half of the memory.

    Args:
        free: bytes at hand.
        per_pixel: bytes that the network takes at once for each pixel of its input.

    >>> auto_tile(8 * 2**30, 2000), auto_tile(80 * 2**30, 2000), auto_tile(0, 2000)
    (1440, 2048, 32)
    """
    side = math.isqrt(max(0, int(free * _SHARE / per_pixel))) // GRID * GRID
    return min(LARGEST_TILE, max(SMALLEST_TILE, side))


def auto_batch(free: float, per_pixel: float, tile: int) -> int:
    """The most tiles, up to 8, that together take at most half of the memory; at least one.

    Args:
        free: bytes at hand.
        per_pixel: bytes that the network takes at once for each pixel of its input.
        tile: pixels a side.

    >>> auto_batch(8 * 2**30, 2000, 512), auto_batch(2**30, 2000, 2048)
    (8, 1)
    """
    return min(_LARGEST_BATCH, max(1, int(free * _SHARE / (per_pixel * tile**2))))


_measured: "weakref.WeakKeyDictionary[Network, float]" = weakref.WeakKeyDictionary()


def memory_per_pixel(source: AnyTrained) -> float:
    """Bytes that a forward pass holds at its peak for each pixel, in float32; measured without memory or content.

    What the kernels take for themselves is not in it. Measured once for each network.
    """
    if source.network not in _measured:
        network = sketch_network(source.config, source.labels.num_classes, evaluated=True).eval()
        image = torch.empty(1, source.config.data.channels, _PROBE, _PROBE, device="meta")
        with torch.inference_mode(), LiveBytes() as live:
            network(image)
        _measured[source.network] = live.peak / _PROBE**2
    return _measured[source.network]


def free_memory(device: torch.device) -> int:
    """Bytes that a process may still take on a device, as far as the system and its limits tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(0, min([_available(), *left_in_groups(_CGROUPS, Path("/proc/self/cgroup"))]))


def _largest_per_pixel(source: AnyTrained, augmentation: TestTimeAugmentation | None) -> float:
    """Bytes for each pixel of a tile at the largest scale that the network sees it."""
    largest = 1.0 if augmentation is None else max(1.0, *augmentation.scales)
    return memory_per_pixel(source) * largest**2


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hooks untyped
    """Counts the bytes of the tensors that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        self.peak = max(self.peak, sum(self._alive.values()))
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            weakref.finalize(storage, self._alive.pop, key, None)


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), _UNKNOWN)
    except OSError:  # only Linux says what is free; elsewhere half of what there is
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        except (AttributeError, ValueError, OSError):  # Windows has no sysconf
            return _UNKNOWN


def left_in_groups(mounted: Path, membership: Path) -> Iterator[int]:
    """Bytes below each limit that a container or a batch system sets, in both versions of control groups."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage = mounted, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = mounted / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        own = root / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(root):
                yield from _left(group / limit, group / usage)


def _left(limit: Path, usage: Path) -> Iterator[int]:
    try:
        used = int(usage.read_text(encoding="ascii")) - _reclaimable(usage.with_name("memory.stat"))
        yield int(limit.read_text(encoding="ascii")) - used
    except (OSError, ValueError):  # no limit there, or "max"
        return


def _reclaimable(statistics: Path) -> int:
    """Bytes of files that the system keeps as long as nobody needs the memory; MemAvailable has them, too."""
    try:
        entries = dict(line.split() for line in statistics.read_text(encoding="ascii").splitlines())
    except OSError:
        return 0
    return sum(int(entries.get(f"total_{key}", entries.get(key, 0))) for key in ("active_file", "inactive_file"))
