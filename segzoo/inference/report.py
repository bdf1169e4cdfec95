"""What became of a prediction run, for people and for programs."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segzoo.errors import printable
from segzoo.files import write_atomically

SUMMARY = "summary.json"
FAILED = "failed.json"

_NAMED = 3  # images that failed for one reason


@dataclass
class PredictReport:
    """What became of each image.

    Args:
        output: folder of the masks.
        written: images that were segmented.
        skipped: images whose outputs were there already.
        failed: image -> reason; also in failed.json.
        pixels: of each class, in all images of the folder that are done, those that were skipped too.
        seconds: that segmenting took, without loading the network.
    """

    output: Path
    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    pixels: list[int] = field(default_factory=list)
    seconds: float = 0.0
    _start: float = field(default_factory=time.perf_counter, init=False, repr=False)

    @property
    def images_per_second(self) -> float:
        """Of those written."""
        return len(self.written) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        counts = f"{len(self.written)} written, {len(self.skipped)} skipped, {len(self.failed)} failed"
        speed = f" ({self.images_per_second:.1f} images/s)" if self.written else ""
        return "\n".join([f"{counts}{speed}; {printable(self.output)}", *self._failures()])

    def _failures(self) -> Iterator[str]:
        """A line for each reason, whatever the number of images; failed.json lists them all."""
        images: dict[str, list[str]] = {}
        for image, reason in self.failed.items():
            images.setdefault(reason.split(f"{image}: ", 1)[-1], []).append(image)
        for reason, names in images.items():
            count = f"{len(names)} images: " if len(names) > _NAMED else ""
            more = ", ..." if len(names) > _NAMED else ""
            yield f"failed: {count}{', '.join(names[:_NAMED])}{more}: {reason}"

    def start(self) -> None:
        """Begin to measure the time."""
        self._start = time.perf_counter()

    def fail(self, image: Path | str, reason: str) -> None:
        """Note why there is nothing for an image."""
        self.failed[printable(image)] = printable(reason)

    def write_summary(self, facts: dict[str, Any]) -> None:
        """summary.json: counts, speed, and the facts."""
        self.seconds = round(time.perf_counter() - self._start, 3)
        content = {
            "written": len(self.written),
            "skipped": len(self.skipped),
            "failed": len(self.failed),
            "seconds": self.seconds,
            "images_per_second": round(self.images_per_second, 3),
            **facts,
        }
        write_json(self.output / SUMMARY, content)


def class_areas(names: Sequence[str], pixels: Sequence[int]) -> dict[str, Any]:
    """Each class's pixels, and their share of all."""
    total = sum(pixels)
    return {
        name: {"pixels": count, "share": round(count / total, 6) if total else None}
        for name, count in zip(names, pixels, strict=True)
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file for programs, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
