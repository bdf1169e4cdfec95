"""An evaluation of a classifier as tables for the terminal."""

from rich.table import Table

from segzoo.evaluation.classify.results import ClassEvaluation
from segzoo.evaluation.tables import scores_table
from segzoo.tasks.table import percent

_MOST_CLASSES = 50
"""Classes with a row of their own; metrics.json has all."""


def tables(evaluation: ClassEvaluation, *, worst: int) -> list[Table]:
    """Everything to print: classes, the whole split, the worst images."""
    classes = [class_table(evaluation)] if len(evaluation.labels.names) <= _MOST_CLASSES else []
    return [*classes, summary_table(evaluation), worst_table(evaluation, worst)]


def class_table(evaluation: ClassEvaluation) -> Table:
    """Scores of each class; n/a where there is nothing to judge."""
    columns = {
        "recall": evaluation.classes.recall,
        "precision": evaluation.classes.precision,
        "F1": evaluation.classes.dice,
        "AP": evaluation.scores["ap"],
    }
    return scores_table("class", evaluation.labels.names, columns)


def summary_table(evaluation: ClassEvaluation) -> Table:
    """Scores of the whole split."""
    table = Table("score", "value")
    table.columns[1].justify = "right"
    for name, value in summary(evaluation).items():
        table.add_row(name, percent(value))
    return table


def summary(evaluation: ClassEvaluation) -> dict[str, float | None]:
    """The scores of the whole split, by what people call them."""
    scores = evaluation.scores
    return {
        "top-1": scores["top1"],
        "top-5": scores["top5"],
        "mAP": scores["map"],
        "MAP@100": scores["map_at_100"],
        "mean accuracy": evaluation.classes.mean_accuracy,
    }


def worst_table(evaluation: ClassEvaluation, count: int) -> Table:
    """The images whose class seems least probable."""
    table = Table("worst images", "truth", "its probability", "predicted", "its probability")
    for column in (table.columns[2], table.columns[4]):
        column.justify = "right"
    for image in evaluation.worst(count):
        truth, predicted = ", ".join(image.truth), image.predicted
        table.add_row(image.id, truth, percent(image.truth_probability), predicted, percent(image.probability))
    return table
