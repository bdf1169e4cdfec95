"""metrics.csv as a picture: loss, main metric and learning rate over the steps."""

from pathlib import Path

from segzoo.checkpoint.metrics import points, read_rows
from segzoo.files import atomic_write
from segzoo.tasks.metrics import MainMetric


def draw_curves(metrics: Path, main: MainMetric, target: Path) -> None:
    """Draw a run's metrics.csv, if anything stands in it yet.

    Args:
        metrics: the file.
        main: the number to show of each validation.
        target: PNG to write.
    """
    rows = read_rows(metrics)
    if not rows:
        return
    from matplotlib.figure import Figure  # takes a second to import, and only the end of a run needs it

    figure = Figure(figsize=(12, 3.5), layout="constrained")
    panels = (("loss", "train", "loss"), (main.name, "val", main.title), ("learning_rate", "train", "learning rate"))
    for axes, (column, split, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        found = points(rows, column, split)
        axes.plot(*zip(*found, strict=True), marker="." if len(found) < 50 else "")
        axes.set(title=f"{split} {title}", xlabel="step")
        axes.grid(alpha=0.3)
    with atomic_write(target) as part:
        figure.savefig(part, format="png", dpi=120)
