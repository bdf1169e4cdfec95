"""The report's drawings: plots as PNG, for slides and papers, and the curves of a run as lines for the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segzoo.checkpoint.metrics import Row, points, read_rows
from segzoo.data.pictures import draw_curves, save_figure
from segzoo.evaluation.results import ClassEvaluation, Evaluation, Measurement
from segzoo.tasks.metrics import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 360, 200
"""Of a panel's drawing, in its own units."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_TICKS = 4
_MOST_POINTS = 600  # more than a panel has pixels; keeps a long run's page small
_MOST_NAMES = 60  # on the axes of a confusion matrix; more would print over one another
_MOST_NUMBERS = 25  # classes of a confusion matrix with numbers in its cells
_STRETCH = 0.5  # exponent of the colours, so that errors of a few percent are seen


@dataclass(frozen=True)
class Series:
    """One column of metrics.csv, its values finite; a share of one is shown in percent."""

    title: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    share: bool = False


@dataclass(frozen=True)
class Tick:
    """A line of the grid, and its label."""

    position: float
    label: str


@dataclass(frozen=True)
class Panel:
    """A series laid out.

    Args:
        points: (x, y) in the drawing's units, y downwards, one for each entry of the series.
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
    """Training loss, the validation's scores and learning rate of a metrics.csv; without those that have no value."""
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
    """Where the parts of a panel lie, of a series with at least one point."""
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


def write_plots(evaluation: Evaluation, curves: Sequence[Series], folder: Path) -> list[Path]:
    """Write per_class_iou.png, confusion.png where a pixel has one class, and, of a run that is known, curves.png."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"per_class_iou.png": _per_class(evaluation)}
    if evaluation.labels.coding.exclusive:
        figures["confusion.png"] = _confusion(evaluation, "pixels")
    if curves:
        figures["curves.png"] = draw_curves([(series.title, series.steps, series.values) for series in curves])
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    return [folder / name for name in figures]


def write_class_plots(evaluation: ClassEvaluation, folder: Path) -> None:
    """Write confusion.png where an image has one class."""
    if evaluation.labels.coding.exclusive:
        folder.mkdir(parents=True, exist_ok=True)
        save_figure(_confusion(evaluation, "images"), folder / "confusion.png")


def _confusion(evaluation: Measurement, unit: str) -> "Figure":
    """A confusion matrix as shares of its rows."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    names, counts = evaluation.labels.names, evaluation.matrix.double().numpy()
    truth = counts.sum(1, keepdims=True)
    shares = np.divide(counts, truth, out=np.full_like(counts, np.nan), where=truth > 0)
    side = min(14.0, 4.0 + 0.35 * len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(_STRETCH, vmin=0, vmax=1))
    axes.set(xlabel="predicted", ylabel="true", title=f"share of each true class's {unit}")
    figure.colorbar(image, ax=axes, shrink=0.7, format=lambda share, _: f"{100 * share:g} %")
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(names) <= _MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:  # below, the cell would read 0
                color = "white" if share > 0.4 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=color)
    return figure


def _per_class(evaluation: Evaluation) -> "Figure":
    from matplotlib.figure import Figure

    names, iou = evaluation.labels.names, evaluation.scores.iou
    figure = Figure(figsize=(8, 1.2 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    colors = [tuple(channel / 255 for channel in color) for color in evaluation.labels.palette]
    axes.barh(range(len(names)), [value or 0.0 for value in iou], color=colors, edgecolor="gray", linewidth=0.5)
    for row, value in enumerate(iou):
        label = axes.text((value or 0.0) + 0.01, row, percent(value), va="center", fontsize=8)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # over the line of mIoU
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlim=(0, 1.12), ylim=(len(names) - 0.5, -0.5), xlabel="IoU")
    if evaluation.scores.miou is not None:
        axes.axvline(evaluation.scores.miou, color="black", linewidth=1, linestyle="--", zorder=0.5)
    axes.set_title(f"mIoU {percent(evaluation.scores.miou)}")
    return figure
