"""What `segzoo benchmark` can be asked for; without torch, so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

_OF_NETWORKS = ("task", "size", "batch", "device", "compiled", "memory")
_READ: Mapping[str, tuple[str, ...]] = {
    "loader": ("images",),
    "inference": (*_OF_NETWORKS, "engines"),
    "training": _OF_NETWORKS,
    "engines": ("images", "engines"),
    "predict": ("images",),
    "evaluate": ("images",),
    "scaling": ("device", "memory", "plot"),
}
_ALWAYS_READ = ("rounds", "quick")

PARTS = tuple(_READ)

Task = Literal["segmentation", "classification"]


@dataclass(frozen=True)
class Settings:
    """How much to measure, and of what.

    Args:
        rounds: counted rounds.
        images: of loader, engines, predict and evaluate: images in a round.
        engines: those to measure; empty for all that are installed.
        task: of inference and training: DeepLabV3+ beside SMP's, or Chollet's classifier beside timm's.
        size: of inference and training: height and width of the images in pixels; None is the task's usual one.
        batch: of inference and training: images at a time; None is the part's usual number.
        device: of inference, training and scaling: where to compute.
        compiled: of inference and training: rows of torch.compile too; None leaves it to the part.
        memory: of inference, training and scaling: measure peak memory, each row in a process of its own.
        plot: of scaling: PNG to write.
        quick: the smallest sizes and a small baseline: whether everything works, in a minute, and nothing about speed.
    """

    rounds: int = 9
    images: int = 48
    engines: tuple[str, ...] = ()
    task: Task = "segmentation"
    size: int | None = None
    batch: int | None = None
    device: str = "cpu"
    compiled: bool | None = None
    memory: bool = True
    plot: Path | None = None
    quick: bool = False

    def quickly(self) -> "Settings":
        """The same with as little work as shows that everything runs."""
        return replace(
            self,
            rounds=1,
            images=2,
            size=self.size or 64,
            batch=self.batch or 2,
            compiled=bool(self.compiled),
            quick=True,
        )


def unread(part: str) -> list[str]:
    """Names of the settings that mean nothing to one of `PARTS`."""
    return [field.name for field in fields(Settings) if field.name not in (*_ALWAYS_READ, *_READ[part])]
