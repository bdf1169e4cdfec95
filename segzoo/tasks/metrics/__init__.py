"""Metrics by name. Tables, metrics.json, the report, `segzoo compare` and validations ask these for what to show.

`registry` says what a metric is, `measured` measures several together; `segmentation`, `boundary` and `classification`
hold ours, which are registered here, in the order in which everything shows them.
"""

from segzoo.tasks.metrics.classification import AnyScores
from segzoo.tasks.metrics.measured import Measured, MetricSet, State, no_scores, score_table
from segzoo.tasks.metrics.registry import (
    METRICS,
    TASK_METRICS,
    MainMetric,
    RegisteredMetric,
    Shares,
    Values,
    main_metric,
    metrics_of,
    percent,
    register_metric,
    score_names,
    unknown_metrics,
    validation_metrics,
)

__all__ = [
    "METRICS",
    "TASK_METRICS",
    "AnyScores",
    "MainMetric",
    "Measured",
    "MetricSet",
    "RegisteredMetric",
    "Shares",
    "State",
    "Values",
    "main_metric",
    "metrics_of",
    "no_scores",
    "percent",
    "register_metric",
    "score_names",
    "score_table",
    "unknown_metrics",
    "validation_metrics",
]
