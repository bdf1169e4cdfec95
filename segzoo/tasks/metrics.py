"""The numbers that a run is measured by: which one decides, and which ones its log has."""

from typing import NamedTuple

import torch

from segzoo.config.classification import AnyRunConfig
from segzoo.config.schema import RunConfig
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
    if isinstance(config, RunConfig):
        return MainMetric("miou", "mIoU")
    return MainMetric("map", "mAP") if labels.multi_label else MainMetric("top1", "top-1")


def score_names(config: AnyRunConfig, labels: LabelSpace) -> list[str]:
    """The columns of metrics.csv that a validation fills."""
    if isinstance(config, RunConfig):
        return ["miou", "pixel_accuracy", *(f"iou/{name}" for name in labels.names)]
    return list(class_scores_by_name(None))


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
    count = labels.num_classes
    if isinstance(config, RunConfig):
        return Scores(None, None, (None,) * count)
    matrix = torch.zeros((count, 2, 2) if labels.multi_label else (count, count), dtype=torch.int64)
    return ClassificationScores(
        top1=None, top5=None, map=None, map_at_100=None, ap=(None,) * count, confusion_matrix=matrix
    )
