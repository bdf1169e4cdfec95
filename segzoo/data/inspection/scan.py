"""What images, masks and whole splits hold: read once, in any process, and handed back as a few numbers."""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.datasets.classes import regrouped_labels
from segzoo.data.datasets.listing import Listing, Pair, Problem, empty_split, size_mismatch
from segzoo.data.datasets.spec import DATASETS, build_dataset
from segzoo.data.inspection.mask_facts import MaskFacts, mask_facts
from segzoo.data.reading.class_masks import read_class_masks
from segzoo.data.reading.images import ImageKind, read_color_mask, read_stored_mask
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.sample import SegmentationDataset, mask_extent, named_in_errors
from segzoo.errors import ConfigError, DataError

_PIXELS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class ImageFacts:
    """An image in numbers.

    Args:
        size: height and width as displayed.
        kind: how it is stored.
        digest: of the decoded pixels: equal for equal pictures, whatever their files.
        sums: of each channel, in units of the full range.
        squares: sums of each channel's squares.
        highest: about the largest number, of 16-bit images whose range nobody stated.
    """

    size: tuple[int, int]
    kind: ImageKind
    digest: bytes
    sums: tuple[float, ...]
    squares: tuple[float, ...]
    highest: int | None = None


@dataclass(frozen=True)
class Scan:
    """An image with its mask, as far as they can be read.

    Args:
        image_name: file of the image, or the id of a sample that is no pair of files.
        mask_name: file of the mask, or the same id.
        image: None where it cannot be read.
        mask: None where it cannot be read or has another size than the image.
        problems: why not.
        pair: the files, where there are any.
    """

    image_name: str
    mask_name: str
    image: ImageFacts | None
    mask: MaskFacts | None
    problems: tuple[Problem, ...] = ()
    pair: Pair | None = None

    @property
    def pixels(self) -> int:
        """Pixels of the mask; 0 where there is none."""
        return sum(self.mask.counts) if self.mask else 0


def scan_pair(pair: Pair, pixels: PixelFormat, labels: LabelSpace | None) -> Scan:
    """Read both files of a pair as training does; what is wrong with them is kept, never raised.

    Args:
        pair: the files.
        pixels: what the image file becomes.
        labels: what the mask file holds; None: numbers.
    """
    problems: list[Problem] = []
    image = mask = None
    try:
        seen, kind = pixels.read(pair.image), pixels.kind(pair.image)
        image = replace(image_facts(seen, kind), highest=pixels.highest_of_16_bits(seen, kind))
    except DataError as error:
        problems += [Problem("unreadable image", line) for line in error.problems]
    try:
        size, facts = pair_mask(pair, pixels, labels)
    except DataError as error:
        problems += [Problem("unusable mask", line) for line in error.problems]
    else:
        if image is None or image.size == size:
            mask = facts
        else:
            problems.append(Problem("size mismatch", size_mismatch(pair, image.size, size)))
    return Scan(str(pair.image), str(pair.mask), image, mask, tuple(problems), pair)


def pair_mask(
    pair: Pair, pixels: PixelFormat, labels: LabelSpace | None, *, colored: bool = False
) -> tuple[tuple[int, int], MaskFacts]:
    """Height and width of a pair's mask, and what it holds: as it is stored, or the classes that have masks in it.

    Args:
        pair: the files.
        pixels: what the image file becomes.
        labels: what the mask file holds; None: numbers, or colours.
        colored: whether it holds colours, where `labels` do not tell.

    Raises:
        DataError: a file is missing or damaged, or a class's mask holds a value that means nothing.
    """
    if labels is not None and pair.class_masks:
        masks = read_class_masks(pair.class_masks, labels, lambda: pixels.size(pair.image))
        return mask_extent(masks), mask_facts(masks)
    if labels.raw_colors if labels else colored:
        colors = read_color_mask(pair.mask)
        return mask_extent(colors), mask_facts(colors, colored=True)
    stored = read_stored_mask(pair.mask)
    return mask_extent(stored.values), mask_facts(stored.values, stored.palette)


def facts_labels(labels: LabelSpace) -> LabelSpace:
    """What the values in `MaskFacts` mean: those of the files, or, where each class has its own, the classes."""
    return labels if labels.coding.exclusive else LabelSpace(labels.names, labels.palette)


def scan_sample(dataset: SegmentationDataset, index: int) -> Scan:
    """Read one sample of a data set that is no list of files, such as one of your own classes."""
    name = dataset.ids[index]
    try:
        with named_in_errors(name):
            sample = dataset[index]
    except DataError as error:
        return Scan(name, name, None, None, tuple(Problem("unreadable sample", line) for line in error.problems))
    facts = image_facts(sample.image, ImageKind("sample"))
    if mask_extent(sample.mask) != facts.size:
        line = f"{name}: mask is {mask_extent(sample.mask)} but its image {facts.size}"
        return Scan(name, name, facts, None, (Problem("size mismatch", line),))
    return Scan(name, name, facts, mask_facts(sample.mask))


def image_facts(image: npt.NDArray[Any], kind: ImageKind) -> ImageFacts:
    """The numbers of a decoded image.

    Shape: (H, W, C).
    """
    height, width, channels = image.shape
    sums, squares = zip(*(_moments(image[..., channel]) for channel in range(channels)), strict=True)
    content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    content.update(repr((image.shape, image.dtype.str)).encode())
    return ImageFacts((height, width), kind, content.digest(), sums, squares)


def _moments(channel: npt.NDArray[Any]) -> tuple[float, float]:
    """Sum and sum of squares in units of the full range; a few rows at a time, so that large images need no memory."""
    full = np.iinfo(channel.dtype).max if np.issubdtype(channel.dtype, np.integer) else 1
    rows = max(1, _PIXELS_AT_ONCE // max(channel.shape[1], 1))
    total = squares = 0.0
    for start in range(0, len(channel), rows):
        piece = channel[start : start + rows].astype(np.float64).ravel() / full
        total += float(piece.sum())
        squares += float(piece @ piece)
    return total, squares


@dataclass(frozen=True)
class SplitScan:
    """One split, read as far as it can be.

    Args:
        name: of the split.
        scans: its samples, in order.
        labels: None where only the masks tell, or nothing does.
        errors: what names and lists show to be wrong.
        warnings: what they show to be odd.
    """

    name: str
    scans: tuple[Scan, ...] = ()
    labels: LabelSpace | None = None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def scan_splits(config: DataConfig, *, progress: bool) -> list[SplitScan]:
    """The training and the validation split.

    Args:
        config: the run's `data` section.
        progress: show a bar on standard error.

    Raises:
        ConfigError: neither split is there, or there is no such data set.
    """
    names = dict.fromkeys((config.train_split, config.val_split))
    scanned, refusals = [], []
    for name in names:
        try:
            scanned.append(_scan_split(config, name, progress=progress))
        except ConfigError as error:
            refusals += error.problems
            scanned.append(SplitScan(name, errors=tuple(Problem("no split", line) for line in error.problems)))
    if len(refusals) >= len(names):
        raise ConfigError(dict.fromkeys(refusals))
    return scanned


def _scan_split(config: DataConfig, split: str, *, progress: bool) -> SplitScan:
    list_split = DATASETS[config.name].listing
    if list_split is None:
        return _scan_samples(config, split, progress=progress)
    listing = list_split(config, split)
    labels = regrouped_labels(listing.labels, config) if listing.labels else None
    read = partial(scan_pair, pixels=PixelFormat.of(config), labels=labels)
    scans = map_on_all_cores(read, listing.items, f"reading {split}", progress=progress)
    errors = (*listing.problems, *empty_split_problems(listing))
    return SplitScan(split, tuple(scans), labels, errors, listing.warnings)


def empty_split_problems(listing: Listing[Pair]) -> list[Problem]:
    """That there is no sample, where no other problem is the reason."""
    return [] if listing.items or listing.problems else [Problem("empty split", empty_split(listing.where))]


def _scan_samples(config: DataConfig, split: str, *, progress: bool) -> SplitScan:
    """A data set of one's own class, whose files only it knows."""
    try:
        dataset = build_dataset(config, split)
    except DataError as error:
        return SplitScan(split, errors=tuple(Problem("refused by the loader", line) for line in error.problems))
    read = partial(scan_sample, dataset)
    scans = map_on_all_cores(read, range(len(dataset)), f"reading {split}", progress=progress)
    return SplitScan(split, tuple(scans), dataset.labels.of_indices())
