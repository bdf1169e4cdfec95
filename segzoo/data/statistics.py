"""What the masks of a data set hold."""

import numpy as np
import numpy.typing as npt

from segzoo.data.dataset import SegmentationDataset, read_mask
from segzoo.data.progress import counted


def class_pixels(dataset: SegmentationDataset) -> npt.NDArray[np.int64]:
    """Pixels of each class over a whole split, ignored ones left out; reads every mask.

    Shape: (num_classes,).
    """
    counts = np.zeros(256, dtype=np.int64)
    for index in counted(range(len(dataset)), len(dataset), "counting classes"):
        counts += np.bincount(read_mask(dataset, index).ravel(), minlength=256)
    return counts[: dataset.labels.num_classes]


def balanced_weights(pixels: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """A loss weight for each class that grows as the class gets rarer, between 1.4 and 50.

    >>> balanced_weights(np.array([97, 3]))
    (1.5, 20.5)
    """
    return tuple(round(weight, 1) for weight in rarity(pixels).tolist())


def rarity(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 / ln(1.02 + p) for a class with the share p of all pixels.

    Source: Paszke et al., ENet, arXiv:1606.02147v1, section 5.2.
    """
    shares = pixels / max(int(pixels.sum()), 1)
    return np.asarray(1 / np.log(1.02 + shares), dtype=np.float64)
