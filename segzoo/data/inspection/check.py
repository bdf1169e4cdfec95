"""A data set examined: what is in it, and everything that is wrong with it, in one run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count, takewhile
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.classes import infer_labels, regrouped_labels, single_class
from segzoo.data.datasets.listing import Pair
from segzoo.data.inspection.findings import (
    CheckReport,
    Finding,
    class_findings,
    depth_findings,
    duplicate_findings,
    is_sound,
    mask_findings,
    split_findings,
    storage_findings,
    value_findings,
)
from segzoo.data.inspection.scan import ImageFacts, Scan, SplitScan, facts_labels, scan_splits
from segzoo.data.reading.labels import IGNORED, LabelSpace
from segzoo.data.sample import balanced_weights
from segzoo.errors import DataError


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
        count: how many.
        height: in pixels.
        width: in pixels.
        channels: numbers of channels there are.
        mean: of each channel over all pixels, in units of the full range; empty where channels differ.
        std: as `mean`.
    """

    count: int
    height: Extent
    width: Extent
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ClassSummary:
    """The readable masks of a split.

    Args:
        pixels: of each class.
        images: that contain each class.
        ignored: pixels that no class has.
    """

    pixels: tuple[int, ...]
    images: tuple[int, ...]
    ignored: int

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class in the pixels of all; pixels count once for each class that they have."""
        total = max(sum(self.pixels), 1)
        return tuple(count / total for count in self.pixels)

    @property
    def weights(self) -> tuple[float, ...]:
        """What `loss.class_weights=balanced` would take."""
        return balanced_weights(np.array(self.pixels))


def image_summary(scans: Sequence[Scan]) -> ImageSummary | None:
    """Sizes and colours; None where no image can be read."""
    images = [scan.image for scan in scans if scan.image is not None]
    if not images:
        return None
    channels = tuple(sorted({len(image.sums) for image in images}))
    mean, std = _mean_and_std(images) if len(channels) == 1 else ((), ())
    heights, widths = zip(*(image.size for image in images), strict=True)
    return ImageSummary(len(images), Extent.of(heights), Extent.of(widths), channels, mean, std)


def class_summary(split: SplitScan, labels: LabelSpace) -> ClassSummary:
    """Pixels and images of each class; values that are no class are left out."""
    pixels = np.zeros(256, dtype=np.int64)
    images = np.zeros(256, dtype=np.int64)
    for scan in split.scans:
        counts = _class_pixels(scan, labels)
        pixels += counts
        images += counts > 0
    classes = labels.num_classes
    ignored = int(pixels[labels.ignore_index])
    return ClassSummary(tuple(pixels[:classes].tolist()), tuple(images[:classes].tolist()), ignored)


def _class_pixels(scan: Scan, labels: LabelSpace) -> npt.NDArray[np.int64]:
    pixels = np.zeros(256, dtype=np.int64)
    if scan.mask is not None:
        values, counts = scan.mask.arrays()
        if facts_labels(labels).refusal(values, counts) is None:
            np.add.at(pixels, facts_labels(labels).encode(values), counts)
    return pixels


def _mean_and_std(images: Sequence[ImageFacts]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel over all pixels, as if all images were one."""
    pixels = sum(image.size[0] * image.size[1] for image in images)
    sums, squares = np.zeros(len(images[0].sums)), np.zeros(len(images[0].sums))
    for image in images:
        sums += image.sums
        squares += image.squares
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


@dataclass(frozen=True)
class SplitReport:
    """What is in a split.

    Args:
        name: of the split.
        samples: image and mask files that belong together.
        images: None where none can be read.
        classes: None where the masks' values mean nothing.
        pairs: those that can be used.
    """

    name: str
    samples: int
    images: ImageSummary | None
    classes: ClassSummary | None
    pairs: tuple[Pair, ...]

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
class Report(CheckReport[SplitReport]):
    """What the doctor found, and the class weights that follow."""

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """What `loss.class_weights=balanced` takes; None where the training masks hold no class."""
        classes = self.splits[0].classes
        return classes.weights if classes is not None and any(classes.pixels) else None

    def as_dict(self) -> dict[str, Any]:
        """The whole report in JSON types."""
        return {**super().as_dict(), "class_weights": self.class_weights}


def check_data(config: DataConfig, *, progress: bool = True) -> Report:
    """Read every file of the training and the validation split and say all that is wrong, and what is there.

    Args:
        config: the run's `data` section.
        progress: show a bar on standard error.

    Raises:
        ConfigError: the folder or both splits are not there, or there is no such data set.
    """
    splits = scan_splits(config, progress=progress)
    findings = list(mask_findings(splits, next((split.labels for split in splits if split.labels is not None), None)))
    labels, refusals = _labels(splits, config, sound=not any(finding.severity == "error" for finding in findings))
    findings += refusals
    for split in splits:
        findings += split_findings(split)
        findings += value_findings(split, labels) if labels else ()
    findings += duplicate_findings(splits)
    findings += storage_findings(splits)
    findings += depth_findings(splits)
    findings += class_findings(splits[0], splits[-1], labels) if labels else ()
    reports = tuple(_split_report(split, labels) for split in splits)
    return Report(_sorted(findings), reports, labels)


def _split_report(split: SplitScan, labels: LabelSpace | None) -> SplitReport:
    classes = class_summary(split, labels) if labels else None
    sound = (scan.pair for scan in split.scans if scan.pair and labels and is_sound(scan, labels))
    return SplitReport(split.name, len(split.scans), image_summary(split.scans), classes, tuple(sound))


def _labels(splits: Sequence[SplitScan], config: DataConfig, *, sound: bool) -> tuple[LabelSpace | None, list[Finding]]:
    """The label space, from the masks' values where nothing else tells, and what is wrong with those.

    Args:
        splits: as they were read.
        config: the run's `data` section.
        sound: whether values tell: they are neither smoothed nor of palettes that differ.
    """
    known = next((split.labels for split in splits if split.labels is not None), None)
    if known is not None and (line := single_class(known)):
        return known, [Finding("error", "single class", ", ".join(split.name for split in splits), line)]
    masks = [set(scan.mask.values) for scan in splits[0].scans if scan.mask is not None]
    if known is not None or not masks or not sound:
        return known, []
    try:
        return regrouped_labels(infer_labels(set().union(*masks), config), config), []
    except DataError as error:
        likely = _values_of_most(masks)
        if likely is not None:  # the masks with other values are the ones to mend, and will be named
            return regrouped_labels(infer_labels(likely, config), config), []
        return None, [Finding("error", "no class numbers", splits[0].name, line) for line in error.problems]


def _values_of_most(masks: Sequence[set[int]]) -> set[int] | None:
    """0, 1, 2, ... without a gap, if most masks hold nothing else but the ignored value."""
    values = set().union(*masks)
    counting = set(takewhile(values.__contains__, count()))
    fitting = sum(mask <= {*counting, IGNORED} for mask in masks)
    return counting if len(counting) > 1 and fitting > len(masks) / 2 else None


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first, by kind, each line once, in the order in which they were found."""
    unique: dict[str, Finding] = {}
    for finding in findings:
        unique.setdefault(finding.line, finding)
    kinds = list(dict.fromkeys(finding.kind for finding in findings))
    return tuple(sorted(unique.values(), key=lambda finding: (finding.severity, kinds.index(finding.kind))))
