"""An evaluation as tables for the terminal."""

from collections.abc import Iterator

from rich.table import Table

from segzoo.evaluation.results import Evaluation
from segzoo.tasks.table import percent


def tables(evaluation: Evaluation, *, worst: int) -> list[Table]:
    """Everything to print: classes, categories where there are some, the whole split, the worst images."""
    categories = category_table(evaluation)
    others = [] if categories is None else [categories]
    return [class_table(evaluation), *others, summary_table(evaluation), worst_table(evaluation, worst)]


def class_table(evaluation: Evaluation) -> Table:
    """Scores of each class; n/a where neither truth nor prediction has anything to judge."""
    columns = {
        "IoU": evaluation.scores.iou,
        "recall": evaluation.classes.recall,
        "precision": evaluation.classes.precision,
        "Dice": evaluation.classes.dice,
    }
    if evaluation.boundary:
        columns |= {"boundary IoU": evaluation.boundary.iou, "boundary F": evaluation.boundary.f_score}
    return scores_table("class", evaluation.labels.names, columns)


def summary_table(evaluation: Evaluation) -> Table:
    """Scores of the whole split."""
    table = Table("score", "value")
    table.columns[1].justify = "right"
    for name, value in _summary(evaluation):
        table.add_row(name, value)
    return table


def category_table(evaluation: Evaluation) -> Table | None:
    """IoU of Cityscapes' categories; None for other data sets."""
    if evaluation.categories is None:
        return None
    return scores_table("category", evaluation.categories.names, {"IoU": evaluation.categories.iou})


def worst_table(evaluation: Evaluation, count: int) -> Table:
    """The images with the lowest mIoU."""
    worst = evaluation.worst(count)
    columns = {
        "mIoU": tuple(image.miou for image in worst),
        "pixel accuracy": tuple(image.pixel_accuracy for image in worst),
    }
    return scores_table("worst images", tuple(image.id for image in worst), columns)


def _summary(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    yield "mIoU", percent(evaluation.scores.miou)
    if evaluation.interval:
        interval = evaluation.interval
        yield f"{interval.confidence:.0%} interval of it", f"{percent(interval.low)} to {percent(interval.high)}"
    yield "pixel accuracy", percent(evaluation.scores.pixel_accuracy)
    yield "mean accuracy", percent(evaluation.classes.mean_accuracy)
    yield "mean Dice", percent(evaluation.classes.mean_dice)
    yield "frequency-weighted IoU", percent(evaluation.classes.frequency_weighted_iou)
    if evaluation.boundary:
        yield "mean boundary IoU", percent(evaluation.boundary.mean_iou)
        yield "mean boundary F", percent(evaluation.boundary.mean_f_score)
    if evaluation.categories:
        yield "mIoU of categories", percent(evaluation.categories.miou)


def scores_table(head: str, names: tuple[str, ...], columns: dict[str, tuple[float | None, ...]]) -> Table:
    """Shares as text: a row for each name.

    Args:
        head: what the names are of.
        names: of the rows.
        columns: title to one share for each row.
    """
    table = Table(head, *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, *values in zip(names, *columns.values(), strict=True):
        table.add_row(name, *map(percent, values))
    return table
