"""What is in a data set and wrong with it: as numbers, as JSON, and as lines and tables for people."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from segzoo.data.class_balance import balanced_weights
from segzoo.data.datasets.listing import Pair
from segzoo.data.inspection.findings import Finding
from segzoo.data.inspection.masks import pixels_of_classes
from segzoo.data.inspection.scan import ImageFacts, SplitScan
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import DataError, in_groups

# Below the tables, where a line may be longer than the table is wide.
_SIZE_NOTE = "height and width in pixels: smallest / median / largest"
_LISTED = 20  # findings of one kind that are spelled out


@dataclass(frozen=True)
class Extent:
    """Smallest, median and largest of some lengths, in pixels."""

    low: int
    median: int
    high: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Extent":
        """The extent of at least one length."""
        return cls(min(lengths), int(median(lengths)), max(lengths))

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} / {self.median} / {self.high}"


@dataclass(frozen=True)
class ImageSummary:
    """The readable images of a split.

    Args:
        channels: the numbers of channels that occur.
        mean: of each channel over all pixels, in units of the full range; empty where channels differ.
        std: as `mean`.
    """

    count: int
    height: Extent
    width: Extent
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, split: SplitScan) -> "ImageSummary | None":
        """The summary of a split; None where no image can be read."""
        images = [scan.image for scan in split.scans if scan.image is not None]
        if not images:
            return None
        channels = tuple(sorted({len(image.sums) for image in images}))
        mean, std = _mean_and_std(images) if len(channels) == 1 else ((), ())
        heights, widths = zip(*(image.size for image in images), strict=True)
        return cls(len(images), Extent.of(heights), Extent.of(widths), channels, mean, std)


def _mean_and_std(images: Sequence[ImageFacts]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel over all pixels, as if all images were one."""
    pixels = sum(image.size[0] * image.size[1] for image in images)
    mean = np.sum([image.sums for image in images], axis=0) / pixels
    squares = np.sum([image.squares for image in images], axis=0) / pixels
    std = np.sqrt(np.maximum(squares - mean**2, 0))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


@dataclass(frozen=True)
class ClassSummary:
    """The classes of a split's readable masks.

    Args:
        pixels: of each class.
        images: how many show each class.
        ignored: pixels that no class has.
    """

    pixels: tuple[int, ...]
    images: tuple[int, ...]
    ignored: int

    @classmethod
    def of(cls, split: SplitScan, labels: LabelSpace) -> "ClassSummary":
        """Masks with values that are no class are left out."""
        pixels, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        for mask in (scan.mask for scan in split.scans if scan.mask is not None):
            with suppress(DataError):
                counts = pixels_of_classes(mask.pixels, labels)
                pixels += counts
                images += counts > 0
        classes = labels.num_classes
        return cls(tuple(pixels[:classes].tolist()), tuple(images[:classes].tolist()), int(pixels[labels.ignore_index]))

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class in the pixels of all; a pixel counts once for each class that it has."""
        total = max(sum(self.pixels), 1)
        return tuple(count / total for count in self.pixels)


@dataclass(frozen=True)
class SplitReport:
    """What is in a split.

    Args:
        samples: how many there are, readable or not.
        images: None where none can be read.
        classes: None where the masks' values mean nothing.
        pairs: those that can be used.
    """

    name: str
    samples: int
    images: ImageSummary | None
    classes: ClassSummary | None
    pairs: tuple[Pair, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """In JSON types."""
        classes = self.classes
        return {
            "samples": self.samples,
            "images": asdict(self.images) if self.images else None,
            "class_pixels": classes.pixels if classes else None,
            "class_shares": [round(share, 6) for share in classes.shares] if classes else None,
            "class_images": classes.images if classes else None,
            "ignored_pixels": classes.ignored if classes else None,
        }


@dataclass(frozen=True)
class Report:
    """What was found in the data of a run.

    Args:
        findings: errors first.
        labels: the classes; None where nothing tells them.
        splits: training and validation.
    """

    findings: tuple[Finding, ...]
    labels: LabelSpace | None
    splits: tuple[SplitReport, ...]

    @property
    def errors(self) -> int:
        """How many findings keep the data from being used."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many others there are."""
        return len(self.findings) - self.errors

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """What `loss.class_weights=balanced` takes; None where the training masks hold no class."""
        classes = self.splits[0].classes
        return balanced_weights(np.array(classes.pixels)) if classes and any(classes.pixels) else None

    def as_dict(self) -> dict[str, Any]:
        """The whole report in JSON types."""
        return {
            **self._of_all({split.name: split.as_dict() for split in self.splits}),
            "class_weights": self.class_weights,
        }

    def tables(self) -> Iterator[Table | str]:
        """What there is, as tables and lines about them."""
        yield _image_table(self)
        yield _SIZE_NOTE
        yield "mean and std: of each channel, in units of the full range"
        if self.labels is not None:
            yield _class_table(self, self.labels.names)
            yield "weight: what loss.class_weights=balanced takes, from the training masks"

    def _of_all(self, splits: dict[str, Any]) -> dict[str, Any]:
        return {
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "splits": splits,
            "classes": list(self.labels.names) if self.labels else None,
        }


class ClassificationReport(Report):
    """As `Report`, of whole images, of which no pixel has a class."""

    def as_dict(self) -> dict[str, Any]:
        """The whole report in JSON types."""
        return self._of_all({split.name: _whole_images(split) for split in self.splits})

    def tables(self) -> Iterator[Table | str]:
        """Images of each class, and all images with their sizes, in each split."""
        table = Table("class", *(f"{split.name}: images" for split in self.splits))
        for column in table.columns[1:]:
            column.justify = "right"
        for index, name in enumerate(self.labels.names if self.labels else ()):
            table.add_row(name, *(f"{split.classes.images[index]:,}" if split.classes else "" for split in self.splits))
        table.add_section()
        table.add_row("all images", *(f"{split.samples:,}" for split in self.splits))
        table.add_row("height", *(str(split.images.height if split.images else "") for split in self.splits))
        table.add_row("width", *(str(split.images.width if split.images else "") for split in self.splits))
        yield table
        yield _SIZE_NOTE


def _whole_images(split: SplitReport) -> dict[str, Any]:
    return {
        "images": split.samples,
        "class_images": split.classes.images if split.classes else None,
        "height": asdict(split.images.height) if split.images else None,
        "width": asdict(split.images.width) if split.images else None,
    }


def finding_lines(report: Report) -> Iterator[str]:
    """One line for each finding, errors first; many that say the same of other files are one."""
    for (severity, kind), group in groupby(report.findings, key=lambda finding: (finding.severity, finding.kind)):
        lines = in_groups(finding.line for finding in group)
        yield from (f"{severity}: {line}" for line in lines[:_LISTED])
        if len(lines) > _LISTED:
            yield f"{severity}: ... and {len(lines) - _LISTED} more ({kind}); --json lists all"


def verdict(report: Report) -> str:
    """How it stands, in one line."""
    if not report.findings:
        return "no problem found"
    return f"{_counted(report.errors, 'error')}, {_counted(report.warnings, 'warning')}"


def _image_table(report: Report) -> Table:
    """Sizes and colours of each split."""
    table = Table(title="images", title_justify="left")
    for heading in ("split", "images", "height", "width", "channels", "mean", "std"):
        table.add_column(heading)
    for split in report.splits:
        if split.images is None:
            table.add_row(split.name, "0")
            continue
        images = split.images
        channels = ", ".join(map(str, images.channels))
        extents = (str(images.height), str(images.width))
        table.add_row(split.name, str(images.count), *extents, channels, _numbers(images.mean), _numbers(images.std))
    return table


def _class_table(report: Report, names: Sequence[str]) -> Table:
    """Pixels and images of each class in each split, and class weights."""
    table = Table(title="classes", title_justify="left")
    table.add_column("class")
    for split in report.splits:
        table.add_column(f"{split.name}: pixels", justify="right")
        table.add_column("images", justify="right")
    table.add_column("weight", justify="right")
    weights = report.class_weights
    for index, name in enumerate(names):
        cells = [cell for split in report.splits for cell in _class_cells(split, index)]
        table.add_row(name, *cells, f"{weights[index]}" if weights else "")
    table.add_row("(ignored)", *[cell for split in report.splits for cell in _ignored_cells(split)], style="dim")
    return table


def _class_cells(split: SplitReport, index: int) -> tuple[str, str]:
    if split.classes is None:
        return "", ""
    return _percent(split.classes.shares[index], split.classes.pixels[index]), str(split.classes.images[index])


def _ignored_cells(split: SplitReport) -> tuple[str, str]:
    if split.classes is None:
        return "", ""
    total = sum(split.classes.pixels) + split.classes.ignored
    return _percent(split.classes.ignored / max(total, 1), split.classes.ignored), ""


def _percent(share: float, pixels: int) -> str:
    """A share that is not zero never looks like zero."""
    return "-" if pixels == 0 else f"{100 * share:.2f} %" if share >= 5e-5 else f"{pixels} px"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:z.2f}" for value in values)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
