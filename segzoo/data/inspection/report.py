"""What the doctor found, as lines and tables for people."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.table import Table

from segzoo.data.inspection.check import Report, SplitReport
from segzoo.data.inspection.findings import CheckReport
from segzoo.errors import in_groups

# Below the tables, where a line may be longer than the table is wide.
SIZE_NOTE = "height and width in pixels: smallest / median / largest"
COLOR_NOTE = "mean and std: of each channel, in units of the full range"
WEIGHT_NOTE = "weight: what loss.class_weights=balanced takes, from the training masks"

_LISTED = 20  # findings of one kind that are spelled out


def finding_lines(report: CheckReport[Any]) -> Iterator[str]:
    """One line for each finding, errors first; many that say the same of other files are one."""
    for (severity, kind), group in groupby(report.findings, key=lambda finding: (finding.severity, finding.kind)):
        lines = in_groups(finding.line for finding in group)
        yield from (f"{severity}: {line}" for line in lines[:_LISTED])
        if len(lines) > _LISTED:
            yield f"{severity}: ... and {len(lines) - _LISTED} more ({kind}); --json lists all"


def verdict(report: CheckReport[Any]) -> str:
    """How it stands, in one line."""
    if not report.findings:
        return "no problem found"
    return f"{_counted(report.errors, 'error')}, {_counted(report.warnings, 'warning')}"


def image_table(report: Report) -> Table:
    """Sizes and colours of each split."""
    table = Table(title="images", title_justify="left")
    for heading in ("split", "images", "height", "width", "channels", "mean", "std"):
        table.add_column(heading)
    for split in report.splits:
        if split.images is None:
            table.add_row(split.name, "0")
            continue
        images = split.images
        channels = ", ".join(map(str, images.channels))
        extents = (str(images.height), str(images.width))
        table.add_row(split.name, str(images.count), *extents, channels, _numbers(images.mean), _numbers(images.std))
    return table


def class_table(report: Report) -> Table | None:
    """Pixels and images of each class in each split, and class weights; None where values mean nothing."""
    if report.labels is None:
        return None
    table = Table(title="classes", title_justify="left")
    table.add_column("class")
    for split in report.splits:
        table.add_column(f"{split.name}: pixels", justify="right")
        table.add_column("images", justify="right")
    table.add_column("weight", justify="right")
    weights = report.class_weights
    for index, name in enumerate(report.labels.names):
        cells = [cell for split in report.splits for cell in _class_cells(split, index)]
        table.add_row(name, *cells, f"{weights[index]}" if weights else "")
    table.add_row("(ignored)", *[cell for split in report.splits for cell in _ignored_cells(split)], style="dim")
    return table


def _class_cells(split: SplitReport, index: int) -> tuple[str, str]:
    if split.classes is None:
        return "", ""
    return _percent(split.classes.shares[index], split.classes.pixels[index]), str(split.classes.images[index])


def _ignored_cells(split: SplitReport) -> tuple[str, str]:
    if split.classes is None:
        return "", ""
    total = sum(split.classes.pixels) + split.classes.ignored
    return _percent(split.classes.ignored / max(total, 1), split.classes.ignored), ""


def _percent(share: float, pixels: int) -> str:
    """A share that is not zero never looks like zero."""
    return "-" if pixels == 0 else f"{100 * share:.2f} %" if share >= 5e-5 else f"{pixels} px"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:z.2f}" for value in values)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
