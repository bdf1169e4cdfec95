"""What is said of a folder of predictions: the report with summary.json, tables of all images, and the image grid.

Each takes what became of each image, and writes its file in the end: about the whole folder, whichever runs and shards
did its parts.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segzoo.data.pictures import GridImage, thumbnail, write_image_grid
from segzoo.data.reading.pixels import as_picture
from segzoo.errors import SegzooError, printable
from segzoo.escapes import csv_line
from segzoo.files import write_atomically
from segzoo.inference.jobs import Content, Job, Result
from segzoo.inference.predictor import Predictor
from segzoo.inference.record import Record, write_json

SUMMARY = "summary.json"
AREAS_FILE = "areas.csv"
PREDICTIONS = "predictions.csv"
IMAGE_GRID = "contact_sheet.jpg"

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

    def add(self, result: Result) -> None:
        """Note an image."""
        if result.content is None:
            self.fail(result.job.image, result.fault or "not predicted")
        else:
            self.written.append(result.job.image)

    def fail(self, image: Path | str, reason: str) -> None:
        """Note why there is nothing for an image."""
        self.failed[printable(image)] = printable(reason)

    def close(self, jobs: Iterable[Job], facts: Mapping[str, Any]) -> None:
        """Write summary.json: counts, speed, and the facts."""
        order = {job.image: number for number, job in enumerate(jobs)}
        self.written.sort(key=order.__getitem__)
        self.seconds = round(time.perf_counter() - self._start, 3)
        counts = {"written": len(self.written), "skipped": len(self.skipped), "failed": len(self.failed)}
        speed = {"seconds": self.seconds, "images_per_second": round(self.images_per_second, 3)}
        write_json(self.output / SUMMARY, {**counts, **speed, **facts})


class Sink(ABC):
    """Takes what became of each image, and in the end writes what is said of all."""

    def add(self, result: Result) -> None:
        """Take an image; nothing where the record knows all that is needed."""
        return

    @abstractmethod
    def close(self) -> Mapping[str, Any]:
        """Write the file; gives facts for summary.json. Called anew where another shard has ended meanwhile."""


@dataclass
class Areas(Sink):
    """Pixels of each class, in the report and the summary; a table of images and classes, where it has a path."""

    record: Record
    report: PredictReport
    names: Sequence[str]
    path: Path | None

    def close(self) -> Mapping[str, Any]:
        """areas.csv."""
        found = {name: entry.content or Content() for name, entry in self.record.covered().items()}
        counts = {name: [content.pixels.get(k, 0) for k in range(len(self.names))] for name, content in found.items()}
        self.report.pixels = [sum(each[k] for each in counts.values()) for k in range(len(self.names))]
        if self.path is not None:
            lines = [csv_line(["image", "class", "pixels", "share"])]
            for image, content in found.items():
                if content.size:
                    entries = zip(self.names, counts[image], strict=True)
                    lines += [csv_line([image, name, count, f"{count / content.size:.6f}"]) for name, count in entries]
            write_atomically(self.path, "".join(lines).encode())
        total = sum(self.report.pixels)
        classes = {
            name: {"pixels": count, "share": round(count / total, 6) if total else None}
            for name, count in zip(self.names, self.report.pixels, strict=True)
        }
        return {"images": len(found), "classes": classes}


@dataclass
class Predictions(Sink):
    """A table of so many of the most probable classes of each image: class_1, probability_1, class_2, ..."""

    record: Record
    names: Sequence[str]
    count: int

    def close(self) -> Mapping[str, Any]:
        """predictions.csv."""
        images = {name: entry.content.top for name, entry in self.record.covered().items() if entry.content}
        ranks = [cell for rank in range(1, self.count + 1) for cell in (f"class_{rank}", f"probability_{rank}")]
        lines = [csv_line(["image", *ranks])]
        for image, ranking in images.items():
            lines.append(csv_line([image, *(cell for name, chance in ranking for cell in (name, f"{chance:.6f}"))]))
        write_atomically(self.record.output / PREDICTIONS, "".join(lines).encode())
        best = Counter(ranking[0][0] for ranking in images.values())
        return {"images": len(images), "classes": {name: {"images": best[name]} for name in self.names}}


@dataclass
class ImageGrid(Sink):
    """Some of the predictions on a page, to see at a glance whether they make sense."""

    record: Record
    predictor: Predictor
    title: str
    images: dict[Path, GridImage | None] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Keep what is shown of an image."""
        if result.shown is not None:
            self.images[result.job.image] = result.shown

    def close(self) -> Mapping[str, Any]:
        """contact_sheet.jpg."""
        jobs = [job for job in self.record.jobs if job.is_shown]
        for job in jobs:
            if self.images.get(job.image) is None and self.record.is_done(job):
                self.images[job.image] = self._of_files(job)
        shown = [image for job in jobs if (image := self.images.get(job.image)) is not None]
        if shown:
            title = f"{self.title} ({len(shown)} of {len(self.record.jobs)} images)"
            write_image_grid(self.record.output / IMAGE_GRID, shown, self.predictor.labels, title)
        return {}

    def _of_files(self, job: Job) -> GridImage | None:
        """An image that another run or shard segmented, where its mask was kept."""
        if "mask" not in job.targets:
            return None
        try:
            image = as_picture(self.predictor.read(job.file))
            mask = self.predictor.labels.coding.read(job.targets["mask"], image.shape[:2])
        except SegzooError:
            return None
        return thumbnail(job.name, image, mask)
