"""An evaluation as tables for the terminal."""

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from segzoo.evaluation.results import Evaluation
from segzoo.tasks.metrics import Measured
from segzoo.tasks.table import percent


def tables(evaluation: Evaluation, *, worst: int) -> list[Table]:
    """Everything to print: classes, categories where there are some, the whole split, the worst images."""
    summary = text_table(("score", "value"), _summary(evaluation))
    return [*row_tables(evaluation.measured), summary, worst_table(evaluation, worst)]


def row_tables(measured: Measured) -> list[Table]:
    """The metrics that have a number for each class, and those of other rows."""
    found = []
    for title, metrics in measured.columns().items():
        columns = [map(metric.text, measured.each(metric.name)) for metric in metrics]
        rows = zip(measured.by_row(metrics[0]), *columns, strict=True)
        found.append(text_table((title, *(metric.title for metric in metrics)), rows))
    return found


def worst_table(evaluation: Evaluation, count: int) -> Table:
    """The images with the lowest mIoU."""
    rows = [(image.id, percent(image.miou), percent(image.pixel_accuracy)) for image in evaluation.worst(count)]
    return text_table(("worst images", "mIoU", "pixel accuracy"), rows)


def _summary(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    interval = evaluation.interval
    for metric, value in evaluation.measured.numbers():
        yield metric.title, metric.text(value)
        if metric.name == "miou" and interval:
            yield f"{interval.confidence:.0%} interval of it", f"{percent(interval.low)} to {percent(interval.high)}"


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column stands left, and the others right."""
    table = Table(*head)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    return table
