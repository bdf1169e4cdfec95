"""Metrics measured together, and what they say, as tables, metrics.json, reports and logs take it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from torch import Tensor, nn
from torchmetrics import Metric

from segzoo.config.classification import AnyRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import DataError, SegzooError, first_line
from segzoo.tasks.metrics.registry import METRICS, TASK_METRICS, Counter, RegisteredMetric, Shares, Values

State = Mapping[str, Any]
"""What a counter has counted: tensors, or lists of them."""


@dataclass(frozen=True)
class Measured:
    """The values of some metrics by their names, in the order in which they are shown."""

    metrics: Sequence[RegisteredMetric]
    values: Values
    labels: LabelSpace

    def one(self, name: str) -> float | None:
        """The value of a metric that is one number; None where there is nothing to judge."""
        value = self.values[name]
        if isinstance(value, tuple):
            raise TypeError(f"{name} has a number for each row")
        return value

    def each(self, name: str) -> Shares:
        """The values of a metric that has a number for each class, or for each of other rows."""
        value = self.values[name]
        if not isinstance(value, tuple):
            raise TypeError(f"{name} is one number")
        return value

    def numbers(self) -> list[tuple[RegisteredMetric, float | None]]:
        """The metrics that are one number, with it."""
        return [(metric, self.one(metric.name)) for metric in self.metrics if metric.rows is None]

    def columns(self) -> dict[str, list[RegisteredMetric]]:
        """The metrics with a number for each row: what a row is ("class") to the columns of a table."""
        found: dict[str, list[RegisteredMetric]] = {}
        for metric in sorted(self.metrics, key=lambda metric: metric.column):
            if metric.rows is not None:
                found.setdefault(metric.row_title, []).append(metric)
        return found

    def by_row(self, metric: RegisteredMetric) -> dict[str, float | None]:
        """The numbers of a metric by the names of its rows."""
        return {} if metric.rows is None else dict(zip(metric.rows(self.labels), self.each(metric.name), strict=True))

    def by_name(self) -> dict[str, float | None]:
        """All numbers, as a log has them: `miou`, and `iou/road` for each class."""
        found: dict[str, float | None] = {}
        for metric in self.metrics:
            values = (self.one(metric.name),) if metric.rows is None else self.each(metric.name)
            found |= zip(metric.names(self.labels), values, strict=True)
        return found

    def tree(self) -> dict[str, Any]:
        """As metrics.json has them: single numbers, then those of rows, then groups."""
        content: dict[str, Any] = {}
        grouped = [metric for metric in self.metrics if "/" in metric.name]
        plain = [metric for metric in self.metrics if "/" not in metric.name]
        for metric in (*sorted(plain, key=lambda metric: metric.rows is not None), *grouped):
            group, _, name = metric.name.rpartition("/")
            into = content.setdefault(group, {}) if group else content
            into[name] = self.one(metric.name) if metric.rows is None else self.by_row(metric)
        return content


class MetricSet(nn.Module):
    """Metrics measured together, each kind of counts once; exact for any order, batch size and number of processes.

    `main` is a counter that stands ready; it comes first, and counts whether or not a metric asks it.
    """

    def __init__(self, metrics: Sequence[RegisteredMetric], labels: LabelSpace, main: Metric | None = None) -> None:
        super().__init__()
        self.metrics = metrics
        self.labels = labels
        first: list[Counter] = [] if main is None else [type(main)]
        kinds = dict.fromkeys((*first, *(metric.counter for metric in metrics)))
        self._slots = {kind: slot for slot, kind in enumerate(kinds)}
        self.counters = nn.ModuleList(
            main if main is not None and kind is type(main) else kind(labels) for kind in kinds
        )

    @classmethod
    def of_task(cls, metrics: Sequence[RegisteredMetric], labels: LabelSpace, config: AnyRunConfig) -> "MetricSet":
        """As validations and evaluations measure a network: behind the counter that its task always has.

        Raises:
            ConfigError: settings of that counter that do not fit the classes.
        """
        return cls(metrics, labels, TASK_METRICS[config.task].counter(config, labels))

    def __iter__(self) -> Iterator[Metric]:
        """What counts."""
        yield from self.counters  # type: ignore[misc]  # all of them are metrics

    @property
    def main(self) -> Metric:
        """The first of what counts."""
        return next(iter(self))

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count one batch.

        Raises:
            DataError: a metric of the user's failed.
        """
        for slot, counter in enumerate(self):
            try:
                counter.update(prediction, target)
            except SegzooError:
                raise
            except Exception as error:  # a user's class may raise any
                names = ", ".join(metric.name for metric in self.metrics if self._slots[metric.counter] == slot)
                raise DataError(f"metric {names}: {type(error).__name__}: {first_line(error)}") from error

    def compute(self) -> Measured:
        """The numbers of all that was counted since `reset`, in all processes."""
        return self._measured([counter.compute() for counter in self])

    def reset(self) -> None:
        """Forget what was counted."""
        for counter in self:
            counter.reset()

    def states(self) -> list[State]:
        """What every counter has counted since `reset`, on the CPU."""
        return [{name: _on_cpu(value) for name, value in counter.metric_state.items()} for counter in self]

    def compute_joined(self, states: Iterable[Sequence[State]]) -> Measured:
        """The numbers of what was counted apart, whichever process did.

        Args:
            states: of each counter what is to be joined, in order.
        """
        self.reset()
        for counter, parts in zip(self, states, strict=True):
            for part in reversed(parts):  # torchmetrics puts lists of a state that it joins in front
                counter.merge_state(dict(part))
        # The class's own method: the instance's asks the other processes, which have joined the same.
        return self._measured([type(counter).compute(counter) for counter in self])

    def _measured(self, counted: Sequence[Any]) -> Measured:
        values = {
            metric.name: metric.value(counted[self._slots[metric.counter]], self.labels) for metric in self.metrics
        }
        return Measured(self.metrics, values, self.labels)


def _on_cpu(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return [part.cpu() for part in value] if isinstance(value, list) else value.cpu()


def no_scores(config: AnyRunConfig, labels: LabelSpace) -> Any:
    """A task's `scores` without a validation."""
    common = TASK_METRICS[config.task]
    counter = common.counter(config, labels)
    return common.scores(type(counter).compute(counter))


def score_table(task: str, scores: Any, names: Sequence[str]) -> Table:
    """A task's `scores` for the terminal: a row for each class, unless they are many, then the single numbers."""
    common, metrics = TASK_METRICS[task], METRICS[task]
    values = common.values(scores)
    rows = list(zip(names, values[common.by_class], strict=True))
    if common.most_rows is not None and len(rows) > common.most_rows:
        rows = []
    table = Table("class", metrics[common.by_class].title, show_footer=False)
    table.columns[1].justify = "right"
    for name, value in rows:
        table.add_row(name, metrics[common.by_class].text(value))
    if rows:
        table.add_section()
    for metric in metrics.values():
        if metric.validated and metric.rows is None:
            table.add_row(metric.title, metric.text(values[metric.name]))
    return table
