"""How well images are classified: top-1, top-5, mean average precision, MAP@100, the confusion matrix.

Nothing here depends on the order of images, the batch size or the number of processes: scores are kept until the end,
sums are made in the order of their values, and equal scores have a rule of their own.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.confusion import Scores, mean_of_present
from segzoo.tasks.losses.base import one_for_each_class
from segzoo.tasks.metrics.registry import (
    METRICS,
    TASK_METRICS,
    RegisteredMetric,
    TaskMetrics,
    Value,
    class_names,
)
from segzoo.tasks.metrics.segmentation import dice, mean_accuracy, precision, recall

ScoreArray = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]

_TOP = 5
_PREDICTIONS = 100
_ROWS = 4096  # images ranked at a time


class ClassificationScores(TypedDict):
    """What there is to say of a split; shares of 1, and None where there is nothing to judge.

    `confusion_matrix` is what `MaskCoding.count` makes of the classes that the scores stand for.
    """

    top1: float | None
    top5: float | None
    map: float | None
    map_at_100: float | None
    ap: tuple[float | None, ...]
    confusion_matrix: Tensor


AnyScores = Scores | ClassificationScores
"""The scores of a validation of either task."""


class ClassificationMetrics(Metric):
    """`classification_scores` accumulated over a split; exact for any order, batch size and number of processes.

    Args:
        labels: the classes.
        weights: of each class in MAP@100; None takes how many images have it.
    """

    full_state_update = False
    scores: list[Tensor]
    truth: list[Tensor]

    def __init__(self, labels: LabelSpace, weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # torchmetrics' own options, such as dist_sync_on_step
        self.weights = weights
        self.labels = labels
        # Flat and of one type: so torchmetrics gathers those of a process that has seen no image, too.
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("truth", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add one batch.

        Shape: logits (N, K); target class numbers (N,), or 0 and 1 (N, K) where an image may have several classes.

        Raises:
            ValueError: other shapes.
        """
        if logits.shape[1:] != (self.labels.num_classes,) or target.shape != (len(logits), *self.labels.coding.axes):
            raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} do not fit")
        self.scores.append(logits.detach().float().flatten())
        self.truth.append(target.detach().float().flatten())  # class numbers are exact up to 2**24

    def compute(self) -> ClassificationScores:
        """The scores of all images seen, on the CPU."""
        logits = _joined(self.scores).reshape(-1, self.labels.num_classes)
        target = _joined(self.truth).reshape(-1, *self.labels.coding.axes).long()
        return classification_scores(logits, target, self.labels, self.weights)


def classification_scores(
    logits: Tensor, target: Tensor, labels: LabelSpace, weights: Sequence[float] | None = None
) -> ClassificationScores:
    """All scores of a split.

    * top-k: share of the images with a true class among their k highest scores; of equal ones, the class that comes
      first counts as higher. Images without a class are left out. None for top-5 where there are 5 classes or fewer.
    * AP of a class: `average_precision` of the images ranked by their probability of it; mAP is the mean over the
      classes that the truth has.
    * MAP@100: `map_at_100`.

    Args:
        logits: scores before softmax or sigmoid.
        target: class numbers, or 0 and 1 of each class where an image may have several.
        labels: the classes.
        weights: of each class in MAP@100; None takes how many images have it.

    Shape: logits (N, K); target (N,) or (N, K).
    """
    scores, target, coding = logits.double().cpu(), target.cpu(), labels.coding
    truth = _has_class(target, labels.num_classes)
    ranking = _Ranking(scores.numpy(), truth.numpy())
    # A sigmoid is left out: it changes no order, and would make large scores equal.
    ranked_by = scores.softmax(1) if coding.exclusive else scores
    ap = tuple(average_precision(ranked_by[:, k].numpy(), truth[:, k].numpy()) for k in range(labels.num_classes))
    return ClassificationScores(
        top1=ranking.top(1),
        top5=ranking.top(_TOP) if logits.shape[1] > _TOP else None,
        map=mean_of_present(ap),
        map_at_100=ranking.mean_precision(weights),
        ap=ap,
        confusion_matrix=coding.count(coding.predict(scores).long(), target.long()),
    )


def average_precision(scores: ScoreArray, truth: Truth) -> float | None:
    """The area under a class's precision-recall curve, without interpolation: scikit-learn's `average_precision_score`.

    Each image that has the class adds the precision among the images that score as high or higher.

    Args:
        scores: of the class, for each image.
        truth: which images have it.

    Shape: (N,), twice.

    Returns:
        None where no image has the class.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order]
    # Equal scores share the rank of the last of them.
    ends = np.searchsorted(-ranked, -ranked, side="right")
    precision = np.cumsum(hits)[ends - 1] / ends
    # Only hits are added up, or the order of equal scores would move the rounding.
    return float(np.sum(precision[hits]) / np.count_nonzero(hits))


def map_at_100(logits: Tensor, target: Tensor, weights: Sequence[float] | None = None) -> float | None:
    """Mean average precision of each image's 100 highest scores, with a weight for each class.

    The classes of an image are ranked by score, equal ones by their number. An image's true class at rank r ≤ 100 adds
    the precision P(r), the share of true classes among the first r; at a lower rank it adds 0. A class's contribution
    A_c is the mean over the images that have it, and MAP@100 = Σ w_c·A_c / Σ w_c over the classes that the truth has.

    Args:
        logits: scores.
        target: class numbers, or 0 and 1 of each class.
        weights: w_c; None takes how many images have the class, so that every label of every image counts alike.

    Shape: logits (N, K); target (N,) or (N, K).

    Returns:
        None where no class with a weight occurs.

    Source: Chollet, arXiv:1610.02357v3, section 4.1: on JFT's FastEval14k (6,000 classes, 36.5 labels an image) "Mean
    Average Precision for top 100 predictions (MAP@100)", where "we weight the contribution of each class to MAP@100
    with a score estimating how common (and therefore important) the class is among social media images". The paper has
    no formula. Departures: the formula above is our reading, of the 100 predictions as those of an image and not of a
    class; those weights are not published, so that the default is how common a class is in the images measured.

    >>> map_at_100(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1, 0, 1]]))
    0.8333333333333333
    """
    truth = _has_class(target.cpu(), logits.shape[1])
    return _Ranking(logits.double().cpu().numpy(), truth.numpy()).mean_precision(weights)


class _Ranking:
    """The classes of each image from the highest score to the lowest.

    Args:
        scores: of each class.
        truth: which classes each image has.

    Shape: (N, K), twice.
    """

    def __init__(self, scores: ScoreArray, truth: Truth) -> None:
        self._truth = truth
        kept = min(_PREDICTIONS, scores.shape[1])
        parts = [
            np.argsort(-scores[start : start + _ROWS], axis=1, kind="stable")[:, :kept]
            for start in range(0, len(scores), _ROWS)
        ]
        self._order = np.concatenate(parts) if parts else np.empty((0, kept), np.int64)
        self._hits = np.take_along_axis(truth, self._order, axis=1)

    def top(self, count: int) -> float | None:
        """Share of the images with a class that have one among so many highest scores."""
        judged = self._truth.any(1)
        right = self._hits[:, :count].any(1) & judged
        return int(right.sum()) / int(judged.sum()) if judged.any() else None

    def mean_precision(self, weights: Sequence[float] | None) -> float | None:
        """`map_at_100`."""
        images = self._truth.sum(0)
        weight = images.astype(np.float64) if weights is None else np.array(weights, np.float64)
        if weight.shape != images.shape:
            raise ValueError(f"{weight.size} weights for {images.size} classes")
        present = images > 0
        total = weight[present].sum()
        if not total:
            return None
        contributions = self._precision_sums(images.size)[present] / images[present]
        return float((weight[present] * contributions).sum() / total)

    def _precision_sums(self, classes: int) -> ScoreArray:
        """Of each class, the sum of the precisions at its rank in the images that have it."""
        precision = np.cumsum(self._hits, axis=1) / np.arange(1, self._hits.shape[1] + 1)
        found, values = self._order[self._hits], precision[self._hits]
        # Added up by value, so that the order of the images does not move the rounding.
        order = np.lexsort((values, found))
        return np.asarray(np.bincount(found[order], weights=values[order], minlength=classes), np.float64)


def _has_class(target: Tensor, classes: int) -> Tensor:
    """Which classes each image has, bool (N, K)."""
    return target == 1 if target.dim() == 2 else torch.nn.functional.one_hot(target.long(), classes).bool()


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """All that was kept, in one process a list and, once gathered, a tensor."""
    if isinstance(parts, Tensor):
        return parts.cpu()
    return torch.cat([part.cpu() for part in parts]) if parts else torch.empty(0)


def _counter(config: ClassificationRunConfig, labels: LabelSpace) -> ClassificationMetrics:
    weights = one_for_each_class(config.evaluation.class_weights, labels, "evaluation.class_weights")
    return ClassificationMetrics(labels, weights)


TASK_METRICS["classification"] = TaskMetrics(
    counter=_counter,
    counter_type=ClassificationMetrics,
    table=itemgetter("confusion_matrix"),
    scores=lambda scores: scores,
    values=dict,
    main=lambda labels: "top1" if labels.coding.exclusive else "map",
    by_class="ap",
    most_rows=50,
)


def _one(
    name: str, title: str, score: Callable[[ClassificationScores], Value], *, validated: bool = True
) -> RegisteredMetric:
    return RegisteredMetric(
        name, title, ClassificationMetrics, lambda scores, _: score(scores), heading=title, validated=validated
    )


def _of_class(
    name: str, title: str, score: Callable[[ClassificationScores], Value], meaning: str, column: int = 0
) -> RegisteredMetric:
    return RegisteredMetric(
        name,
        title,
        ClassificationMetrics,
        lambda scores, _: score(scores),
        rows=class_names,
        meaning=meaning,
        column=column,
    )


for _metric in (
    _one("top1", "top-1", lambda scores: scores["top1"]),
    _one("top5", "top-5", lambda scores: scores["top5"]),
    _one("map", "mAP", lambda scores: scores["map"]),
    _one("map_at_100", "MAP@100", lambda scores: scores["map_at_100"]),
    _one("mean_accuracy", "mean accuracy", lambda scores: mean_accuracy(scores["confusion_matrix"]), validated=False),
    _of_class("ap", "AP", lambda scores: scores["ap"], "average precision over all thresholds", column=1),
    _of_class(
        "recall", "recall", lambda scores: recall(scores["confusion_matrix"]), "share of its images that were found"
    ),
    _of_class(
        "precision",
        "precision",
        lambda scores: precision(scores["confusion_matrix"]),
        "share of the images taken for it that are",
    ),
    _of_class("f1", "F1", lambda scores: dice(scores["confusion_matrix"]), "harmonic mean of recall and precision"),
):
    METRICS["classification"].add(_metric.name, _metric)
