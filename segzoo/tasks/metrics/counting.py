"""Metrics measured together: over a validation, or image by image and joined, as an evaluation does."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import DataError, SegzooError, first_line
from segzoo.tasks.metrics.measured import Measured
from segzoo.tasks.metrics.registry import Counter, RegisteredMetric

State = Mapping[str, Any]
"""What a counter has counted: tensors, or lists of them."""


class MetricSet(nn.Module):
    """Metrics measured together, each kind of counts once; exact for any order, batch size and number of processes.

    Args:
        metrics: which.
        labels: the classes.
        made: counters that stand ready. They come first, and count whether or not a metric asks them.
    """

    def __init__(
        self, metrics: Sequence[RegisteredMetric], labels: LabelSpace, made: Mapping[Counter, Metric] | None = None
    ) -> None:
        super().__init__()
        self.metrics = metrics
        self.labels = labels
        made = made or {}
        kinds = dict.fromkeys((*made, *(metric.counter for metric in metrics)))
        self.places = {counter: place for place, counter in enumerate(kinds)}
        self.counters = nn.ModuleList(made.get(counter) or counter(labels) for counter in kinds)

    def __iter__(self) -> Iterator[Metric]:
        """What counts."""
        yield from self.counters  # type: ignore[misc]  # all of them are metrics

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count one batch.

        Raises:
            DataError: a metric of the user's failed.
        """
        for counter in self:
            try:
                counter.update(prediction, target)
            except SegzooError:
                raise
            except Exception as error:  # a user's class may raise any
                names = ", ".join(metric.name for metric in self.metrics if self.of(metric) is counter)
                raise DataError(f"metric {names}: {type(error).__name__}: {first_line(error)}") from error

    def of(self, metric: RegisteredMetric) -> Metric:
        """What counts for a metric."""
        return list(self)[self.places[metric.counter]]

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
        return self.compute_here()

    def compute_here(self) -> Measured:
        """The numbers of what this process has counted, where the others have counted the same."""
        # The class's own method: the instance's asks the other processes.
        return self._measured([type(counter).compute(counter) for counter in self])

    def _measured(self, counted: Sequence[Any]) -> Measured:
        values = {
            metric.name: metric.value(counted[self.places[metric.counter]], self.labels) for metric in self.metrics
        }
        return Measured(self.metrics, values, self.labels)


def _on_cpu(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return [part.cpu() for part in value] if isinstance(value, list) else value.cpu()
