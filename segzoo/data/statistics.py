"""What the masks of a data set hold."""

import math

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from segzoo.data.dataset import SegmentationDataset


def class_pixels(dataset: SegmentationDataset) -> npt.NDArray[np.int64]:
    """Pixels of each class over a whole split, ignored ones left out; reads every sample.

    Shape: (num_classes,).
    """
    counts = np.zeros(256, dtype=np.int64)
    for index in track(range(len(dataset)), "counting classes", console=Console(stderr=True), transient=True):
        counts += np.bincount(dataset[index].mask.ravel(), minlength=256)
    return counts[: dataset.labels.num_classes]


def balanced_weights(pixels: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """A loss weight for each class that grows as the class gets rarer, between 1.4 and 50.

    1 / ln(1.02 + p) for a class with the share p of all pixels.

    Source: Paszke et al., ENet, arXiv:1606.02147v1, section 5.2.

    >>> balanced_weights(np.array([97, 3]))
    (1.5, 20.5)
    """
    shares = pixels / max(int(pixels.sum()), 1)
    return tuple(round(1 / math.log(1.02 + share), 1) for share in shares.tolist())
