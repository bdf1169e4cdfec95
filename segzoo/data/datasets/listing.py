"""A split as its names and lists show it, what is wrong with it, and the samples that its pairs of files hold.

A loader raises all problems of its listing at once (`Listing.checked`); `segzoo check-data` makes the listing with the
same function, collects the problems and goes on to the pixels.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segzoo.data.reading.labels import LabelSpace, read_class_masks
from segzoo.data.reading.masks import mask_size, read_color_mask, read_mask
from segzoo.data.reading.pixels import RGB8, PixelFormat, Pixels
from segzoo.data.reading.tree import unlisted_lines
from segzoo.data.sample import Sample, mask_extent
from segzoo.errors import DataError, in_groups

logger = logging.getLogger(__name__)

_LISTED = 50  # problems spelled out before the rest is only counted


class Problem(NamedTuple):
    """Something wrong with a data set's files.

    Args:
        kind: the fault in two or three words ("missing mask"); reports group by it.
        line: file, what is wrong with it, and what to do, in one line.
    """

    kind: str
    line: str


class Listed(Protocol):
    """What a listing holds: an image with its mask, or with its classes."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it lies in."""


Item = TypeVar("Item", bound=Listed, covariant=True)


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """One split as its names and lists show it; no pixel is read.

    Args:
        items: images that have what belongs to them, in order; every file of them is there.
        problems: what keeps the split from being used.
        where: the split in words, for messages.
        labels: what the values in the masks mean; None where only the masks themselves tell, or there are none.
        warnings: what is odd, and does not keep the split from being used.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    where: str
    labels: LabelSpace | None = None
    warnings: tuple[Problem, ...] = ()

    @property
    def files(self) -> Iterator[Path]:
        """The files of all images and their masks."""
        return (file for item in self.items for file in item.files)

    def checked(self, problems: Iterable[Problem] = ()) -> tuple[Item, ...]:
        """The images of a split without a problem, here or among `problems`; warnings are logged.

        Raises:
            DataError: there are problems; all of them, one line each.
        """
        for line in in_groups(warning.line for warning in self.warnings):
            logger.warning("%s", line)
        raise_all([problem.line for problem in (*self.problems, *problems)])
        return self.items


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file.

    Args:
        id: unique in the split.
        image: file of the image.
        mask: file of the mask; a folder where every class has a file.
        place: where the pair is listed ("train.txt:7"), for messages; empty when no list names it.
        class_masks: file of each class, where a pixel may have several; None where the class is absent.
    """

    id: str
    image: Path
    mask: Path
    place: str = ""
    class_masks: tuple[Path | None, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and its mask or masks."""
        return self.image, *self.mask_files

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The file of the mask, or those of the classes."""
        return tuple(path for path in self.class_masks if path is not None) if self.class_masks else (self.mask,)


class FileDataset:
    """Samples read from pairs of files, each when it is asked for.

    Raises:
        DataError: there is no pair; `where` is the split in words, for this message.
    """

    def __init__(self, pairs: Sequence[Pair], labels: LabelSpace, where: str, pixels: PixelFormat = RGB8) -> None:
        if not pairs:
            raise DataError(empty_split(where))
        self.pairs = tuple(pairs)
        self.labels = labels
        self.ids = tuple(pair.id for pair in pairs)
        self.image_files = tuple(pair.image for pair in pairs)
        self.pixels = pixels
        self._where = where

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        mask = self.read_mask(index)
        image = self.read_image(index, mask_extent(mask))
        return Sample(image, mask, self.pairs[index].id)

    def read_mask(self, index: int) -> npt.NDArray[np.uint8]:
        """Read the mask of a pair; pixels where its image has nothing to see are ignored."""
        pair = self.pairs[index]
        mask = self._encoded_mask(pair)
        lost = self.pixels.lost(pair.image)
        if lost is not None and lost.shape == mask_extent(mask):  # another size is told when the image is read
            mask[..., lost] = self.labels.ignore_index
        return mask

    def _encoded_mask(self, pair: Pair) -> npt.NDArray[np.uint8]:
        if pair.class_masks:
            return read_class_masks(pair.class_masks, self.labels, lambda: self.pixels.size(pair.image))
        raw_mask = read_color_mask(pair.mask) if self.labels.raw_colors else read_mask(pair.mask)
        try:
            return self.labels.encode(raw_mask)
        except DataError as error:
            raise DataError(f"{pair.mask}: {error}") from None

    def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> Pixels:
        """Read the image of a pair, whose mask has `size`; a JPEG at 1/`reduction` of its size."""
        pair = self.pairs[index]
        image = self.pixels.read(pair.image, reduction=reduction)
        found = image.shape[:2] if reduction == 1 else self.pixels.size(pair.image)
        if found != size:
            raise DataError(size_mismatch(pair, found, size))
        return image

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The image of a pair, and its mask or masks."""
        return self.pairs[index].files

    def with_labels(self, labels: LabelSpace) -> "FileDataset":
        """The same files read as other classes."""
        return FileDataset(self.pairs, labels, self._where, self.pixels)


def with_headers(listing: Listing[Pair], pixels: PixelFormat) -> Listing[Pair]:
    """The listing without the pairs whose headers are unreadable or of different size, each a problem instead."""
    sound, problems = [], []
    colored = listing.labels is not None and listing.labels.raw_colors
    for pair in listing.items:
        try:
            image = pixels.size(pair.image)
            masks = {path: mask_size(path, colored=colored) for path in pair.mask_files}
        except DataError as error:
            problems += [Problem("unreadable file", line) for line in error.problems]
            continue
        wrong = [
            Problem("size mismatch", size_mismatch(replace(pair, mask=path), image, mask))
            for path, mask in masks.items()
            if mask != image
        ]
        problems += wrong
        if not wrong:
            sound.append(pair)
    return replace(listing, items=tuple(sound), problems=(*listing.problems, *problems))


def empty_split(where: str) -> str:
    """The line for a split without a sample."""
    return f"{where}: empty, no image to use"


def size_mismatch(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """The line for a mask of another size than its image; sizes are (height, width)."""
    if tuple(image) == tuple(mask)[::-1]:
        advice = "turn the mask as the image is shown; an EXIF orientation may have turned the image"
    else:
        advice = "export the mask at the image's size"
    return (
        f"{pair.mask}: mask is {mask[0]}x{mask[1]} but its image {pair.image.name} {image[0]}x{image[1]} "
        f"(height x width); {advice}"
    )


def missing_mask(image: Path, mask: Path | str) -> Problem:
    """An image without its mask, in a split that no list makes up."""
    return Problem("missing mask", f"{image}: no mask {mask}. Add it or remove the image.")


def orphan_mask(mask: Path) -> Problem:
    """A mask without its image."""
    return Problem("orphan mask", f"{mask}: no image of this name. Add it or remove the mask.")


def unlisted_folders(unlisted: dict[Path, str]) -> list[Problem]:
    """A problem for each folder that cannot be listed, as `files_below` collects them."""
    return [Problem("unlisted folder", line) for line in unlisted_lines(unlisted)]


def raise_all(problems: Sequence[str]) -> None:
    """Raise one `DataError` with all problems, if there are any; many of one kind become one line."""
    problems = in_groups(problems)
    if len(problems) > _LISTED:
        problems = [*problems[:_LISTED], f"... and {len(problems) - _LISTED} more problems like these"]
    if problems:
        raise DataError(problems)
