"""The files of a data set read once, in any process: what images, masks and whole splits hold, as a few numbers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.datasets.classes import regrouped_labels
from segzoo.data.datasets.listing import Listing, Pair, Problem, empty_split, size_mismatch
from segzoo.data.datasets.spec import DATASETS, build_classification_dataset, build_dataset
from segzoo.data.inspection.masks import MaskFacts, mask_facts
from segzoo.data.reading.images import ImageKind
from segzoo.data.reading.labels import LabelSpace, read_class_masks
from segzoo.data.reading.masks import read_color_mask, read_stored_mask
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.sample import ClassificationDataset, SegmentationDataset, mask_extent, named_in_errors
from segzoo.errors import ConfigError, DataError

_PIXELS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class ImageFacts:
    """An image in numbers. All after `kind` need its pixels, and are empty where only the header was read.

    Args:
        size: height and width as displayed.
        digest: of the decoded pixels: equal for equal pictures, whatever their files.
        sums: of each channel, in units of the full range.
        squares: sums of each channel's squares.
        highest: about the largest number, of 16-bit images whose range nobody stated.
    """

    size: tuple[int, int]
    kind: ImageKind
    digest: bytes = b""
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    highest: int | None = None


@dataclass(frozen=True)
class Scan:
    """A sample, as far as it can be read.

    Args:
        image_name: its file, or the id of a sample that is no pair of files; so is `mask_name`.
        image: None where it cannot be read.
        mask: None where it cannot be read or has another size than the image, or images have no masks.
        problems: why something cannot be read.
        classes: of the whole image, in classification.
    """

    image_name: str
    mask_name: str
    image: ImageFacts | None = None
    mask: MaskFacts | None = None
    problems: tuple[Problem, ...] = ()
    pair: Pair | None = None
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class SplitScan:
    """A split, read as far as it can be.

    Args:
        labels: None where only the masks tell, or nothing does.
        errors: what names and lists show to be wrong.
        warnings: what they show to be odd.
    """

    name: str
    scans: tuple[Scan, ...] = ()
    labels: LabelSpace | None = None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def scan_pair(
    pair: Pair, pixels: PixelFormat, labels: LabelSpace | None, *, colored: bool = False, decoded: bool = True
) -> Scan:
    """Read both files of a pair as training does; what is wrong with them is kept, never raised.

    Args:
        pair: the files.
        pixels: what the image file becomes.
        labels: what the mask file holds; None where only the masks tell.
        colored: whether a mask whose labels are not known holds colours.
        decoded: read the image's pixels, too, not only its header.
    """
    problems: list[Problem] = []
    image = mask = None
    try:
        image = (
            _decoded_image(pair, pixels) if decoded else ImageFacts(pixels.size(pair.image), pixels.kind(pair.image))
        )
    except DataError as error:
        problems += [Problem("unreadable image", line) for line in error.problems]
    try:
        size, facts = _mask_of_pair(pair, pixels, labels, colored=colored)
    except DataError as error:
        problems += [Problem("unusable mask", line) for line in error.problems]
    else:
        if image is None or image.size == size:
            mask = facts
        else:
            problems.append(Problem("size mismatch", size_mismatch(pair, image.size, size)))
    return Scan(str(pair.image), str(pair.mask), image, mask, tuple(problems), pair)


def _decoded_image(pair: Pair, pixels: PixelFormat) -> ImageFacts:
    seen, kind = pixels.read(pair.image), pixels.kind(pair.image)
    return replace(_image_facts(seen, kind), highest=pixels.highest_of_16_bits(seen, kind))


def _mask_of_pair(
    pair: Pair, pixels: PixelFormat, labels: LabelSpace | None, *, colored: bool
) -> tuple[tuple[int, int], MaskFacts]:
    """Height and width of a pair's mask, and what it holds: as it is stored, or the classes that have masks in it."""
    if labels is not None and pair.class_masks:
        masks = read_class_masks(pair.class_masks, labels, lambda: pixels.size(pair.image))
        return mask_extent(masks), mask_facts(masks)
    if labels.raw_colors if labels else colored:
        colors = read_color_mask(pair.mask)
        return mask_extent(colors), mask_facts(colors, colored=True)
    stored = read_stored_mask(pair.mask)
    return mask_extent(stored.values), mask_facts(stored.values, stored.palette)


def scan_sample(dataset: SegmentationDataset, index: int) -> Scan:
    """Read one sample of a data set that is no list of files, such as one of your own classes."""
    name = dataset.ids[index]
    try:
        with named_in_errors(name):
            sample = dataset[index]
    except DataError as error:
        return Scan(name, name, problems=tuple(Problem("unreadable sample", line) for line in error.problems))
    facts = _image_facts(sample.image, ImageKind("sample"))
    if mask_extent(sample.mask) != facts.size:
        line = f"{name}: mask is {mask_extent(sample.mask)} but its image {facts.size}"
        return Scan(name, name, facts, problems=(Problem("size mismatch", line),))
    return Scan(name, name, facts, mask_facts(sample.mask))


def _scan_whole_image(dataset: ClassificationDataset, index: int) -> Scan:
    name, classes = dataset.ids[index], dataset.classes[index]
    try:
        image = dataset.read_image(index)
    except DataError as error:
        problems = tuple(Problem("unreadable file", line) for line in error.problems)
        return Scan(name, name, problems=problems, classes=classes)
    facts = ImageFacts((image.shape[0], image.shape[1]), ImageKind("sample"), _digest(image))
    return Scan(name, name, facts, classes=classes)


def _image_facts(image: npt.NDArray[Any], kind: ImageKind) -> ImageFacts:
    height, width, channels = image.shape
    sums, squares = zip(*(_moments(image[..., channel]) for channel in range(channels)), strict=True)
    return ImageFacts((height, width), kind, _digest(image), sums, squares)


def _digest(image: npt.NDArray[Any]) -> bytes:
    content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    content.update(repr((image.shape, image.dtype.str)).encode())
    return content.digest()


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


def scan_splits(config: DataConfig, *, progress: bool) -> list[SplitScan]:
    """Read the training and the validation split.

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


def _scan_split(config: DataConfig, name: str, *, progress: bool) -> SplitScan:
    list_split = DATASETS[config.name].listing
    if list_split is not None:
        listing = list_split(config, name)
        labels = regrouped_labels(listing.labels, config) if listing.labels else None
        read = partial(scan_pair, pixels=PixelFormat.of(config), labels=labels)
        scans = map_on_all_cores(read, listing.items, f"reading {name}", progress=progress)
        return split_of_listing(name, listing, labels, scans)
    try:
        dataset = build_dataset(config, name)
    except DataError as error:
        return SplitScan(name, errors=tuple(Problem("refused by the loader", line) for line in error.problems))
    read_sample = partial(scan_sample, dataset)
    samples = map_on_all_cores(read_sample, range(len(dataset)), f"reading {name}", progress=progress)
    return SplitScan(name, tuple(samples), dataset.labels.of_indices())


def split_of_listing(name: str, listing: Listing[Pair], labels: LabelSpace | None, scans: Sequence[Scan]) -> SplitScan:
    """A split of files, with what their names show."""
    return SplitScan(name, tuple(scans), labels, (*listing.problems, *empty_split_problems(listing)), listing.warnings)


def empty_split_problems(listing: Listing[Pair]) -> list[Problem]:
    """That there is no sample, where no other problem is the reason."""
    return [] if listing.items or listing.problems else [Problem("empty split", empty_split(listing.where))]


def scan_classification_splits(config: ClassificationDataConfig, *, progress: bool) -> list[SplitScan]:
    """Read the training and the validation split of images with classes.

    Raises:
        ConfigError: the folder or a split is not there, or there is no such data set.
    """
    splits = []
    for name in dict.fromkeys((config.train_split, config.val_split)):
        try:
            dataset = build_classification_dataset(config, name)
        except DataError as error:
            splits.append(SplitScan(name, errors=tuple(Problem("listing", line) for line in error.problems)))
            continue
        read = partial(_scan_whole_image, dataset)
        scans = map_on_all_cores(read, range(len(dataset)), "reading images", progress=progress)
        splits.append(SplitScan(name, tuple(scans), dataset.labels))
    return splits
