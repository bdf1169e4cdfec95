"""An evaluation of a classifier as files: metrics.json for programs, per_image.csv for people and spreadsheets."""

import json
from dataclasses import asdict

import torch

from segzoo.escapes import csv_line
from segzoo.evaluation.classify.results import ClassEvaluation
from segzoo.evaluation.files import METRICS, PER_IMAGE
from segzoo.files import write_atomically


def write_metrics(evaluation: ClassEvaluation) -> None:
    """Write metrics.json; scores are shares of 1, and null where there is nothing to judge."""
    content = {
        **evaluation.measured.tree(),
        "confusion_matrix": evaluation.matrix.tolist(),
        "images": evaluation.images,
        **{key: value for key, value in asdict(evaluation.protocol).items() if key != "engine" or value is not None},
        "torch": str(torch.__version__),
    }
    _write(evaluation, METRICS, json.dumps(content, indent=2) + "\n")


def write_per_image(evaluation: ClassEvaluation) -> None:
    """Write per_image.csv: one row for each image in the split's order; several true classes stand with semicolons."""
    lines = [csv_line(["index", "id", "truth", "predicted", "probability", "truth_probability", "rank"])]
    for image in evaluation.per_image:
        truth = ";".join(image.truth)
        chances = (image.probability, image.truth_probability)
        lines.append(csv_line([image.index, image.id, truth, image.predicted, *chances, image.rank]))
    _write(evaluation, PER_IMAGE, "".join(lines))


def _write(evaluation: ClassEvaluation, name: str, text: str) -> None:
    # Names of files may be no text in any encoding.
    write_atomically(evaluation.output / name, text.encode("utf-8", errors="backslashreplace"))
