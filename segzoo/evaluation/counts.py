"""Pixels counted in each image of a split, which every number is made of; and how much mIoU depends on the images."""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import read_array, read_array_header_1_0, read_magic
from numpy.typing import NDArray
from torch import Tensor

from segzoo.errors import DataError, first_line
from segzoo.files import atomic_write, open_own
from segzoo.tasks.confusion import Scores, regions_of
from segzoo.tasks.metrics import State

Counts = NDArray[np.int64]

RESAMPLES = 2000
CONFIDENCE = 0.95

_AT_ONCE = 100  # resamples: a matrix of them by the images is in memory
_SEED = 0  # two evaluations of the same predictions say the same
_PLENTY = 1 << 30  # bytes that are read without a question
_LARGEST_RATIO = 100  # of larger ones to their files; counts of real images stay below 30


@dataclass(frozen=True)
class ImageCounts:
    """What one image adds to the table of counts of its split, and its own scores.

    Args:
        index: the image's number in the split.
        id: its name.
        cells: where its table, laid flat, is not zero: with many classes that is nearly nowhere.
        pixels: how many there.
        counted: pixels that are not ignored; where every class is decided on its own, of the class that has most.
        scores: of the image alone.
        regions: int64 (3, K): hits, true pixels and predicted pixels of each class.
        others: what metrics that do not look at this table counted.
    """

    index: int
    id: str
    cells: Counts
    pixels: Counts
    counted: int
    scores: Scores
    regions: Counts
    others: Sequence[State]


def image_counts(index: int, name: str, table: Tensor, others: Sequence[State] = ()) -> ImageCounts:
    """What is kept of an image's table of counts, `MaskCoding.count`.

    Shape: table int64 (K, K) or (K, 2, 2).
    """
    table = table.cpu()
    flat = table.numpy().ravel()
    cells = np.flatnonzero(flat)
    return ImageCounts(
        index=index,
        id=name,
        cells=cells,
        pixels=flat[cells],
        counted=int(table.sum((-2, -1)).max()),
        scores=Scores.from_matrix(table),
        regions=regions_of(table).numpy(),
        others=others,
    )


@dataclass(frozen=True)
class SplitCounts:
    """What was counted in a split, image by image, in its order.

    Args:
        ids: of the images.
        matrix: int64, of all images together: as `MaskCoding.count` gives it.
        regions: int64 (N, 3, K): hits, true pixels and predicted pixels of each class in each image.
    """

    ids: tuple[str, ...]
    matrix: Tensor
    regions: Counts

    @classmethod
    def of(cls, images: Sequence[ImageCounts], shape: tuple[int, ...]) -> "SplitCounts":
        """The counts of one or more images in the split's order, with the shape of their table."""
        flat = np.zeros(math.prod(shape), np.int64)
        for image in images:
            flat[image.cells] += image.pixels
        return cls(
            tuple(image.id for image in images),
            torch.from_numpy(flat.reshape(shape)),
            np.stack([image.regions for image in images]),
        )

    def save(self, path: Path) -> None:
        """Write the counts of each image, from which `segzoo compare` computes."""
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez_compressed(file, ids=np.array(self.ids), matrix=self.matrix.numpy(), regions=self.regions)

    @classmethod
    def load(cls, path: Path) -> "SplitCounts":
        """Read `save`'s file; nothing in it is executed.

        Raises:
            DataError: the file is missing, damaged, or holds something else.
        """
        try:
            ids, matrix, regions = _read_arrays(path, {"ids": "U", "matrix": "i", "regions": "i"})
            counts = cls(tuple(ids.tolist()), torch.from_numpy(matrix), regions)
            counts._check()
        except Exception as error:  # a damaged archive raises nearly every type
            raise DataError(f"{path}: no counts of an evaluation ({first_line(error)}). Evaluate again.") from None
        return counts

    def _check(self) -> None:
        images, classes = len(self.ids), self.matrix.shape[0]
        sums = regions_of(self.matrix).numpy()
        if self.regions.shape != (images, 3, classes) or (self.regions.sum(0) != sums).any():
            raise ValueError("its tables do not fit together")


def _read_arrays(path: Path, kinds: Mapping[str, str]) -> list[NDArray[Any]]:
    """Arrays of an `.npz`, in the order of `kinds`: their names, and what numbers NumPy's `dtype.kind` has to say.

    What they claim is summed before anything is unpacked, because a small file can unpack to more than the memory.
    """
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file, zipfile.ZipFile(file) as archive:
        claimed = sum(_claimed_bytes(archive, name, kind) for name, kind in kinds.items())
        if claimed > max(_PLENTY, _LARGEST_RATIO * path.stat().st_size):
            raise ValueError(f"it would unpack to {claimed / 1e9:,.1f} GB")
        found = []
        for name in kinds:
            with archive.open(f"{name}.npy") as member:
                found.append(read_array(member, allow_pickle=False))
        return found


def _claimed_bytes(archive: zipfile.ZipFile, name: str, kind: str) -> int:
    with archive.open(f"{name}.npy") as member:
        version = read_magic(member)
        if version != (1, 0):  # as NumPy writes them
            raise ValueError(f"an array of version {version}")
        shape, _, dtype = read_array_header_1_0(member)
    if dtype.kind != kind:
        raise ValueError(f"its {name} are {dtype}")
    return math.prod(shape) * dtype.itemsize


@dataclass(frozen=True)
class Interval:
    """Where a score most likely lies for other images of the same kind.

    Args:
        low: lower end.
        high: upper end.
        confidence: share of such intervals that hold the true score, such as 0.95.
        resamples: how often the images were drawn anew.
    """

    low: float
    high: float
    confidence: float
    resamples: int


def miou_interval(counts: Counts) -> Interval | None:
    """Interval of mIoU over other images of the same kind: its percentiles over splits drawn from this one.

    The images of a split are taken for independent. Frames of one video are not: the interval is then too narrow.

    Args:
        counts: of each image, for each class: hits, true pixels, predicted pixels.

    Shape: counts (N, 3, K).

    Returns:
        None where fewer than two images have pixels that count.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3, the percentile interval.
    """
    counts = counts[counts.any(axis=(1, 2))]
    if len(counts) < 2:
        return None
    drawn = np.concatenate(list(resampled_mious(counts)))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), CONFIDENCE, RESAMPLES)


def resampled_mious(counts: Counts) -> Iterator[NDArray[np.float64]]:
    """The mIoU of splits of as many images, drawn with replacement; the same draws for every `counts` of this length.

    Shape: counts (N, 3, K); parts of `RESAMPLES` numbers.
    """
    images, _, classes = counts.shape
    flat = counts.reshape(images, -1).astype(np.float64)  # sums stay exact below 2**53 pixels
    generator = np.random.default_rng(_SEED)
    for start in range(0, RESAMPLES, _AT_ONCE):
        size = min(_AT_ONCE, RESAMPLES - start)
        times = generator.multinomial(images, np.full(images, 1 / images), size=size)
        yield _mious((times @ flat).reshape(size, 3, classes))


def _mious(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mIoU of each of several counts (R, 3, K); classes in neither truth nor prediction are left out."""
    hits, truth, predicted = counts[:, 0], counts[:, 1], counts[:, 2]
    union = truth + predicted - hits
    present = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(union), where=present)
    mious: NDArray[np.float64] = iou.sum(1) / np.maximum(present.sum(1), 1)
    return mious
