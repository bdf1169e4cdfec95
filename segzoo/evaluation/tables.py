"""An evaluation as tables for the terminal."""

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from segzoo.evaluation.results import ClassEvaluation, Evaluation
from segzoo.tasks.metrics import Measured, percent

_MOST_CLASSES = 50
"""Classes of a classifier with a row of their own; metrics.json has all."""


def tables(evaluation: Evaluation, *, worst: int) -> list[Table]:
    """Everything to print: classes, categories where there are some, the whole split, the worst images."""
    rows = [(image.id, percent(image.miou), percent(image.pixel_accuracy)) for image in evaluation.worst(worst)]
    summary = text_table(("score", "value"), _summary(evaluation))
    return [*row_tables(evaluation.measured), summary, text_table(("worst images", "mIoU", "pixel accuracy"), rows)]


def class_tables(evaluation: ClassEvaluation, *, worst: int) -> list[Table]:
    """Everything to print of a classifier: classes, the whole split, the images whose class seems least probable."""
    classes = row_tables(evaluation.measured) if len(evaluation.labels.names) <= _MOST_CLASSES else []
    numbers = [(metric.title, metric.text(value)) for metric, value in evaluation.measured.numbers()]
    head = ("worst images", "truth", "its probability", "predicted", "its probability")
    rows = [
        (
            image.id,
            ", ".join(image.truth),
            percent(image.truth_probability),
            image.predicted,
            percent(image.probability),
        )
        for image in evaluation.worst(worst)
    ]
    return [*classes, text_table(("score", "value"), numbers), text_table(head, rows, words=("truth", "predicted"))]


def row_tables(measured: Measured) -> list[Table]:
    """The metrics that have a number for each class, and those of other rows."""
    found = []
    for title, metrics in measured.columns().items():
        columns = [map(metric.text, measured.each(metric.name)) for metric in metrics]
        rows = zip(measured.by_row(metrics[0]), *columns, strict=True)
        found.append(text_table((title, *(metric.title for metric in metrics)), rows))
    return found


def _summary(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    interval = evaluation.interval
    for metric, value in evaluation.measured.numbers():
        yield metric.title, metric.text(value)
        if metric.name == "miou" and interval:
            yield f"{interval.confidence:.0%} interval of it", f"{percent(interval.low)} to {percent(interval.high)}"


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ()) -> Table:
    """A table whose first column, and those of words, stand left, and the others right."""
    table = Table(*head)
    for column in table.columns[1:]:
        column.justify = "left" if column.header in words else "right"
    for row in rows:
        table.add_row(*row)
    return table
