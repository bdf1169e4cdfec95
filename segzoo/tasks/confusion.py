"""mIoU as it means one thing here: from one int64 table of counts over a whole split."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segzoo.data.labels import LabelSpace


class ConfusionMatrix(Metric):
    """What `MaskCoding.count` gives, over a split; exact for any order, batch size and number of processes.

    Counts are int64: float32 loses pixels above 2**24, and torchmetrics' own mean IoU averages per image.

    Args:
        labels: the classes.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, labels: LabelSpace, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # torchmetrics' own options, such as dist_sync_on_step
        self.coding = labels.coding
        zeros = torch.zeros(labels.coding.table_shape, dtype=torch.int64)
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch of masks."""
        self.counts += self.coding.count(prediction, target)

    def compute(self) -> Tensor:
        """The int64 counts: (K, K), rows the truth, or (K, 2, 2) where a pixel may have several classes."""
        return self.counts


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
        """Scores of an int64 (K, K) matrix, rows the truth, or of (K, 2, 2) tables of classes that overlap."""
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
