"""metrics.csv as a picture: loss, mIoU and learning rate over the steps."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.training.metrics_file import Row, read_rows

_PANELS = (("loss", "train"), ("miou", "val"), ("learning_rate", "train"))


def draw_curves(metrics: Path, target: Path) -> None:
    """Draw a run's metrics.csv.

    Args:
        metrics: the file.
        target: PNG to write.
    """
    from matplotlib.figure import Figure  # takes a second to import, and only the end of a run needs it

    rows = read_rows(metrics)
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    for axes, (column, split) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        steps, values = _series(rows, column, split)
        axes.plot(steps, values, marker="." if len(steps) < 50 else "")
        axes.set(title=f"{split} {column.replace('_', ' ').replace('miou', 'mIoU')}", xlabel="step")
        axes.grid(alpha=0.3)
    part = target.with_name(f"{target.name}.part")
    try:
        figure.savefig(part, format="png", dpi=120)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _series(rows: Sequence[Row], column: str, split: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split and row.get(column)]
    return [step for step, _ in points], [value for _, value in points]
