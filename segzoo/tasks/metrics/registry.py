"""A metric is a name, what it counts, what it makes of the counts, and how that is shown."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeVar

from torch import Tensor
from torchmetrics import Metric

from segzoo.config.classification import AnyRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, DataError, first_line
from segzoo.registry import Registry

Shares = tuple[float | None, ...]
"""One number for each class; None where there is nothing to judge."""
Value = float | None | Shares
Values = Mapping[str, Value]
"""Metric -> its number, or its numbers."""
Counter = Callable[[LabelSpace], Metric]
"""Makes what counts; metrics of one counter share its counts."""
Rows = Callable[[LabelSpace], tuple[str, ...]]
"""Names of what a metric has a number for each of."""
TaskName = Literal["segmentation", "classification"]
Own = TypeVar("Own", bound="type[Metric] | Callable[[Any], Any]")

TAKEN = frozenset(
    (
        "miou_interval", "confusion_matrix", "images", "torch", "dataset", "split", "checkpoint", "weights",
        "output_stride", "engine", "engine_precision", "tta", "tile", "tile_overlap",
        "image_size", "center_crop", "class_weights", "step", "epoch", "loss", "learning_rate", "images_per_second",
    )
)  # fmt: skip
"""What metrics.json and metrics.csv have beside metrics."""


def class_names(labels: LabelSpace) -> tuple[str, ...]:
    """The rows of a metric that has a number for each class."""
    return labels.names


def percent(value: float | None) -> str:
    """A share as text; None, where there is nothing to judge, as n/a."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


@dataclass(frozen=True)
class RegisteredMetric:
    """A metric, as everything that shows one asks it.

    Args:
        name: its key in metrics.json, where `group/name` lies in `group`, and behind `val/` in a log.
        title: as tables have it.
        counter: what counts.
        score: the number, or the numbers, of what the counter computed; None stands for nothing to judge.
        rows: names of what it has a number for each of; None where it is one number.
        row_title: what a row is.
        meaning: in a few words, for the report.
        heading: its title in the report; None takes `title` with a capital.
        show: how a number is shown, such as `.3f`; None takes a share of 1 and shows percent.
        higher_is_better: which of two is better.
        validated: every validation measures it.
        compared: `segzoo compare` shows it.
        optional: measured only where it is asked for, by this word.
        applies: to which classes.
        column: place in the table of classes; of one place, the order of registration.
    """

    name: str
    title: str
    counter: Counter
    score: Callable[[Any, LabelSpace], Any]
    rows: Rows | None = None
    row_title: str = "class"
    meaning: str = ""
    heading: str | None = None
    show: str | None = None
    higher_is_better: bool = True
    validated: bool = False
    compared: bool = True
    optional: str | None = None
    applies: Callable[[LabelSpace], bool] = bool
    column: int = 0

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """What is registered is pickled by its name, because functions of one line have none."""
        for task, metrics in METRICS.items():
            if self.name in metrics and metrics[self.name] is self:
                return _registered, (task, self.name)
        return super().__reduce_ex__(protocol)

    @property
    def report_title(self) -> str:
        """As the report has it."""
        return self.heading or self.title[:1].upper() + self.title[1:]

    def names(self, labels: LabelSpace) -> list[str]:
        """What a log calls its numbers: the metric's name, or that with each row's behind a slash."""
        return [self.name] if self.rows is None else [f"{self.name}/{row}" for row in self.rows(labels)]

    def text(self, value: float | None) -> str:
        """A number as it is shown; n/a where there is nothing to judge."""
        return percent(value) if value is None or self.show is None else format(value, self.show)

    def value(self, counted: Any, labels: LabelSpace) -> Value:
        """What it says of counts.

        Raises:
            DataError: it gave something else than the numbers that it promises.
        """
        try:
            found = self.score(counted, labels)
            numbers = (_number(found),) if self.rows is None else tuple(map(_number, found))
        except Exception as error:  # a user's function may raise any
            raise DataError(f"metric {self.name}: {type(error).__name__}: {first_line(error)}") from error
        if self.rows is None:
            return numbers[0]
        if len(numbers) != len(self.rows(labels)):
            raise DataError(f"metric {self.name}: gave {len(numbers)} numbers for {len(self.rows(labels))} classes")
        return numbers

    def saved_value(self, content: Any, labels: LabelSpace) -> Value:
        """Its value as metrics.json has it; nothing to judge where another file than ours says so."""
        if self.rows is None:
            return _number(content) if isinstance(content, int | float) else None
        known = content if isinstance(content, dict) else {}
        numbers = (known.get(row) for row in self.rows(labels))
        return tuple(_number(number) if isinstance(number, int | float) else None for number in numbers)


METRICS: Mapping[str, Registry[RegisteredMetric]] = {
    "segmentation": Registry("metric"),
    "classification": Registry("metric"),
}
"""`task` -> its metrics, in the order in which everything shows them."""


def _registered(task: str, name: str) -> RegisteredMetric:
    return METRICS[task][name]


@dataclass(frozen=True)
class TaskMetrics:
    """What the metrics of a task have in common.

    Args:
        counter: makes, by a run's configuration, the counter that every validation and evaluation has.
        counter_type: its class, by which metrics ask for it.
        table: the table of counts in what it computes.
        scores: the same as a task's `scores`.
        values: those by the names of metrics.
        main: the metric by which checkpoints are compared; more is better.
        by_class: the metric whose numbers of each class a run ends with.
        most_rows: classes with a row of their own in a terminal; None shows all.
    """

    counter: Callable[[Any, LabelSpace], Metric]
    counter_type: type[Metric]
    table: Callable[[Any], Tensor]
    scores: Callable[[Any], Any]
    values: Callable[[Any], Mapping[str, Any]]
    main: Callable[[LabelSpace], str]
    by_class: str
    most_rows: int | None = None


TASK_METRICS: dict[str, TaskMetrics] = {}
"""`task` -> what its metrics have in common; the modules that register the metrics of a task fill it."""


def register_metric(
    name: str,
    *,
    task: TaskName = "segmentation",
    title: str | None = None,
    meaning: str = "",
    per_class: bool = False,
    show: str | None = None,
    higher_is_better: bool = True,
    replace: bool = False,
) -> Callable[[Own], Own]:
    """Register a metric of your own: tables, metrics.json, the report and `segzoo compare` then have it.

    What is registered is either a function of the counts of a split, int64 (K, K) with the truth in rows, or (K, 2, 2)
    where a pixel may have several classes; or a class of torchmetrics that counts by itself. It is made with the
    keywords `num_classes` and `ignore_index`, and its `update(prediction, target)` sees masks (N, H, W), or
    (N, K, H, W) of 0 and 1.

    >>> @register_metric("kappa", title="Cohen's kappa", show=".3f")
    ... def kappa(counts):
    ...     by_chance = (counts.sum(0) * counts.sum(1)).sum() / counts.sum() ** 2
    ...     return 1 - (1 - counts.trace() / counts.sum()) / (1 - by_chance)

    Args:
        name: its key in metrics.json, and behind `val/` in logs.
        task: what it measures; of classifiers, a class of torchmetrics sees logits (N, K) and class numbers (N,).
        title: as tables have it; None takes the name.
        meaning: in a few words, for the report.
        per_class: it gives a number for each class.
        show: how a number is shown, as Python formats it, such as `.3f`; None takes a share of 1 and shows percent.
        higher_is_better: False where a lower number is better.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken, or what is shown cannot be shown so.
    """
    if name in TAKEN:
        raise ConfigError(f"metric {name!r}: metrics.json has another thing of that name. Take another.")
    if show is not None:
        try:
            format(0.5, show)
        except ValueError as error:
            raise ConfigError(
                f"metric {name!r}: show={show!r} shows no number ({error}). Take one such as '.3f'."
            ) from None

    def register(own: Own) -> Own:
        counter, score = _counter_and_score(name, task, own)
        entry = RegisteredMetric(
            name=name,
            title=title or name,
            counter=counter,
            score=score,
            rows=class_names if per_class else None,
            meaning=meaning,
            show=show,
            higher_is_better=higher_is_better,
        )
        METRICS[task].add(name, entry, replace=replace)
        return own

    return register


def metrics_of(task: str, labels: LabelSpace, *, asked: Collection[str] = ()) -> tuple[RegisteredMetric, ...]:
    """The metrics that an evaluation measures, in order; `asked` are the words for optional ones."""
    suiting = [metric for metric in METRICS[task].values() if metric.applies(labels)]
    return tuple(metric for metric in suiting if metric.optional is None or metric.optional in asked)


def unknown_metrics(task: str, content: Iterable[str]) -> list[str]:
    """The keys of a metrics.json that came from metrics which are not registered here."""
    known = {name.partition("/")[0] for name in METRICS[task]} | TAKEN
    return [key for key in content if key not in known]


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
    metric = METRICS[config.task][TASK_METRICS[config.task].main(labels)]
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


def _counter_and_score(
    name: str, task: TaskName, own: "type[Metric] | Callable[[Any], Any]"
) -> tuple[Counter, Callable[[Any, LabelSpace], Any]]:
    """What counts for a user's metric, and what is made of the counts."""
    if isinstance(own, type):
        return partial(_own_counter, name, own), lambda counted, _: counted
    common = TASK_METRICS[task]
    return common.counter_type, lambda counted, _: own(common.table(counted))


def _own_counter(name: str, kind: Callable[..., Metric], labels: LabelSpace) -> Metric:
    """A user's class of torchmetrics, made for some classes."""
    try:
        counter = kind(num_classes=labels.num_classes, ignore_index=labels.ignore_index)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"metric {name}: its class has to take num_classes and ignore_index ({first_line(error)})"
        ) from None
    if counter.full_state_update is not False:
        raise ConfigError(
            f"metric {name}: what it counts of several images has to be joined, which torchmetrics does for classes "
            "with full_state_update = False. Set that, if no state depends on the one before."
        )
    return counter


def _number(value: Any) -> float | None:
    """A number of a user's function: None and what is not finite are nothing to judge."""
    number = None if value is None else float(value)
    return number if number is None or math.isfinite(number) else None
