"""What metrics say of a split, as tables, metrics.json, reports and logs take it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.metrics.registry import RegisteredMetric, Shares, Values


@dataclass(frozen=True)
class Measured:
    """The values of some metrics.

    Args:
        metrics: which, in the order in which they are shown.
        values: of each by its name.
        labels: the classes.
    """

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
            place = content.setdefault(group, {}) if group else content
            place[name] = self.one(metric.name) if metric.rows is None else self.by_row(metric)
        return content
