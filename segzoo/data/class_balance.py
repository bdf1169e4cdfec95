"""How many pixels each class has, and the weights that make up for it: `loss.class_weights: balanced`."""

from functools import partial

import numpy as np
import numpy.typing as npt

from segzoo.data.cores import map_on_all_cores
from segzoo.data.sample import PartwiseDataset, SegmentationDataset, named_in_errors

_CAP = 1.02  # the larger, the lower the weight of the rarest class, which is at most 1 / ln(_CAP)


def class_pixels(dataset: SegmentationDataset) -> npt.NDArray[np.int64]:
    """Pixels of each class over a whole split, ignored ones left out; reads every mask.

    Shape: (num_classes,).
    """
    count = partial(_pixels_of_sample, dataset)
    counts = map_on_all_cores(count, range(len(dataset)), "counting classes", progress=True)
    total: npt.NDArray[np.int64] = np.sum(counts, axis=0, dtype=np.int64)
    return total[: dataset.labels.num_classes]


def _pixels_of_sample(dataset: SegmentationDataset, index: int) -> npt.NDArray[np.int64]:
    with named_in_errors(dataset.ids[index]):
        return mask_pixels(dataset.read_mask(index) if isinstance(dataset, PartwiseDataset) else dataset[index].mask)


def mask_pixels(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Pixels of every value in a mask; where each class has its own, of each class's presence.

    Shape: (H, W) or (K, H, W), K below 256, to (256,).
    """
    if mask.ndim == 2:
        return np.bincount(mask.ravel(), minlength=256)
    return np.pad(np.count_nonzero(mask == 1, axis=(1, 2)), (0, 256 - len(mask)))


def balanced_weights(pixels: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """A loss weight for each class that grows as the class gets rarer, up to 50.5, see `rarity`.

    >>> balanced_weights(np.array([97, 3]))
    (1.5, 20.5)
    """
    return tuple(round(weight, 1) for weight in rarity(pixels).tolist())


def rarity(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 / ln(1.02 + p) for a class with the share p of all classes' pixels: from 1.4 for the only class to 50.5.

    Source: Paszke et al., ENet, arXiv:1606.02147v1, section 5.2.
    """
    shares = pixels / max(int(pixels.sum()), 1)
    return np.asarray(1 / np.log(_CAP + shares), dtype=np.float64)
