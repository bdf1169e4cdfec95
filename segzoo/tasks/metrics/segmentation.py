"""What a table of counts says: IoU and its like, of each class, of groups of classes, and of all."""

from collections.abc import Callable

from torch import Tensor

from segzoo.data.datasets import cityscapes
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import ConfusionMatrix, Scores, mean_of_present, ratios, regions_of
from segzoo.tasks.metrics.boundary import BoundaryCounts, BoundaryScores
from segzoo.tasks.metrics.registry import (
    METRICS,
    TASK_METRICS,
    RegisteredMetric,
    Rows,
    Shares,
    TaskMetrics,
    Value,
    class_names,
)


def iou(matrix: Tensor) -> Shares:
    """Of each class, hits / (true or predicted pixels); None where there are none."""
    return Scores.from_matrix(matrix).iou


def recall(matrix: Tensor) -> Shares:
    """Share of each class's true pixels that were found, also called class accuracy; None where the truth has none."""
    hits, truth, _ = regions_of(matrix).tolist()
    return ratios(hits, truth)


def precision(matrix: Tensor) -> Shares:
    """Share of the pixels predicted as each class that are right; None where none was."""
    hits, _, predicted = regions_of(matrix).tolist()
    return ratios(hits, predicted)


def dice(matrix: Tensor) -> Shares:
    """Of each class, 2·hits / (true + predicted pixels), the harmonic mean of recall and precision; also called F1."""
    hits, truth, predicted = regions_of(matrix)
    return ratios((2 * hits).tolist(), (truth + predicted).tolist())


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


def category_names(labels: LabelSpace) -> tuple[str, ...]:
    """Cityscapes' categories of the classes; empty where a class is not one of those that Cityscapes evaluates."""
    if not labels.coding.exclusive or not set(labels.names) <= set(cityscapes.LABELS.names):
        return ()
    return tuple(dict.fromkeys(_categories()[name] for name in labels.names))


def category_iou(matrix: Tensor, labels: LabelSpace) -> Shares:
    """IoU of Cityscapes' categories, from the pixels of their classes; a mistake within a category does not count.

    Source: Cordts et al., arXiv:1604.01685v2, section 4.1. Categories without an evaluated class (void) have no score.
    """
    hits, unions, category_of = [], [], _categories()
    for name in category_names(labels):
        members = [index for index, label in enumerate(labels.names) if category_of[label] == name]
        hits.append(int(matrix[members][:, members].sum()))
        unions.append(int(matrix[members].sum()) + int(matrix[:, members].sum()) - hits[-1])
    return ratios(hits, unions)


def _categories() -> dict[str, str]:
    return {label.name: label.category for label in cityscapes.CITYSCAPES_LABELS}


TASK_METRICS["segmentation"] = TaskMetrics(
    counter=lambda _, labels: ConfusionMatrix(labels),
    counter_type=ConfusionMatrix,
    table=lambda counts: counts,
    scores=Scores.from_matrix,
    values=vars,
    main=lambda _: "miou",
    by_class="iou",
)


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


def _of_boundary(
    name: str, title: str, heading: str, score: Callable[[BoundaryScores], Value], meaning: str = ""
) -> RegisteredMetric:
    return RegisteredMetric(
        f"boundary/{name}",
        title,
        BoundaryCounts,
        lambda scores, _: score(scores),
        rows=class_names if meaning else None,
        meaning=meaning,
        heading=heading,
        compared=False,
        optional="boundary",
        applies=lambda labels: labels.coding.exclusive,
    )


def _of_categories(
    name: str, title: str, score: Callable[[Tensor, LabelSpace], Value], rows: Rows | None = None
) -> RegisteredMetric:
    return RegisteredMetric(
        f"categories/{name}",
        title,
        ConfusionMatrix,
        score,
        rows=rows,
        row_title="category",
        heading="Category mIoU",
        compared=False,
        applies=lambda labels: bool(category_names(labels)),
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
    _of_boundary("mean_iou", "mean boundary IoU", "Boundary IoU", lambda scores: mean_of_present(scores.iou)),
    _of_boundary("mean_f_score", "mean boundary F", "Boundary F-score", lambda scores: mean_of_present(scores.f_score)),
    _of_boundary("iou", "boundary IoU", "Boundary IoU", lambda scores: scores.iou, "IoU of the pixels near an outline"),
    _of_boundary(
        "f_score", "boundary F", "Boundary F", lambda scores: scores.f_score, "outlines that meet one another"
    ),
    _of_categories("miou", "mIoU of categories", lambda matrix, labels: mean_of_present(category_iou(matrix, labels))),
    _of_categories("iou", "IoU", category_iou, rows=category_names),
):
    METRICS["segmentation"].add(_metric.name, _metric)
