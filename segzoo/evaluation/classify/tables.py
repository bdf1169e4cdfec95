"""An evaluation of a classifier as tables for the terminal."""

from rich.table import Table

from segzoo.evaluation.classify.results import ClassEvaluation
from segzoo.evaluation.tables import row_tables, text_table
from segzoo.tasks.table import percent

_MOST_CLASSES = 50
"""Classes with a row of their own; metrics.json has all."""


def tables(evaluation: ClassEvaluation, *, worst: int) -> list[Table]:
    """Everything to print: classes, the whole split, the worst images."""
    classes = row_tables(evaluation.measured) if len(evaluation.labels.names) <= _MOST_CLASSES else []
    numbers = [(metric.title, metric.text(value)) for metric, value in evaluation.measured.numbers()]
    return [*classes, text_table(("score", "value"), numbers), worst_table(evaluation, worst)]


def worst_table(evaluation: ClassEvaluation, count: int) -> Table:
    """The images whose class seems least probable."""
    table = Table("worst images", "truth", "its probability", "predicted", "its probability")
    for column in (table.columns[2], table.columns[4]):
        column.justify = "right"
    for image in evaluation.worst(count):
        truth, predicted = ", ".join(image.truth), image.predicted
        table.add_row(image.id, truth, percent(image.truth_probability), predicted, percent(image.probability))
    return table
