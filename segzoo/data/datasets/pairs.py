"""Data sets that are pairs of files: an image and its mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segzoo.data.reading.class_masks import read_class_masks
from segzoo.data.reading.images import read_color_mask, read_mask
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import RGB8, PixelFormat, Pixels
from segzoo.data.sample import Sample, mask_extent
from segzoo.errors import DataError, in_groups

_LISTED = 50  # problems spelled out before the rest is only counted


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

    Args:
        pairs: the files, in order.
        labels: what the values in the mask files mean.
        where: the split in words, for messages.
        pixels: what the image files become.

    Raises:
        DataError: there is no pair.
    """

    def __init__(self, pairs: Sequence[Pair], labels: LabelSpace, where: str, pixels: PixelFormat = RGB8) -> None:
        if not pairs:
            raise DataError(empty_split(where))
        self.pairs = tuple(pairs)
        self.labels = labels
        self.ids = tuple(pair.id for pair in pairs)
        self.pixels = pixels
        self._where = where

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one pair.

        Raises:
            DataError: a file is damaged, the sizes differ, or the mask holds a value that is no class.
        """
        mask = self.read_mask(index)
        image = self.read_image(index, mask_extent(mask))
        return Sample(image, mask, self.pairs[index].id)

    def read_mask(self, index: int) -> npt.NDArray[np.uint8]:
        """Read the mask of a pair; pixels where its image has nothing to see are ignored.

        Raises:
            DataError: a file is damaged, or the mask holds a value that is no class.
        """
        pair = self.pairs[index]
        mask = self._encoded_mask(pair)
        lost = self.pixels.lost(pair.image)
        if lost is not None and lost.shape == mask_extent(mask):  # another size is told when the image is read
            mask[..., lost] = self.labels.ignore_index
        return mask

    def _encoded_mask(self, pair: Pair) -> npt.NDArray[np.uint8]:
        if pair.class_masks:
            return read_class_masks(pair.class_masks, self.labels, lambda: self.pixels.size(pair.image))
        raw_mask = read_raw_mask(pair.mask, self.labels)
        try:
            return self.labels.encode(raw_mask)
        except DataError as error:
            raise DataError(f"{pair.mask}: {error}") from None

    def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> Pixels:
        """Read the image of a pair, whose mask has `size`; a JPEG at 1/`reduction` of its size.

        Raises:
            DataError: the file is damaged or has another size.
        """
        pair = self.pairs[index]
        image = self.pixels.read(pair.image, reduction=reduction)
        found = image.shape[:2] if reduction == 1 else self.pixels.size(pair.image)
        if found != size:
            raise DataError(size_mismatch(pair, found, size))
        return image

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The image of a pair, and its mask or masks."""
        return self.pairs[index].files

    @property
    def image_files(self) -> tuple[Path, ...]:
        """Of all pairs."""
        return tuple(pair.image for pair in self.pairs)

    def with_labels(self, labels: LabelSpace) -> "FileDataset":
        """The same files read as other classes."""
        return FileDataset(self.pairs, labels, self._where, self.pixels)


def read_raw_mask(path: Path, labels: LabelSpace) -> npt.NDArray[np.integer]:
    """Read a mask file's values, for `labels` to encode: numbers, or colours as numbers.

    Shape: (H, W).

    Raises:
        DataError: the file is missing, damaged, or of a kind that can be no such mask.
    """
    return read_color_mask(path) if labels.raw_colors else read_mask(path)


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


def raise_all(problems: Sequence[str]) -> None:
    """Raise one `DataError` with all problems, if there are any; many of one kind become one line.

    Raises:
        DataError: `problems` is not empty.
    """
    problems = in_groups(problems)
    if len(problems) > _LISTED:
        problems = [*problems[:_LISTED], f"... and {len(problems) - _LISTED} more problems like these"]
    if problems:
        raise DataError(problems)
