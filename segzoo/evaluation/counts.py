"""Pixels counted in each image of a split: what every number is made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.data.whole_file import written_whole
from segzoo.errors import DataError, first_line
from segzoo.evaluation.numbers import regions_of
from segzoo.evaluation.results import ImageScore
from segzoo.tasks.confusion import Scores

Counts = NDArray[np.int64]


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
        boundary: int64 (7, K) of `count_boundary`; None where it was not asked for.
    """

    index: int
    id: str
    cells: Counts
    pixels: Counts
    counted: int
    scores: Scores
    regions: Counts
    boundary: Counts | None

    def judged(self) -> ImageScore:
        """The image for reports."""
        scores = self.scores
        return ImageScore(self.index, self.id, scores.miou, scores.pixel_accuracy, scores.iou, self.counted)


def image_counts(index: int, name: str, table: Tensor, boundary: Counts | None) -> ImageCounts:
    """What is kept of an image's table of counts.

    Args:
        index: the image's number in the split.
        name: its id.
        table: `confusion_matrix`, or `class_tables` where a pixel may have several classes.
        boundary: of `count_boundary`.

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
        counted=int(table.sum()) if table.dim() == 2 else int(table.sum((1, 2)).max()),
        scores=Scores.from_matrix(table),
        regions=regions_of(table).numpy(),
        boundary=boundary,
    )


@dataclass(frozen=True)
class SplitCounts:
    """What was counted in a split, image by image, in its order.

    Args:
        ids: of the images.
        matrix: int64, of all images together: (K, K), rows the truth, or (K, 2, 2) of `class_tables`.
        regions: int64 (N, 3, K): hits, true pixels and predicted pixels of each class in each image.
        boundary: int64 (N, 7, K), rows as in `boundary.ROWS`; None where it was not asked for, and in what was loaded.
    """

    ids: tuple[str, ...]
    matrix: Tensor
    regions: Counts
    boundary: Counts | None = None

    @classmethod
    def of(cls, images: Sequence[ImageCounts], shape: tuple[int, ...]) -> "SplitCounts":
        """The counts of images in the split's order.

        Args:
            images: one or more.
            shape: of the table of counts.
        """
        flat = np.zeros(math.prod(shape), np.int64)
        for image in images:
            flat[image.cells] += image.pixels
        boundary = [image.boundary for image in images if image.boundary is not None]
        return cls(
            tuple(image.id for image in images),
            torch.from_numpy(flat.reshape(shape)),
            np.stack([image.regions for image in images]),
            np.stack(boundary) if boundary else None,
        )

    def save(self, path: Path) -> None:
        """Write the counts of each image but those of outlines, from which `segzoo compare` computes."""
        with written_whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, ids=np.array(self.ids), matrix=self.matrix.numpy(), regions=self.regions)

    @classmethod
    def load(cls, path: Path) -> "SplitCounts":
        """Read `save`'s file; nothing in it is executed.

        Raises:
            DataError: the file is missing, damaged, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                counts = cls(tuple(file["ids"].tolist()), torch.from_numpy(file["matrix"]), file["regions"])
            counts._check()
        except Exception as error:  # a damaged archive raises nearly every type
            raise DataError(f"{path}: no counts of an evaluation ({first_line(error)}). Evaluate again.") from None
        return counts

    def _check(self) -> None:
        images, classes = len(self.ids), self.matrix.shape[0]
        sums = regions_of(self.matrix).numpy()
        if self.regions.shape != (images, 3, classes) or (self.regions.sum(0) != sums).any():
            raise ValueError("its tables do not fit together")
