"""The rows of a run's metrics.csv, and one of its columns over the steps."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

Row = dict[str, str]

METRICS_CSV = "metrics.csv"
"""The file in a run directory."""
_MOST_STEPS = 2**63


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.csv that are whole; none of no file."""
    return read_table(path)[0]


def read_table(path: Path) -> tuple[list[Row], int]:
    """The rows of a metrics.csv, and how many of its lines are damaged.

    A line that a killed process left half-written at the end is neither.
    """
    if not path.is_file():
        return [], 0
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = iter([line for line in file if line.endswith("\n")])
    header = _cells(lines)
    rows = [_row(header, line) for line in lines]  # each for itself: a damaged quote would swallow what follows
    return [row for row in rows if row is not None], rows.count(None)


def _row(header: Sequence[str], line: str) -> Row | None:
    cells = _cells([line])
    row = dict(zip(header, cells, strict=False))
    if not len(header) == len(cells) == len(row) or row.get("split") not in {"train", "val"}:
        return None
    try:
        numbers = {name: float(value or 0) for name, value in row.items() if name != "split"}
    except ValueError:
        return None
    return row if row.get("step", "").isdecimal() and numbers["step"] < _MOST_STEPS else None


def _cells(lines: Iterable[str]) -> list[str]:
    """The cells of the first row; none of a damaged one."""
    try:
        return next(csv.reader(lines), [])
    except csv.Error:
        return []


def points(rows: Sequence[Row], column: str, split: str) -> list[tuple[int, float]]:
    """Steps and values of a column, where the split has one."""
    return [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split and row.get(column)]
