"""How much mIoU depends on which images are in the split: intervals by drawing images anew."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from segzoo.evaluation.results import Interval

RESAMPLES = 2000
CONFIDENCE = 0.95

_AT_ONCE = 100  # resamples: a matrix of them by the images is in memory
_SEED = 0  # two evaluations of the same predictions say the same

Counts = NDArray[np.int64]


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
