"""mIoU as it means one thing here: from one int64 confusion matrix over a whole split."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count pixels by (true class, predicted class).

    Args:
        prediction: class indices, any shape, any integer type.
        target: class indices or `ignore_index`, the same shape.
        num_classes: number of classes K.
        ignore_index: value of pixels that do not count.

    Shape:
        int64 (K, K); rows are the truth, columns the prediction.

    Raises:
        ValueError: shapes differ, or an index outside 0..K-1 that is not ignored.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    counted = target != ignore_index
    truth, predicted = target[counted].long(), prediction[counted].long()
    for name, values in (("target", truth), ("prediction", predicted)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            raise ValueError(f"{name} holds values outside 0..{num_classes - 1}")
    counts = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


class ConfusionMatrix(Metric):
    """`confusion_matrix` accumulated over a split; exact for any order, batch size and number of processes.

    Counts are int64: float32 loses pixels above 2**24, and torchmetrics' own mean IoU averages per image.

    Args:
        num_classes: number of classes K.
        ignore_index: value of pixels that do not count.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # torchmetrics' own options, such as dist_sync_on_step
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch of class indices."""
        self.counts += confusion_matrix(prediction, target, self.num_classes, self.ignore_index)

    def compute(self) -> Tensor:
        """The int64 (K, K) matrix, rows the truth."""
        return self.counts


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    `iou[k]` is None where class k is absent from prediction and truth alike; `miou` is the mean of the
    others, None where there are none.
    """

    miou: float | None
    pixel_accuracy: float | None
    iou: tuple[float | None, ...]

    @staticmethod
    def from_matrix(matrix: Tensor) -> "Scores":
        """Scores of an int64 (K, K) matrix, rows the truth, in float64."""
        hits = matrix.diagonal().double()
        union = matrix.sum(0).double() + matrix.sum(1).double() - hits
        iou = tuple(_ratio(hit, total) for hit, total in zip(hits.tolist(), union.tolist(), strict=True))
        present = [value for value in iou if value is not None]
        return Scores(
            miou=fmean(present) if present else None,
            pixel_accuracy=_ratio(float(hits.sum()), float(matrix.sum())),
            iou=iou,
        )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
