"""metrics.csv as a picture: loss, main metric and learning rate over the steps."""

from collections.abc import Sequence
from pathlib import Path

from segzoo.data.whole_file import written_whole
from segzoo.tasks.metrics import MainMetric
from segzoo.training.metrics_file import Row, read_rows


def draw_curves(metrics: Path, main: MainMetric, target: Path) -> None:
    """Draw a run's metrics.csv.

    Args:
        metrics: the file.
        main: the number to show of each validation.
        target: PNG to write.
    """
    from matplotlib.figure import Figure  # takes a second to import, and only the end of a run needs it

    rows = read_rows(metrics)
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    panels = (("loss", "train", "loss"), (main.name, "val", main.title), ("learning_rate", "train", "learning rate"))
    for axes, (column, split, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        steps, values = _series(rows, column, split)
        axes.plot(steps, values, marker="." if len(steps) < 50 else "")
        axes.set(title=f"{split} {title}", xlabel="step")
        axes.grid(alpha=0.3)
    with written_whole(target) as part:
        figure.savefig(part, format="png", dpi=120)


def _series(rows: Sequence[Row], column: str, split: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split and row.get(column)]
    return [step for step, _ in points], [value for _, value in points]
