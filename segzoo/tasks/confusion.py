"""mIoU as it means one thing here: from one int64 table of counts over a whole split."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.plot import plot_confusion_matrix, plot_single_or_multi_val

from segzoo.data.reading.labels import LabelSpace


class ConfusionMatrix(Metric):
    """Counts of pixels by truth and prediction, over a split; exact for any order, batch size and number of processes.

    Counts are int64: float32 loses pixels above 2**24, and torchmetrics' own mean IoU averages per image.

    >>> matrix = ConfusionMatrix(2)
    >>> matrix(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 255]]))
    tensor([[1, 1],
            [0, 0]])

    Args:
        classes: a data set's, or their names, or how many there are; without a data set's, 255 is ignored.
    """

    full_state_update = False
    is_differentiable = False
    counts: Tensor

    def __init__(self, classes: LabelSpace | Sequence[str] | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # torchmetrics' own options, such as dist_sync_on_step
        names = [f"class {index}" for index in range(classes)] if isinstance(classes, int) else classes
        self.labels = names if isinstance(names, LabelSpace) else LabelSpace.from_names(names)
        zeros = torch.zeros(self.labels.coding.table_shape, dtype=torch.int64)
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch.

        Shape: masks (N, H, W), or (N, K, H, W) where a pixel may have several classes; for the prediction a network's
            scores (N, K, H, W), which are floating-point, too.
        """
        coding = self.labels.coding
        self.counts += coding.count(
            coding.predict(prediction) if prediction.is_floating_point() else prediction, target
        )

    def compute(self) -> Tensor:
        """The int64 counts: (K, K), rows the truth, or (K, 2, 2) where a pixel may have several classes."""
        return self.counts

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """A figure and its axes; see torchmetrics."""
        return plot_confusion_matrix(self.compute() if val is None else val, ax=ax, labels=list(self.labels.names))


class MeanIoU(ConfusionMatrix):
    """mIoU over all pixels counted, as one number; otherwise as `ConfusionMatrix`.

    Classes in neither truth nor prediction are left out of the mean; NaN where there are no others.

    >>> metric = MeanIoU(2)
    >>> metric(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 255]]))
    tensor(0.2500)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """Shape: ()."""
        miou = Scores.from_matrix(self.counts).miou
        return torch.tensor(math.nan if miou is None else miou, device=self.counts.device)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """A figure and its axes; see torchmetrics."""
        return plot_single_or_multi_val(
            self.compute() if val is None else val,
            ax,
            higher_is_better=True,
            lower_bound=0.0,
            upper_bound=1.0,
            name="mIoU",
        )


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
        hits, truth, predicted = regions_of(matrix)
        iou = ratios(hits.tolist(), (truth + predicted - hits).tolist())
        right = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
        accuracies = ratios(right.flatten().tolist(), matrix.sum((-2, -1)).flatten().tolist())
        return Scores(mean_of_present(iou), mean_of_present(accuracies), iou)


def regions_of(matrix: Tensor) -> Tensor:
    """Hits, true pixels and predicted pixels of each class.

    Args:
        matrix: counts, as `MaskCoding.count` gives them.

    Shape: int64 (K, K) or (K, 2, 2) to (3, K).
    """
    if matrix.dim() == 3:
        return torch.stack([matrix[:, 1, 1], matrix[:, 1].sum(1), matrix[:, :, 1].sum(1)])
    return torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def ratios(parts: Iterable[float], wholes: Iterable[float]) -> tuple[float | None, ...]:
    """Each part over its whole; None where the whole is zero.

    >>> ratios([1, 0], [4, 0])
    (0.25, None)
    """
    return tuple(part / whole if whole else None for part, whole in zip(parts, wholes, strict=True))


def mean_of_present(values: Iterable[float | None]) -> float | None:
    """The mean of those that are not None, added up in their order as cityscapesscripts does; None where all are."""
    present = [value for value in values if value is not None]
    return reduce(add, present) / len(present) if present else None
