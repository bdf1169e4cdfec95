"""An evaluation as files: metrics.json for programs, per_image.csv for people and spreadsheets."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any

import torch

from segzoo.data.whole_file import write_whole
from segzoo.evaluation.results import Evaluation, Shares

METRICS = "metrics.json"
PER_IMAGE = "per_image.csv"
COUNTS = "counts.npz"
REPORT = "report.html"


def write_metrics(evaluation: Evaluation) -> None:
    """Write metrics.json; scores are shares of 1, and null where there is nothing to judge."""
    _write(evaluation, METRICS, json.dumps(_metrics(evaluation), indent=2) + "\n")


def write_per_image(evaluation: Evaluation) -> None:
    """Write per_image.csv: one row for each image in the split's order; empty cells where there is nothing to judge."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    classes = [f"iou/{name}" for name in evaluation.labels.names]
    rows.writerow(["index", "id", "pixels", "miou", "pixel_accuracy", *classes])
    for image in evaluation.per_image:
        rows.writerow([image.index, image.id, image.pixels, image.miou, image.pixel_accuracy, *image.iou])
    _write(evaluation, PER_IMAGE, text.getvalue())


def _write(evaluation: Evaluation, name: str, text: str) -> None:
    write_whole(evaluation.output / name, text.encode())


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    scores, classes, protocol = evaluation.scores, evaluation.classes, asdict(evaluation.protocol)
    protocol["engine_precision"] = protocol.pop("precision")  # the classes' precision has the name
    content: dict[str, Any] = {
        "miou": scores.miou,
        "miou_interval": asdict(evaluation.interval) if evaluation.interval else None,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": classes.mean_accuracy,
        "mean_dice": classes.mean_dice,
        "frequency_weighted_iou": classes.frequency_weighted_iou,
        "iou": _by_class(evaluation, scores.iou),
        "recall": _by_class(evaluation, classes.recall),
        "precision": _by_class(evaluation, classes.precision),
        "dice": _by_class(evaluation, classes.dice),
    }
    if evaluation.boundary:
        content["boundary"] = {
            "mean_iou": evaluation.boundary.mean_iou,
            "mean_f_score": evaluation.boundary.mean_f_score,
            "iou": _by_class(evaluation, evaluation.boundary.iou),
            "f_score": _by_class(evaluation, evaluation.boundary.f_score),
        }
    if evaluation.categories:
        by_name = dict(zip(evaluation.categories.names, evaluation.categories.iou, strict=True))
        content["categories"] = {"miou": evaluation.categories.miou, "iou": by_name}
    return {
        **content,
        "confusion_matrix": evaluation.matrix.tolist(),
        "images": evaluation.images,
        **protocol,
        "torch": str(torch.__version__),
    }


def _by_class(evaluation: Evaluation, values: Shares) -> dict[str, float | None]:
    return dict(zip(evaluation.labels.names, values, strict=True))
