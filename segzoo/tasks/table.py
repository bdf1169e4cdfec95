"""Scores as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from segzoo.tasks.confusion import Scores


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
