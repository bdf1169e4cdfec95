"""The metrics of classifiers."""

from collections.abc import Callable

from segzoo.tasks.classification_metrics import ClassificationMetrics, ClassificationScores
from segzoo.tasks.metrics.registry import METRICS, RegisteredMetric, Value, class_names
from segzoo.tasks.metrics.segmentation import dice, mean_accuracy, precision, recall


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
