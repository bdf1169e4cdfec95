"""Everything that a table of counts says beyond IoU: of each class, of all, of Cityscapes' categories."""

from collections.abc import Iterable

import torch
from torch import Tensor

from segzoo.data import cityscapes
from segzoo.data.labels import LabelSpace
from segzoo.evaluation.results import CategoryScores, ClassScores, Shares
from segzoo.tasks.confusion import Scores, mean_of_present


def class_scores(matrix: Tensor) -> ClassScores:
    """Recall, precision, Dice and the means.

    Args:
        matrix: rows the truth; or the tables of classes that do not exclude each other.

    Shape: matrix int64 (K, K) or (K, 2, 2).

    Source: precision, recall and Dice as everywhere; mean accuracy and frequency-weighted IoU as in Long et al.,
        arXiv:1411.4038v2, section 5. Departure: classes that the truth lacks are left out of the mean accuracy, which
        there is not defined for them.
    """
    hits, truth, predicted = regions_of(matrix).tolist()
    recall = shares(hits, truth)
    dice = shares([2 * hit for hit in hits], [true + found for true, found in zip(truth, predicted, strict=True)])
    iou = Scores.from_matrix(matrix).iou
    weighted = [value * true for value, true in zip(iou, truth, strict=True) if value is not None]
    total = sum(truth)
    return ClassScores(
        recall=recall,
        precision=shares(hits, predicted),
        dice=dice,
        mean_accuracy=mean_of_present(recall),
        mean_dice=mean_of_present(dice),
        frequency_weighted_iou=sum(weighted) / total if total else None,
    )


def regions_of(matrix: Tensor) -> Tensor:
    """Hits, true pixels and predicted pixels of each class.

    Args:
        matrix: counts, as `MaskCoding.count` gives them.

    Shape: int64 (K, K) or (K, 2, 2) to (3, K).
    """
    if matrix.dim() == 3:
        return torch.stack([matrix[:, 1, 1], matrix[:, 1].sum(1), matrix[:, :, 1].sum(1)])
    return torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def category_scores(matrix: Tensor, labels: LabelSpace) -> CategoryScores | None:
    """IoU of Cityscapes' categories, from the pixels of their classes; a mistake within a category is none.

    Args:
        matrix: rows the truth.
        labels: the classes.

    Shape: matrix int64 (K, K).

    Returns:
        None where a class is not one of those that Cityscapes evaluates, or classes do not exclude each other.

    Source: Cordts et al., arXiv:1604.01685v2, section 4.1. Categories without an evaluated class (void) have no score.
    """
    if not labels.coding.exclusive or not set(labels.names) <= set(cityscapes.LABELS.names):
        return None
    category_of = {label.name: label.category for label in cityscapes.CITYSCAPES_LABELS}
    names = tuple(dict.fromkeys(category_of[name] for name in labels.names))
    iou = []
    for name in names:
        members = [index for index, label in enumerate(labels.names) if category_of[label] == name]
        hits = int(matrix[members][:, members].sum())
        union = int(matrix[members].sum()) + int(matrix[:, members].sum()) - hits
        iou.append(hits / union if union else None)
    return CategoryScores(names, tuple(iou), mean_of_present(iou))


def shares(parts: Iterable[float], wholes: Iterable[float]) -> Shares:
    """Each part over its whole; None where the whole is zero.

    >>> shares([1, 0], [4, 0])
    (0.25, None)
    """
    return tuple(part / whole if whole else None for part, whole in zip(parts, wholes, strict=True))
