"""What is in a data set: sizes, colours, classes, and the class weights that follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from segzoo.data.doctor.scan import ImageFacts, Scan, facts_labels
from segzoo.data.doctor.splits import SplitScan
from segzoo.data.labels import LabelSpace
from segzoo.data.statistics import balanced_weights


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
