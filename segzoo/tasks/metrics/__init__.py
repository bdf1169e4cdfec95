"""Metrics by name. Tables, metrics.json, the report, `segzoo compare` and validations ask these for what to show."""

from segzoo.tasks.metrics import boundary as _boundary  # noqa: F401  (registers its metrics)
from segzoo.tasks.metrics import categories as _categories  # noqa: F401  (registers its metrics)
from segzoo.tasks.metrics import classification as _classification  # noqa: F401  (registers its metrics)
from segzoo.tasks.metrics import segmentation as _segmentation  # noqa: F401  (registers its metrics)
from segzoo.tasks.metrics.counting import MetricSet, State
from segzoo.tasks.metrics.measured import Measured
from segzoo.tasks.metrics.registry import (
    METRICS,
    RegisteredMetric,
    Shares,
    Value,
    Values,
    metrics_of,
    register_metric,
    unknown_metrics,
)
from segzoo.tasks.metrics.validation import (
    AnyScores,
    MainMetric,
    main_metric,
    no_scores,
    score_names,
    validation_metrics,
)

__all__ = [
    "METRICS",
    "AnyScores",
    "MainMetric",
    "Measured",
    "MetricSet",
    "RegisteredMetric",
    "Shares",
    "State",
    "Value",
    "Values",
    "main_metric",
    "metrics_of",
    "no_scores",
    "register_metric",
    "score_names",
    "unknown_metrics",
    "validation_metrics",
]
