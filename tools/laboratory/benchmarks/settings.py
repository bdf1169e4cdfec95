"""What tools/benchmark.py can be asked for; without torch, so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

_OF_NETWORKS = ("size", "batch", "device", "compiled", "memory")
_READ: Mapping[str, tuple[str, ...]] = {
    "loader": ("images",),
    "inference": (*_OF_NETWORKS, "engines"),
    "training": _OF_NETWORKS,
    "engines": ("images", "engines"),
    "scaling": ("device", "memory", "plot"),
}
_ALWAYS_READ = ("rounds", "quick")

PARTS = tuple(_READ)


@dataclass(frozen=True)
class Settings:
    """How much to measure, and of what; None leaves it to the part.

    Args:
        rounds: counted rounds.
        images: images in a round.
        engines: those to measure; empty for all that are installed.
        size: height and width of the images in pixels.
        batch: images at a time.
        device: where to compute.
        compiled: rows of torch.compile too.
        memory: measure peak memory, each row in a process of its own.
        plot: PNG to write.
        quick: the smallest sizes and a small baseline: whether everything works, in a minute, and nothing about speed.
    """

    rounds: int = 9
    images: int = 48
    engines: tuple[str, ...] = ()
    size: int | None = None
    batch: int | None = None
    device: str = "cpu"
    compiled: bool | None = None
    memory: bool = True
    plot: Path | None = None
    quick: bool = False


def unread(part: str) -> list[str]:
    """Names of the settings that mean nothing to one of `PARTS`."""
    return [field.name for field in fields(Settings) if field.name not in (*_ALWAYS_READ, *_READ[part])]
