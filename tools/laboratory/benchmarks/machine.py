"""What this machine is, and what it can do at most, measured beside everything else."""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from segzoo.data.cores import available_cores
from segzoo.models.agreement import Precision

Way = Callable[[], object]
"""Does its work once, and returns when it is done."""

_TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_CPUINFO = Path("/proc/cpuinfo")
_TIMES = Path("/proc/stat")
_STOLEN = 7  # place among the times of all processors, after their label; guests' follow, which others contain
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")  # that decide about speed
_PACKAGES = ("segmentation-models-pytorch", "timm", "onnxruntime", "openvino")
SIDES: dict[Precision, int] = {"fp32": 2048, "bf16": 4096}
_SHRINK = 16


@dataclass(frozen=True)
class Limits:
    """What the machine was measured to do at most.

    Args:
        flops: floating-point operations a second of a large matrix product, by precision.
    """

    flops: dict[Precision, float]

    def __str__(self) -> str:
        products = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {precision}" for precision, rate in self.flops.items())
        return f"matrix product {products}"


class LimitProbes:
    """The limits as ways to take turns with others: a matrix product for each precision.

    Args:
        device: where.
        precisions: of the products.
        quick: small ones, which tell nothing.
    """

    def __init__(self, device: torch.device, precisions: Sequence[Precision], *, quick: bool) -> None:
        self.sides = {precision: SIDES[precision] // (_SHRINK if quick else 1) for precision in precisions}
        self.ways = [_product(side, _TYPES[precision], device) for precision, side in self.sides.items()]

    def limits(self, seconds: Sequence[float]) -> Limits:
        """The limits, from the seconds that `ways` took."""
        sides = zip(self.sides.items(), seconds, strict=True)
        return Limits({precision: 2 * side**3 / taken for (precision, side), taken in sides})


def waiting(way: Way, device: torch.device) -> Way:
    """A way that returns when a GPU has done its work, too."""
    if device.type != "cuda":
        return way

    def run() -> object:
        result = way()
        torch.cuda.synchronize(device)
        return result

    return run


def machine_line(device: torch.device) -> str:
    """Processor, cores, threads, instructions, versions and load, in a line."""
    cores = f"{available_cores()} cores of {_processor()} ({', '.join(_instructions()) or 'no known extensions'})"
    gpu = [torch.cuda.get_device_name(device)] if device.type == "cuda" else []
    load = [f"load {os.getloadavg()[0]:.1f} at the end"] if hasattr(os, "getloadavg") else []
    parts = [*gpu, cores, f"{torch.get_num_threads()} threads", platform.system(), *_versions(), *load]
    return ", ".join(parts)


class TakenTime:
    """The processor time that a virtual machine's host gave to others meanwhile: much of it spoils figures."""

    def __init__(self) -> None:
        self._before = _processor_times()

    def note(self) -> str | None:
        """Its share of the time when this machine wanted to compute; None where the system does not say."""
        wanted, taken = (now - before for now, before in zip(_processor_times(), self._before, strict=True))
        return f"the host took {taken / wanted:.0%} of the processor time that was wanted" if wanted else None


def _processor_times() -> tuple[int, int]:
    """Ticks of all processors: wanted, and of these taken by the host."""
    if not _TIMES.exists():
        return 0, 0
    ticks = [int(text) for text in _TIMES.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]]
    idle = slice(3, 5)  # doing nothing, and waiting for a disk
    return sum(ticks[: _STOLEN + 1]) - sum(ticks[idle]), ticks[_STOLEN]


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    yield f"torch {torch.__version__}"
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def _processor() -> str:
    return next(_cpuinfo("model name"), platform.machine())


def _instructions() -> list[str]:
    flags = next((set(text.split()) for key in ("flags", "Features") for text in _cpuinfo(key)), set())
    return [name for name in _INSTRUCTIONS if name in flags] or [torch.backends.cpu.get_cpu_capability()]


def _cpuinfo(key: str) -> Iterator[str]:
    if not _CPUINFO.exists():
        return
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        name, _, text = line.partition(":")
        if name.strip() == key:
            yield text.strip()


def _product(side: int, kind: torch.dtype, device: torch.device) -> Way:
    left, right, out = (torch.rand(side, side, device=device).to(kind) for _ in range(3))
    return waiting(lambda: torch.mm(left, right, out=out), device)
