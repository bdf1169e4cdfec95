"""An evaluation as files: metrics.json for programs, per_image.csv for people and spreadsheets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.dataset import input_folders
from segzoo.escapes import csv_line
from segzoo.evaluation.results import Evaluation
from segzoo.files import check_outputs, make_output, write_atomically

METRICS = "metrics.json"
PER_IMAGE = "per_image.csv"
COUNTS = "counts.npz"
REPORT = "report.html"


PLOTS = ("plots/per_class_iou.png", "plots/confusion.png", "plots/curves.png")


def check_results(folder: Path, data: DataConfig | ClassificationDataConfig, *, report: bool, overwrite: bool) -> None:
    """Make the folder of an evaluation before hours of computing, or refuse it.

    Args:
        folder: for the files.
        data: what is measured.
        report: whether there will be a page, with plots.
        overwrite: replace another evaluation.

    Raises:
        ConfigError: it holds an evaluation already, lies in the data set, or cannot be written to.
    """
    names = (METRICS, PER_IMAGE, COUNTS, REPORT, *(PLOTS if report else ()))
    check_outputs([folder / name for name in names], overwrite=overwrite, inputs=input_folders(data))
    make_output(folder)


def write_metrics(evaluation: Evaluation) -> None:
    """Write metrics.json; scores are shares of 1, and null where there is nothing to judge."""
    _write(evaluation, METRICS, json.dumps(_metrics(evaluation), indent=2) + "\n")


def write_per_image(evaluation: Evaluation) -> None:
    """Write per_image.csv: one row for each image in the split's order; empty cells where there is nothing to judge."""
    classes = [f"iou/{name}" for name in evaluation.labels.names]
    lines = [csv_line(["index", "id", "pixels", "miou", "pixel_accuracy", *classes])]
    lines += [
        csv_line([image.index, image.id, image.pixels, image.miou, image.pixel_accuracy, *image.iou])
        for image in evaluation.per_image
    ]
    _write(evaluation, PER_IMAGE, "".join(lines))


def _write(evaluation: Evaluation, name: str, text: str) -> None:
    write_atomically(evaluation.output / name, text.encode(errors="backslashreplace"))


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    protocol = asdict(evaluation.protocol)
    protocol["engine_precision"] = protocol.pop("precision")  # the classes' precision has the name
    content: dict[str, Any] = {}
    for name, value in evaluation.measured.tree().items():
        content[name] = value
        if name == "miou":
            content["miou_interval"] = asdict(evaluation.interval) if evaluation.interval else None
    return {
        **content,
        "confusion_matrix": evaluation.matrix.tolist(),
        "images": evaluation.images,
        **protocol,
        "torch": str(torch.__version__),
    }
