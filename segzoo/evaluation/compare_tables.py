"""A comparison as tables, for the terminal and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from rich.table import Table

from segzoo.evaluation.compare import PROTOCOL, Comparison, Difference, EvaluatedRun
from segzoo.evaluation.interval import CONFIDENCE, miou_interval
from segzoo.markdown import Column, markdown_table
from segzoo.tasks.metrics import percent


@dataclass(frozen=True)
class Grid:
    """A table before it has a look: numbers stand right, the first column left.

    Args:
        head: one text for each column.
        rows: as many for each row.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(comparison: Comparison) -> list[Grid]:
    """Scores side by side, what the differences are worth, and the images that differ most."""
    runs = comparison.runs
    rows = _side_by_side([list(_scores(run)) for run in runs])
    protocols = [
        (key.replace("_", " "), *(str(run.protocol[key] or "none") for run in runs))
        for key in PROTOCOL
        if len({run.protocol[key] for run in runs}) > 1
    ]
    worth = [_worth(difference) for difference in comparison.differences]
    return [
        Grid(("score", *(run.name for run in runs)), (*rows, *protocols)),
        Grid((f"against {runs[0].name}", *(run.name for run in runs[1:])), _side_by_side(worth)),
        *(
            _most(runs[0], run, difference)
            for run, difference in zip(runs[1:], comparison.differences, strict=True)
            if difference.most
        ),
    ]


def as_table(grid: Grid) -> Table:
    """For the terminal."""
    table = Table(*grid.head)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in grid.rows:
        table.add_row(*row)
    return table


def as_markdown(tables: Sequence[Grid]) -> str:
    """For files."""
    return "\n".join(f"{markdown_table(_columns(table), table.rows)}\n" for table in tables)


def _columns(grid: Grid) -> list[Column[tuple[str, ...]]]:
    return [Column(heading, itemgetter(place), words=place == 0) for place, heading in enumerate(grid.head)]


def _scores(run: EvaluatedRun) -> Iterator[tuple[str, str]]:
    interval = miou_interval(run.counts.regions)
    for metric, value in run.measured.numbers():
        yield metric.title, metric.text(value)
        if metric.name == "miou":
            ends = f"{percent(interval.low)} to {percent(interval.high)}" if interval else "n/a"
            yield f"{CONFIDENCE:.0%} interval", ends
    for metrics in run.measured.columns().values():
        for metric in metrics:
            for row, value in run.measured.by_row(metric).items():
                yield f"{metric.title} of {row}", metric.text(value)


def _worth(difference: Difference) -> list[tuple[str, str]]:
    return [
        ("mIoU, points", _points(difference.miou)),
        (f"{CONFIDENCE:.0%} interval", f"{_points(difference.low)} to {_points(difference.high)}"),
        ("p, paired bootstrap", _chance(difference.p_miou)),
        ("images better / worse", f"{difference.better} / {difference.worse}"),
        ("median over images, points", _points(difference.median)),
        ("p, Wilcoxon", "n/a" if difference.p_images is None else _chance(difference.p_images)),
    ]


def _side_by_side(columns: Sequence[Sequence[tuple[str, str]]]) -> tuple[tuple[str, ...], ...]:
    """Rows of the columns' values, named as the first column has it."""
    return tuple((cells[0][0], *(value for _, value in cells)) for cells in zip(*columns, strict=True))


def _most(first: EvaluatedRun, other: EvaluatedRun, difference: Difference) -> Grid:
    mine, theirs = first.image_mious(), other.image_mious()
    rows = [
        (first.counts.ids[index], percent(float(mine[index])), percent(float(theirs[index])), _points(gain))
        for index, gain in difference.most
    ]
    return Grid(("images that differ most", first.name, other.name, "points"), tuple(rows))


def _points(value: float) -> str:
    """A difference of shares in percentage points.

    >>> _points(0.0123), _points(-0.002), _points(-0.0002)
    ('+1.2', '-0.2', '+0.0')
    """
    return f"{100 * value:+z.1f}"


def _chance(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
