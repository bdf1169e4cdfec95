"""What a table of counts says: IoU and its like, of each class and of all."""

from collections.abc import Callable, Iterable

from torch import Tensor

from segzoo.tasks.confusion import ConfusionMatrix, Scores, mean_of_present, regions_of
from segzoo.tasks.metrics.registry import METRICS, RegisteredMetric, Shares, class_names


def iou(matrix: Tensor) -> Shares:
    """Of each class, hits / (true or predicted pixels); None where there are none."""
    return Scores.from_matrix(matrix).iou


def recall(matrix: Tensor) -> Shares:
    """Share of each class's true pixels that were found, also called class accuracy; None where the truth has none."""
    hits, truth, _ = regions_of(matrix).tolist()
    return shares(hits, truth)


def precision(matrix: Tensor) -> Shares:
    """Share of the pixels predicted as each class that are right; None where none was."""
    hits, _, predicted = regions_of(matrix).tolist()
    return shares(hits, predicted)


def dice(matrix: Tensor) -> Shares:
    """Of each class, 2·hits / (true + predicted pixels), the harmonic mean of recall and precision; also called F1."""
    hits, truth, predicted = regions_of(matrix)
    return shares((2 * hits).tolist(), (truth + predicted).tolist())


def mean_accuracy(matrix: Tensor) -> float | None:
    """The mean of recall over the classes that the truth has.

    Source: Long et al., arXiv:1411.4038v2, section 5. Departure: classes that the truth lacks are left out, for which
        it is not defined there.
    """
    return mean_of_present(recall(matrix))


def frequency_weighted_iou(matrix: Tensor) -> float | None:
    """The mean of IoU, each class weighing as much as it has true pixels.

    Source: Long et al., arXiv:1411.4038v2, section 5.
    """
    truth = regions_of(matrix)[1].tolist()
    weighted = [value * true for value, true in zip(iou(matrix), truth, strict=True) if value is not None]
    return sum(weighted) / sum(truth) if sum(truth) else None


def shares(parts: Iterable[float], wholes: Iterable[float]) -> Shares:
    """Each part over its whole; None where the whole is zero.

    >>> shares([1, 0], [4, 0])
    (0.25, None)
    """
    return tuple(part / whole if whole else None for part, whole in zip(parts, wholes, strict=True))


def _one(name: str, title: str, of: Callable[[Tensor], float | None], *, validated: bool = False) -> RegisteredMetric:
    return RegisteredMetric(name, title, ConfusionMatrix, lambda matrix, _: of(matrix), validated=validated)


def _of_class(name: str, title: str, of: Callable[[Tensor], Shares], meaning: str, *, main: bool) -> RegisteredMetric:
    """Validations and comparisons have the main one only; the others would fill screens."""
    return RegisteredMetric(
        name,
        title,
        ConfusionMatrix,
        lambda matrix, _: of(matrix),
        rows=class_names,
        meaning=meaning,
        validated=main,
        compared=main,
    )


for _metric in (
    _one("miou", "mIoU", lambda matrix: Scores.from_matrix(matrix).miou, validated=True),
    _one("pixel_accuracy", "pixel accuracy", lambda matrix: Scores.from_matrix(matrix).pixel_accuracy, validated=True),
    _one("mean_accuracy", "mean accuracy", mean_accuracy),
    _one("mean_dice", "mean Dice", lambda matrix: mean_of_present(dice(matrix))),
    _one("frequency_weighted_iou", "frequency-weighted IoU", frequency_weighted_iou),
    _of_class("iou", "IoU", iou, "hits / (true or predicted pixels)", main=True),
    _of_class("recall", "recall", recall, "share of the true pixels that were found", main=False),
    _of_class("precision", "precision", precision, "share of the predicted pixels that are right", main=False),
    _of_class("dice", "Dice", dice, "harmonic mean of recall and precision", main=False),
):
    METRICS["segmentation"].add(_metric.name, _metric)
