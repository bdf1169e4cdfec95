"""The rows of a run's metrics.csv, and one of its columns over the steps."""

import csv
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, str]

METRICS_CSV = "metrics.csv"
"""The file in a run directory."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.csv, without one that a killed process left half-written at the end; none of no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if (row.get("step") or "").isdecimal() and None not in row.values()]


def points(rows: Sequence[Row], column: str, split: str) -> list[tuple[int, float]]:
    """Steps and values of a column, where the split has one."""
    return [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split and row.get(column)]
