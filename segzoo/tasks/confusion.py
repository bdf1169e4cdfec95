"""mIoU as it means one thing here: from one int64 table of counts over a whole split."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segzoo.data.labels import IGNORED, LabelSpace


def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = IGNORED) -> Tensor:
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
    _refuse_other_shape(prediction, target)
    counted = target != ignore_index
    truth, predicted = target[counted].long(), prediction[counted].long()
    for name, values in (("target", truth), ("prediction", predicted)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            raise ValueError(f"{name} holds values outside 0..{num_classes - 1}")
    counts = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_tables(prediction: Tensor, target: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Count pixels by (truth, prediction) for each class on its own, where a pixel may have several.

    Args:
        prediction: 0 or 1.
        target: 0, 1 or `ignore_index`.
        ignore_index: value of pixels that do not count for a class.

    Shape:
        integers (..., K, H, W), twice; result int64 (K, 2, 2), scikit-learn's `multilabel_confusion_matrix`.

    Raises:
        ValueError: shapes differ, or another value.

    >>> class_tables(torch.tensor([[[1, 0]]]), torch.tensor([[[1, 1]]]))
    tensor([[[0, 0],
             [1, 1]]])
    """
    _refuse_other_shape(prediction, target)
    planes = zip(prediction.movedim(-3, 0), target.movedim(-3, 0), strict=True)
    return torch.stack([confusion_matrix(*plane, 2, ignore_index) for plane in planes])


class ConfusionMatrix(Metric):
    """`confusion_matrix` accumulated over a split; exact for any order, batch size and number of processes.

    Counts are int64: float32 loses pixels above 2**24, and torchmetrics' own mean IoU averages per image.

    Args:
        num_classes: number of classes K.
        ignore_index: value of pixels that do not count.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, ignore_index: int = IGNORED, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # torchmetrics' own options, such as dist_sync_on_step
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("counts", default=self._zeros(), dist_reduce_fx="sum")

    def _zeros(self) -> Tensor:
        return torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch of class indices."""
        self.counts += confusion_matrix(prediction, target, self.num_classes, self.ignore_index)

    def compute(self) -> Tensor:
        """The int64 (K, K) matrix, rows the truth."""
        return self.counts


class ClassTables(ConfusionMatrix):
    """`class_tables` accumulated over a split, int64 (K, 2, 2); otherwise as `ConfusionMatrix`."""

    def _zeros(self) -> Tensor:
        return torch.zeros(self.num_classes, 2, 2, dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch of (N, K, H, W) decisions."""
        self.counts += class_tables(prediction, target, self.ignore_index)


def build_confusion(labels: LabelSpace) -> ConfusionMatrix:
    """The counts that suit some classes: those of `decide`'s masks against the data set's."""
    kind = ClassTables if labels.multi_label else ConfusionMatrix
    return kind(labels.num_classes, labels.ignore_index)


@dataclass(frozen=True)
class Scores:
    """What a table of counts says.

    `iou[k]` is None where class k is absent from prediction and truth alike; `miou` is the mean of the
    others, None where there are none. Where a pixel may have several classes, `iou[k]` is of class k's own decisions,
    and `pixel_accuracy` the mean over the classes of the share of right ones.
    """

    miou: float | None
    pixel_accuracy: float | None
    iou: tuple[float | None, ...]

    @staticmethod
    def from_matrix(matrix: Tensor) -> "Scores":
        """Scores of an int64 (K, K) matrix, rows the truth, or of the (K, 2, 2) tables of `class_tables`."""
        if matrix.dim() == 3:
            return Scores._from_tables(matrix)
        hits = matrix.diagonal()
        iou = _ratios(hits, matrix.sum(0) + matrix.sum(1) - hits)
        return Scores(mean_of_present(iou), _ratios(hits.sum(), matrix.sum())[0], iou)

    @staticmethod
    def _from_tables(tables: Tensor) -> "Scores":
        pixels = tables.sum((1, 2))
        iou = _ratios(tables[:, 1, 1], pixels - tables[:, 0, 0])
        return Scores(mean_of_present(iou), mean_of_present(_ratios(tables[:, 0, 0] + tables[:, 1, 1], pixels)), iou)


def _ratios(parts: Tensor, wholes: Tensor) -> tuple[float | None, ...]:
    """`parts / wholes`, None where there is nothing."""
    pairs = zip(parts.flatten().tolist(), wholes.flatten().tolist(), strict=True)
    return tuple(part / whole if whole else None for part, whole in pairs)


def mean_of_present(values: Iterable[float | None]) -> float | None:
    """The mean of those that are not None, added up in their order as cityscapesscripts does; None where all are."""
    present = [value for value in values if value is not None]
    return reduce(add, present) / len(present) if present else None


def _refuse_other_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
