"""What a data set is, for each task: numbered samples, their ids and their labels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, Pixels
from segzoo.errors import DataError, SegzooError, first_line


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Args:
        image: 8-bit RGB; or, with other channels or a stated range of values, float32 from 0 to 1 (`PixelFormat`).
        mask: class indices, and the label space's `ignore_index`.
        id: name that is unique in its split; prediction files are called after it.

    Shape: image (H, W, C); mask (H, W), or (K, H, W) of 0, 1 and `ignore_index` where a pixel may have several classes
    (`LabelSpace.coding`).
    """

    image: Pixels
    mask: npt.NDArray[np.uint8]
    id: str


class SegmentationDataset(Protocol):
    """What training and evaluation ask of a data set. Any class with these four members is one."""

    @property
    def labels(self) -> LabelSpace:
        """Classes, colours, ignored value."""

    @property
    def ids(self) -> Sequence[str]:
        """One id per sample, in order, without reading a sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


ClassesOf = Sequence[tuple[int, ...]]
"""The classes of each image: one, or, where the label space says so, any number of them."""


class ClassificationDataset(Protocol):
    """What training and evaluation of classifiers ask of a data set. Any class with these members is one."""

    @property
    def labels(self) -> LabelSpace:
        """The classes, without colours (`LabelSpace.of_images`)."""

    @property
    def ids(self) -> Sequence[str]:
        """One id per image, unique in the split, in order, without reading an image."""

    @property
    def classes(self) -> ClassesOf:
        """The classes of each image, without reading it."""

    def __len__(self) -> int: ...

    def read_image(self, index: int) -> Pixels:
        """The pixels of an image. Shape: (H, W, C)."""


@runtime_checkable
class ReadFromFiles(Protocol):
    """A data set of either task whose images are read from files. Optional."""

    @property
    def pixels(self) -> PixelFormat:
        """What the files become."""

    @property
    def image_files(self) -> Sequence[Path]:
        """Of all images, in order."""


@runtime_checkable
class PartwiseDataset(SegmentationDataset, Protocol):
    """A data set that reads masks without images, and an image when it is known how much of it is needed.

    Optional: training is quicker with it.
    """

    def read_mask(self, index: int) -> npt.NDArray[np.uint8]:
        """The mask of a sample. Shape: as `Sample`'s."""

    def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> Pixels:
        """The image of a sample.

        Args:
            index: number of the sample.
            size: height and width of its mask, which the image must have.
            reduction: 1, 2, 4 or 8: the image may come at this fraction of its size, or a larger one, rounded up.

        Shape: (H, W, C).
        """


def mask_extent(mask: npt.NDArray[np.generic]) -> tuple[int, int]:
    """Height and width of a mask, of one for all classes or one for each."""
    return mask.shape[-2], mask.shape[-1]


def read_mask(dataset: SegmentationDataset, index: int) -> npt.NDArray[np.uint8]:
    """The mask of a sample, without its image where the data set can."""
    with named_in_errors(dataset.ids[index]):
        return dataset.read_mask(index) if isinstance(dataset, PartwiseDataset) else dataset[index].mask


@contextmanager
def named_in_errors(sample: str) -> Iterator[None]:
    """Turn what goes wrong with a sample into a line that names it: all that comes out of a data process whole.

    Args:
        sample: its id.

    Raises:
        DataError: in place of any error but those that say what to do, and of memory that ran out.
    """
    try:
        yield
    except (SegzooError, MemoryError):
        raise
    except Exception as error:  # a data set of one's own may raise anything
        place = extract_tb(error.__traceback__)[-1]
        where = f"line {place.lineno} of {place.filename}"
        raise DataError(f"{sample}: {type(error).__name__}: {first_line(error)} ({where})") from error
