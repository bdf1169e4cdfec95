"""Scores as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from segzoo.tasks.classification_metrics import ClassificationScores
from segzoo.tasks.confusion import Scores
from segzoo.tasks.metrics import METRICS, AnyScores

_MANY = 50  # classes, of which a table would fill screens


def score_table(scores: AnyScores, names: Sequence[str]) -> Table:
    """The scores of either task.

    Args:
        scores: a validation's.
        names: the classes.
    """
    return per_class_table(scores, names) if isinstance(scores, Scores) else class_table(scores, names)


def class_table(scores: ClassificationScores, names: Sequence[str]) -> Table:
    """Average precision of each class, unless they are many, then the numbers of a classifier; n/a for what is not."""
    table = Table("class", "AP", show_footer=False)
    table.columns[1].justify = "right"
    if len(names) <= _MANY:
        for name, value in zip(names, scores["ap"], strict=True):
            table.add_row(name, percent(value))
        table.add_section()
    for metric in METRICS["classification"].values():
        if metric.validated:
            table.add_row(metric.title, metric.text(scores[metric.name]))  # type: ignore[literal-required]
    return table


def per_class_table(scores: Scores, names: Sequence[str]) -> Table:
    """IoU of each class, then mIoU and pixel accuracy; n/a for classes in neither truth nor prediction."""
    table = Table("class", "IoU", show_footer=False)
    table.columns[1].justify = "right"
    for name, value in zip(names, scores.iou, strict=True):
        table.add_row(name, percent(value))
    table.add_section()
    table.add_row("mIoU", percent(scores.miou))
    table.add_row("pixel accuracy", percent(scores.pixel_accuracy))
    return table


def percent(value: float | None) -> str:
    """A share as text; None, which is of nothing, as n/a."""
    return "n/a" if value is None else f"{100 * value:.1f} %"
