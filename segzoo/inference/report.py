"""What became of a prediction run, for people and for programs."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from segzoo.data.labels import LabelSpace
from segzoo.data.whole_file import write_whole
from segzoo.errors import printable
from segzoo.inference.jobs import Shard

_NAMED = 3  # images that failed for one reason


@dataclass
class PredictReport:
    """What became of each image.

    Args:
        output: folder of the masks.
        written: images that were segmented.
        skipped: images whose outputs were there already.
        failed: image -> reason; also in failed.json.
        pixels: of each class, in the images that were written.
        seconds: that segmenting took, without loading the network.
        shard: which part of the images this is about.
    """

    output: Path
    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    pixels: list[int] = field(default_factory=list)
    seconds: float = 0.0
    shard: Shard = field(default_factory=Shard)
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

    def __enter__(self) -> "PredictReport":
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write failed.json, also where a signal or a full disk ended the run."""
        try:
            self.write_failures()
        except OSError:  # what ended the run says more
            if error is None:
                raise

    def fail(self, image: Path | str, reason: str) -> None:
        """Note why there is nothing for an image."""
        self.failed[printable(image)] = printable(reason)

    def write_failures(self) -> None:
        """failed.json where anything failed; else there is none."""
        path = self.output / self.shard.file_name("failed.json")
        if self.failed:
            self.failed = dict(sorted(self.failed.items()))
            _write_json(path, self.failed)
        else:
            path.unlink(missing_ok=True)

    def write_summary(self, labels: LabelSpace, facts: dict[str, Any]) -> None:
        """summary.json: counts, speed, the classes' areas, and the facts of the request."""
        total = sum(self.pixels)
        classes = {
            name: {"pixels": count, "share": round(count / total, 6) if total else None}
            for name, count in zip(labels.names, self.pixels, strict=True)
        }
        self.write_facts({**facts, "classes": classes})

    def write_facts(self, facts: dict[str, Any]) -> None:
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
        _write_json(self.output / self.shard.file_name("summary.json"), content)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
