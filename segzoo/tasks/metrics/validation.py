"""The numbers that a run is measured by: which one decides, and which ones its log has."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from segzoo.config.classification import AnyRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.tasks.classification_metrics import ClassificationScores
from segzoo.tasks.confusion import Scores
from segzoo.tasks.metrics.registry import METRICS, RegisteredMetric

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
    metric = METRICS[config.task][MEASURES[config.task].main(labels)]
    return MainMetric(metric.name, metric.title)


def validation_metrics(config: AnyRunConfig, labels: LabelSpace) -> tuple[RegisteredMetric, ...]:
    """What every validation of a run measures: the metrics that always are, and those that `evaluation.metrics` names.

    Raises:
        ConfigError: a metric that is not registered, or not for these classes.
    """
    metrics, named = METRICS[config.task], config.evaluation.metrics
    for name in named:
        if not metrics[name].applies(labels):
            raise ConfigError(f"evaluation.metrics: {name} is not measured for these classes. Leave it out.")
    return tuple(metric for metric in metrics.values() if metric.validated or metric.name in named)


def score_names(config: AnyRunConfig, labels: LabelSpace) -> list[str]:
    """The columns of metrics.csv that a validation fills."""
    return [name for metric in validation_metrics(config, labels) for name in metric.names(labels)]


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
        main: the metric that decides.
        nothing: the scores of a run without a validation.
    """

    main: Callable[[LabelSpace], str]
    nothing: Callable[[LabelSpace], AnyScores]


MEASURES: Mapping[str, Measures] = {
    "segmentation": Measures(lambda labels: "miou", lambda labels: Scores(None, None, (None,) * labels.num_classes)),
    "classification": Measures(lambda labels: "top1" if labels.coding.exclusive else "map", _no_class_scores),
}
"""`task` -> its numbers."""
