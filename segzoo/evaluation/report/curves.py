"""A run's metrics.csv as series, and the series as lines of a drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.checkpoint.metrics import Row, points, read_rows

WIDTH, HEIGHT = 360, 200
"""Of a panel's drawing, in its own units."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_TICKS = 4
_MOST_POINTS = 600  # more than a panel has pixels; keeps a long run's page small


@dataclass(frozen=True)
class Series:
    """One column of metrics.csv.

    Args:
        title: what it is.
        steps: where it was written.
        values: what was written; finite.
        share: of one, to be shown in percent.
    """

    title: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    share: bool = False


@dataclass(frozen=True)
class Tick:
    """A line of the grid: where it lies in the drawing, and its label."""

    position: float
    label: str


@dataclass(frozen=True)
class Panel:
    """A series laid out.

    Args:
        series: what is drawn.
        points: (x, y) in the drawing's units, y downwards, one for each entry of the series.
        x_ticks: vertical lines.
        y_ticks: horizontal lines.
    """

    series: Series
    points: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    @property
    def path(self) -> str:
        """The `d` of an SVG path."""
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in self.points)


def read_series(metrics: Path) -> list[Series]:
    """Training loss, the validation's scores and learning rate; without those that have no value.

    Args:
        metrics: a run's metrics.csv; none need be there.
    """
    rows = read_rows(metrics)
    columns = (
        ("training loss", "loss", "train", False),
        ("validation mIoU", "miou", "val", True),
        ("validation top-1", "top1", "val", True),
        ("validation mAP", "map", "val", True),
        ("learning rate", "learning_rate", "train", False),
    )
    found = [_series(rows, title, column, split, share) for title, column, split, share in columns]
    return [series for series in found if series.steps]


def lay_out(series: Series) -> Panel:
    """Where the parts of a panel lie.

    Args:
        series: at least one point.
    """
    thinned = _thinned(series)
    x_values, y_values = _ticks(thinned.steps, integer=True), _ticks(thinned.values, integer=False)
    x_span, y_span = _span(thinned.steps, x_values), _span(thinned.values, y_values)

    def x(value: float) -> float:
        return round(_LEFT + (value - x_span[0]) / (x_span[1] - x_span[0]) * (WIDTH - _LEFT - _RIGHT), 2)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - y_span[0]) / (y_span[1] - y_span[0]) * (HEIGHT - _TOP - _BOTTOM), 2)

    return Panel(
        series=thinned,
        points=tuple((x(step), y(value)) for step, value in zip(thinned.steps, thinned.values, strict=True)),
        x_ticks=tuple(Tick(x(value), f"{value:,.0f}") for value in x_values),
        y_ticks=tuple(Tick(y(value), f"{100 * value:g} %" if series.share else f"{value:g}") for value in y_values),
    )


def _series(rows: Sequence[Row], title: str, column: str, split: str, share: bool) -> Series:
    finite = [(step, value) for step, value in points(rows, column, split) if math.isfinite(value)]
    return Series(title, tuple(step for step, _ in finite), tuple(value for _, value in finite), share)


def _thinned(series: Series) -> Series:
    """Every n-th point and the last one."""
    every = math.ceil(len(series.steps) / _MOST_POINTS)
    kept = sorted({*range(0, len(series.steps), every), len(series.steps) - 1})
    steps, values = tuple(series.steps[i] for i in kept), tuple(series.values[i] for i in kept)
    return Series(series.title, steps, values, series.share)


def _ticks(values: Sequence[float], *, integer: bool) -> list[float]:
    from matplotlib.ticker import MaxNLocator  # takes a while to import

    low, high = min(values), max(values)
    margin = 0.0 if low < high else abs(low) * 0.1 or 1.0
    found = MaxNLocator(_TICKS, integer=integer).tick_values(low - margin, high + margin)
    return [round(float(value), 12) for value in found if not integer or value >= 0]


def _span(values: Sequence[float], ticks: Sequence[float]) -> tuple[float, float]:
    return min(*values, *ticks), max(*values, *ticks)
