"""IoU of Cityscapes' categories, groups of its classes."""

from torch import Tensor

from segzoo.data.datasets import cityscapes
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import ConfusionMatrix, mean_of_present
from segzoo.tasks.metrics.registry import METRICS, RegisteredMetric, Shares
from segzoo.tasks.metrics.segmentation import shares


def category_names(labels: LabelSpace) -> tuple[str, ...]:
    """Cityscapes' categories of the classes; none where a class is not one of those that Cityscapes evaluates."""
    if not labels.coding.exclusive or not set(labels.names) <= set(cityscapes.LABELS.names):
        return ()
    return tuple(dict.fromkeys(_categories()[name] for name in labels.names))


def category_iou(matrix: Tensor, labels: LabelSpace) -> Shares:
    """IoU of Cityscapes' categories, from the pixels of their classes; a mistake within a category is none.

    Args:
        matrix: rows the truth.
        labels: the classes.

    Shape: matrix int64 (K, K).

    Source: Cordts et al., arXiv:1604.01685v2, section 4.1. Categories without an evaluated class (void) have no score.
    """
    hits, unions, category_of = [], [], _categories()
    for name in category_names(labels):
        members = [index for index, label in enumerate(labels.names) if category_of[label] == name]
        hits.append(int(matrix[members][:, members].sum()))
        unions.append(int(matrix[members].sum()) + int(matrix[:, members].sum()) - hits[-1])
    return shares(hits, unions)


def _categories() -> dict[str, str]:
    return {label.name: label.category for label in cityscapes.CITYSCAPES_LABELS}


for _metric in (
    RegisteredMetric(
        "categories/miou",
        "mIoU of categories",
        ConfusionMatrix,
        lambda matrix, labels: mean_of_present(category_iou(matrix, labels)),
        heading="Category mIoU",
        compared=False,
        applies=lambda labels: bool(category_names(labels)),
    ),
    RegisteredMetric(
        "categories/iou",
        "IoU",
        ConfusionMatrix,
        category_iou,
        rows=category_names,
        row_title="category",
        compared=False,
        applies=lambda labels: bool(category_names(labels)),
    ),
):
    METRICS["segmentation"].add(_metric.name, _metric)
