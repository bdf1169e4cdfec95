"""The numbers that a run is measured by: which one decides, and which ones its log has."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from segzoo.config.classification import AnyRunConfig
from segzoo.data.labels import LabelSpace
from segzoo.tasks.classification_metrics import ClassificationScores
from segzoo.tasks.confusion import Scores

AnyScores = Scores | ClassificationScores


class MainMetric(NamedTuple):
    """The number by which checkpoints are compared; more is better.

    Args:
        name: in metrics.csv and, behind best_val_, in summary.json.
        title: as people write it.
    """

    name: str
    title: str


def main_metric(config: AnyRunConfig, labels: LabelSpace) -> MainMetric:
    """The number that decides which checkpoint is the best."""
    return MEASURES[config.task].main(labels)


def score_names(config: AnyRunConfig, labels: LabelSpace) -> list[str]:
    """The columns of metrics.csv that a validation fills."""
    return MEASURES[config.task].names(labels)


def class_scores_by_name(scores: ClassificationScores | None) -> dict[str, float | None]:
    """The single numbers of a classifier's validation; None where there was none."""
    if scores is None:
        return dict.fromkeys(("top1", "top5", "map", "map_at_100"))
    return {
        "top1": scores["top1"],
        "top5": scores["top5"],
        "map": scores["map"],
        "map_at_100": scores["map_at_100"],
    }


def no_scores(config: AnyRunConfig, labels: LabelSpace) -> AnyScores:
    """What is known without a validation."""
    return MEASURES[config.task].nothing(labels)


def _no_class_scores(labels: LabelSpace) -> ClassificationScores:
    count = labels.num_classes
    matrix = torch.zeros(labels.coding.table_shape, dtype=torch.int64)
    return ClassificationScores(
        top1=None, top5=None, map=None, map_at_100=None, ap=(None,) * count, confusion_matrix=matrix
    )


class Measures(NamedTuple):
    """The numbers of a task, for the classes of a run.

    Args:
        main: the one that decides.
        names: columns of metrics.csv.
        nothing: the scores of a run without a validation.
    """

    main: Callable[[LabelSpace], MainMetric]
    names: Callable[[LabelSpace], list[str]]
    nothing: Callable[[LabelSpace], AnyScores]


MEASURES: Mapping[str, Measures] = {
    "segmentation": Measures(
        lambda labels: MainMetric("miou", "mIoU"),
        lambda labels: ["miou", "pixel_accuracy", *(f"iou/{name}" for name in labels.names)],
        lambda labels: Scores(None, None, (None,) * labels.num_classes),
    ),
    "classification": Measures(
        lambda labels: MainMetric("top1", "top-1") if labels.coding.exclusive else MainMetric("map", "mAP"),
        lambda labels: list(class_scores_by_name(None)),
        _no_class_scores,
    ),
}
"""`task` -> its numbers."""
