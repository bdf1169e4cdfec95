"""The report's plots as PNG: for slides and papers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segzoo.data.pictures import draw_curves, save_figure
from segzoo.evaluation.report.curves import Series
from segzoo.evaluation.results import ClassEvaluation, Evaluation, Measurement
from segzoo.tasks.metrics import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMES = 60  # on the axes of a confusion matrix; more would print over one another
_MOST_NUMBERS = 25  # classes of a confusion matrix with numbers in its cells
_STRETCH = 0.5  # exponent of the colours, so that errors of a few percent are seen


def write_plots(evaluation: Evaluation, curves: Sequence[Series], folder: Path) -> list[Path]:
    """Write per_class_iou.png, confusion.png where a pixel has one class, and, of a run that is known, curves.png.

    Args:
        evaluation: what was measured.
        curves: of the run, possibly none.
        folder: where to; made.
    """
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
    for place, value in enumerate(iou):
        label = axes.text((value or 0.0) + 0.01, place, percent(value), va="center", fontsize=8)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # over the line of mIoU
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlim=(0, 1.12), ylim=(len(names) - 0.5, -0.5), xlabel="IoU")
    if evaluation.scores.miou is not None:
        axes.axvline(evaluation.scores.miou, color="black", linewidth=1, linestyle="--", zorder=0.5)
    axes.set_title(f"mIoU {percent(evaluation.scores.miou)}")
    return figure
