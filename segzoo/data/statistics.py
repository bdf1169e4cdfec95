"""What the masks of a data set hold."""

from functools import partial

import numpy as np
import numpy.typing as npt

from segzoo.data.cores import map_on_all_cores
from segzoo.data.sample import SegmentationDataset, read_mask


def class_pixels(dataset: SegmentationDataset) -> npt.NDArray[np.int64]:
    """Pixels of each class over a whole split, ignored ones left out; reads every mask.

    Shape: (num_classes,).
    """
    count = partial(_pixels_of_sample, dataset)
    counts = map_on_all_cores(count, range(len(dataset)), "counting classes", progress=True)
    total: npt.NDArray[np.int64] = np.sum(counts, axis=0, dtype=np.int64)
    return total[: dataset.labels.num_classes]


def mask_pixels(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Pixels of every value in a mask; where each class has its own, of each class's presence.

    Shape: (H, W) or (K, H, W), K below 256, to (256,).
    """
    if mask.ndim == 2:
        return np.bincount(mask.ravel(), minlength=256)
    return np.pad(np.count_nonzero(mask == 1, axis=(1, 2)), (0, 256 - len(mask)))


def _pixels_of_sample(dataset: SegmentationDataset, index: int) -> npt.NDArray[np.int64]:
    return mask_pixels(read_mask(dataset, index))


def balanced_weights(pixels: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """A loss weight for each class that grows as the class gets rarer, between 1.4 and 50.

    >>> balanced_weights(np.array([97, 3]))
    (1.5, 20.5)
    """
    return tuple(round(weight, 1) for weight in rarity(pixels).tolist())


def rarity(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 / ln(1.02 + p) for a class with the share p of all classes' pixels.

    Source: Paszke et al., ENet, arXiv:1606.02147v1, section 5.2.
    """
    shares = pixels / max(int(pixels.sum()), 1)
    return np.asarray(1 / np.log(1.02 + shares), dtype=np.float64)
