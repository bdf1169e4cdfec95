"""An evaluation as files: metrics.json for programs, per_image.csv for people and spreadsheets."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.datasets.spec import input_folders
from segzoo.escapes import csv_line
from segzoo.evaluation.results import Measurement
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


def write_metrics(evaluation: Measurement[Any, Any], scores: Mapping[str, Any]) -> None:
    """Write metrics.json; scores are shares of 1, and null where there is nothing to judge.

    Args:
        evaluation: what was measured.
        scores: of the split, by the names of the metrics.
    """
    content = {
        **scores,
        "confusion_matrix": evaluation.matrix.tolist(),
        "images": evaluation.images,
        **evaluation.protocol.tree(),
        "torch": str(torch.__version__),
    }
    _write(evaluation, METRICS, json.dumps(content, indent=2) + "\n")


def write_per_image(evaluation: Measurement[Any, Any], head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write per_image.csv: one row for each image in the split's order; empty cells where there is nothing to judge."""
    _write(evaluation, PER_IMAGE, "".join(map(csv_line, (head, *rows))))


def _write(evaluation: Measurement[Any, Any], name: str, text: str) -> None:
    # Names of files may be no text in any encoding.
    write_atomically(evaluation.output / name, text.encode(errors="backslashreplace"))
