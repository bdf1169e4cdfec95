"""Several evaluations of the same images side by side, and which differences the images bear out; and their tables."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy import stats

from segzoo.checkpoint.read import find_checkpoint
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.tree import is_file, subfolders
from segzoo.errors import ConfigError, DataError, SegzooError, first_line
from segzoo.escapes import Column, markdown_table
from segzoo.evaluation.counts import CONFIDENCE, SplitCounts, miou_interval, resampled_mious
from segzoo.evaluation.evaluator import default_output
from segzoo.evaluation.results import COUNTS, METRICS, text_table
from segzoo.files import read_json
from segzoo.plugins import OWN_PARTS
from segzoo.tasks.confusion import ConfusionMatrix, mean_of_present, ratios
from segzoo.tasks.metrics import Measured, metrics_of, percent, unknown_metrics

_logger = logging.getLogger(__name__)

PROTOCOL = ("weights", "output_stride", "engine", "engine_precision", "tta", "tile", "tile_overlap")
"""What may differ between evaluations and is worth a row where it does."""


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluation as its folder has it: the metrics that a comparison shows, and the pixels in each image."""

    name: str
    measured: Measured
    protocol: dict[str, Any]
    counts: SplitCounts

    def image_mious(self) -> NDArray[np.float64]:
        """The mIoU of each image; nan where there is nothing to judge."""
        values = []
        for hits, truth, predicted in self.counts.regions:
            value = mean_of_present(ratios(hits.tolist(), (truth + predicted - hits).tolist()))
            values.append(np.nan if value is None else value)
        return np.array(values)


@dataclass(frozen=True)
class Difference:
    """One evaluation against the first.

    Args:
        name: of the evaluation.
        miou: its mIoU minus the first's.
        low: lower end of the interval of that difference over other images.
        high: upper end.
        p_miou: how often images drawn anew turn the difference round, two-sided.
        median: of the images' own differences of mIoU.
        better: images with a higher mIoU.
        worse: images with a lower one.
        p_images: of the Wilcoxon signed-rank test on the images' differences; None where all are zero.
        most: index and difference of the images that differ most, the largest first.
    """

    name: str
    miou: float
    low: float
    high: float
    p_miou: float
    median: float
    better: int
    worse: int
    p_images: float | None
    most: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Comparison:
    """Two or more evaluations of the same images, and the difference of each but the first."""

    runs: tuple[EvaluatedRun, ...]
    differences: tuple[Difference, ...]


def compare(paths: Sequence[str | Path], *, split: str | None = None, images: int) -> Comparison:
    """Read evaluations of the same images and compare each with the first.

    Args:
        paths: run directories or saved models that were evaluated, or folders that `evaluate` wrote.
        split: which evaluation of a run; None where each has one.
        images: how many of those that differ most to name.

    Raises:
        ConfigError: fewer than two, no evaluation of a segmenter there, or evaluations of other images, masks or
            classes.
        DataError: files that are damaged.
    """
    if len(paths) < 2:
        raise ConfigError("compare: name two evaluations or more.")
    runs = tuple(_read(Path(path), split) for path in paths)
    problems = [problem for run in runs[1:] for problem in _mismatch(runs[0], run)]
    if problems:
        raise ConfigError(problems)
    return Comparison(runs, tuple(_difference(runs[0], run, images) for run in runs[1:]))


def _read(path: Path, split: str | None) -> EvaluatedRun:
    folder = _evaluation_folder(path, split)
    try:
        metrics = read_json(folder / METRICS)
        if "top1" in metrics:
            raise ConfigError(f"{folder}: an evaluation of a classifier; compare takes those of segmenters.")
        classes, protocol = tuple(metrics["iou"].keys()), {key: metrics.get(key) for key in PROTOCOL}
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / METRICS}: not readable ({first_line(error)}). Evaluate again.") from None
    if unknown := unknown_metrics("segmentation", metrics):
        _logger.warning("%s: %s not shown, for nobody registers it. %s", path, ", ".join(unknown), OWN_PARTS)
    counts = SplitCounts.load(folder / COUNTS)
    if len(classes) != counts.regions.shape[2]:
        raise DataError(f"{folder}: {METRICS} and {COUNTS} have different numbers of classes. Evaluate again.")
    return EvaluatedRun(str(path), _measured(classes, counts, metrics), protocol, counts)


def _measured(classes: tuple[str, ...], counts: SplitCounts, content: Mapping[str, Any]) -> Measured:
    """What the metrics say: those of a table of counts from that, the others as metrics.json has them."""
    labels = LabelSpace.from_names(classes, multi_label=counts.matrix.dim() == 3)
    metrics = [metric for metric in metrics_of("segmentation", labels) if metric.compared]
    values = {}
    for metric in metrics:
        if metric.counter is ConfusionMatrix:
            values[metric.name] = metric.value(counts.matrix, labels)
        else:
            values[metric.name] = metric.saved_value(content.get(metric.name), labels)
    return Measured(metrics, values, labels)


def _evaluation_folder(path: Path, split: str | None) -> Path:
    if (path / METRICS).is_file() and (split is None or path.name == split):
        return path
    found = [folder for folder in subfolders(_home(path)) if split in (None, folder.name) and is_file(folder / METRICS)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.name for folder in found)
        raise ConfigError(f"{path}: has evaluations of {names}. Say which with --split.")
    where = f" of split '{split}'" if split else ""
    raise ConfigError(f"{path}: no evaluation{where} here. Make it: segzoo evaluate {path}")


def _home(path: Path) -> Path:
    """The folder of a run's or a saved model's evaluations, one for each split, where `segzoo evaluate` puts them."""
    inside = path / "evaluation"
    if inside.is_dir():
        return inside
    try:
        return default_output(find_checkpoint(path), "any").parent
    except SegzooError:  # no checkpoint either
        return inside


def _mismatch(first: EvaluatedRun, other: EvaluatedRun) -> Iterator[str]:
    start = f"{other.name} and {first.name}: cannot be compared, they were measured"
    mine, theirs = first.counts, other.counts
    if first.measured.labels.names != other.measured.labels.names:
        yield f"{start} with other classes."
    elif mine.ids != theirs.ids:
        only = next(iter(set(mine.ids) ^ set(theirs.ids)), mine.ids[0])
        yield f"{start} on other images: {len(theirs.ids)} and {len(mine.ids)}, and '{only}' is not in both."
    elif (mine.regions[:, 1] != theirs.regions[:, 1]).any():
        image = mine.ids[int((mine.regions[:, 1] != theirs.regions[:, 1]).any(1).argmax())]
        yield f"{start} against other masks, first of '{image}'."


def _difference(first: EvaluatedRun, other: EvaluatedRun, images: int) -> Difference:
    """The paired comparison.

    Source: Wilcoxon, Individual comparisons by ranking methods, 1945, as scipy has it; for the data set's mIoU the
        paired bootstrap, both evaluations on the same draws, Efron and Tibshirani 1993.
    """
    pairs = zip(resampled_mious(first.counts.regions), resampled_mious(other.counts.regions), strict=True)
    drawn = np.concatenate([theirs - mine for mine, theirs in pairs])
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    turned = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    gains = other.image_mious() - first.image_mious()
    judged = np.flatnonzero(~np.isnan(gains))
    gained = gains[judged]
    order = judged[np.argsort(-np.abs(gained), kind="stable")][: min(images, np.count_nonzero(gained))]
    return Difference(
        name=other.name,
        miou=(other.measured.one("miou") or 0.0) - (first.measured.one("miou") or 0.0),
        low=float(low),
        high=float(high),
        p_miou=min(1.0, 2 * (1 + turned) / (1 + len(drawn))),
        median=float(np.median(gained)) if len(gained) else 0.0,
        better=int((gained > 0).sum()),
        worse=int((gained < 0).sum()),
        p_images=float(stats.wilcoxon(gained).pvalue) if gained.any() else None,
        most=tuple((int(index), float(gains[index])) for index in order),
    )


@dataclass(frozen=True)
class Grid:
    """A table before it has a look: numbers stand right, the first column left."""

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
    return text_table(grid.head, grid.rows)


def as_markdown(tables: Sequence[Grid]) -> str:
    """For files."""
    return "\n".join(f"{markdown_table(_columns(table), table.rows)}\n" for table in tables)


def _columns(grid: Grid) -> list[Column[tuple[str, ...]]]:
    return [Column(heading, itemgetter(slot), words=slot == 0) for slot, heading in enumerate(grid.head)]


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
