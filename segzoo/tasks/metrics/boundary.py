"""How well the outlines of classes are met: boundary IoU and boundary F-score.

Both are defined on the binary masks of each class. A pixel whose truth is ignored belongs to no class, in the truth and
in the prediction alike, so that nothing is judged there. The masks of all classes are handled at once: a pixel survives
the erosion of its own class just where its whole neighbourhood has its label.
"""

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import mean_of_present, ratios
from segzoo.tasks.metrics.registry import Shares

Mask = NDArray[np.uint8]
Counts = NDArray[np.int64]

BAND = 0.02
"""Width of the band that boundary IoU looks at, as a share of the image's diagonal."""
TOLERANCE = 0.0075
"""How far apart two outlines may be for the boundary F-score, as a share of the image's diagonal."""

ROWS = (
    "band_hits", "band_truth", "band_predicted",
    "outline_truth", "outline_truth_met", "outline_predicted", "outline_predicted_met",
)  # fmt: skip
"""What `count_boundary` counts for each class, in order."""

_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def count_boundary(truth: Mask, predicted: Mask, num_classes: int, ignore_index: int) -> Counts:
    """Pixels of one image that its boundary scores are made of.

    Shape: truth and predicted (H, W) to (7, K), rows as in `ROWS`.
    """
    predicted = np.where(truth == ignore_index, truth, predicted)
    diagonal = math.hypot(*truth.shape)
    bands = [_band(mask, max(1, round(BAND * diagonal))) for mask in (truth, predicted)]
    both = bands[0] & bands[1] & (truth == predicted)
    in_band = [
        _per_class(mask[chosen], num_classes)
        for mask, chosen in ((truth, both), (truth, bands[0]), (predicted, bands[1]))
    ]
    outlines = [_outline(mask) for mask in (truth, predicted)]
    met = [np.zeros(num_classes, np.int64) for _ in outlines]
    on_outlines = [_per_class(mask[line], num_classes) for mask, line in zip((truth, predicted), outlines, strict=True)]
    for label in np.flatnonzero((on_outlines[0] > 0) & (on_outlines[1] > 0)):
        lines = [line & (mask == label) for mask, line in zip((truth, predicted), outlines, strict=True)]
        met[0][label], met[1][label] = _met(lines[0], lines[1], TOLERANCE * diagonal)
    return np.stack([*in_band, on_outlines[0], met[0], on_outlines[1], met[1]])


class BoundaryScores(NamedTuple):
    """Boundary IoU and F-score of each class."""

    iou: Shares
    f_score: Shares


def boundary_scores(counts: Counts) -> BoundaryScores:
    """Boundary IoU and F-score of a split.

    Boundary IoU of a class is, over all images together, that of the two bands of pixels inside its true and its
    predicted mask that are no further than 2 % of the diagonal from the mask's outline (the image's border is one).
    The F-score of a class in an image is the harmonic mean of the shares of its true and of its predicted outline that
    lie less than 0.75 % of the diagonal from the other; that of the split is the mean over the images where truth or
    prediction has an outline of the class. The image's border does not count as one, or every image would score on it.

    Shape: counts int64 (N, 7, K), of each image.

    Source: boundary IoU: Cheng et al., arXiv:2103.16562v1, section 4, and the square erosion and the dilation of 2 % of
        its code; summed over the split as IoU is, where the paper has single instances. F-score: Csurka et al., What
        is a good evaluation measure for semantic segmentation?, BMVC 2013, section 2.2, with its tolerance. Departure:
        an image in which only the prediction has the class counts, as 0.
    """
    bands = counts[:, :3].sum(0)
    iou = ratios(bands[0].tolist(), (bands[1] + bands[2] - bands[0]).tolist())
    truth, truth_met, predicted, predicted_met = (counts[:, row].astype(np.float64) for row in range(3, 7))
    present = (truth + predicted) > 0
    recall, precision = truth_met / np.maximum(truth, 1), predicted_met / np.maximum(predicted, 1)
    total = recall + precision
    f_scores = np.divide(2 * recall * precision, total, out=np.zeros_like(total), where=total > 0)
    f_score = tuple(mean_of_present(f_scores[present[:, label], label].tolist()) for label in range(counts.shape[2]))
    return BoundaryScores(iou, f_score)


class BoundaryCounts(Metric):
    """`count_boundary` of each image, (N, 7, K); for classes that exclude each other."""

    full_state_update = False
    images: list[Tensor]

    def __init__(self, labels: LabelSpace, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels
        self.add_state("images", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch of masks (N, H, W)."""
        for predicted, truth in zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True):
            counts = count_boundary(truth, predicted, self.labels.num_classes, self.labels.ignore_index)
            self.images.append(torch.from_numpy(counts)[None])

    def compute(self) -> BoundaryScores:
        """The scores of all images seen."""
        counts = torch.cat([image.cpu() for image in self.images])
        return boundary_scores(counts.numpy())


def _band(mask: Mask, width: int) -> NDArray[np.bool_]:
    """Pixels that the erosion of their class's mask by a square of this radius removes; outside the image is no class.

    The square comes from the reference code's repeated 3×3 erosions.
    """
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    least = cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    largest = cv2.dilate(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=255)
    return np.asarray(least != largest)


def _outline(mask: Mask) -> NDArray[np.bool_]:
    """Pixels beside one of another label."""
    edge = cv2.BORDER_REPLICATE
    different = cv2.erode(mask, _NEIGHBOURS, borderType=edge) != cv2.dilate(mask, _NEIGHBOURS, borderType=edge)
    return np.asarray(different)


def _per_class(labels: Mask, num_classes: int) -> Counts:
    return np.bincount(labels, minlength=256)[:num_classes]  # the ignored ones lie above


def _met(truth: NDArray[np.bool_], predicted: NDArray[np.bool_], tolerance: float) -> tuple[int, int]:
    """How many pixels of each line are nearer than this to the other one."""
    rows, columns = (np.flatnonzero((truth | predicted).any(axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _near(truth[box], predicted[box], tolerance), _near(predicted[box], truth[box], tolerance)


def _near(line: NDArray[np.bool_], other: NDArray[np.bool_], tolerance: float) -> int:
    distances = cv2.distanceTransform((~other).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[line]
    squared = np.rint(distances.astype(np.float64) ** 2)  # whole numbers, which rounding must not push over the limit
    return int(np.count_nonzero(squared < tolerance**2))
