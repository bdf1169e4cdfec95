"""A page of samples: image, mask, and the mask over the image."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.pairs import FileDataset
from segzoo.data.datasets.spec import DATASETS, build_dataset
from segzoo.data.inspection.check import Report, SplitReport
from segzoo.data.pictures import Cell, draw_sheet
from segzoo.data.reading.images import write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, as_picture
from segzoo.data.sample import Sample, SegmentationDataset
from segzoo.files import make_output

SAMPLES = "samples.png"

_SAMPLES = 6  # of each split
_PER_ROW = 2


def write_samples(config: DataConfig, report: Report, folder: Path) -> Path | None:
    """Write `samples.png`: samples from all over each split that can be read.

    Args:
        config: the run's `data` section.
        report: of the same data.
        folder: where to; made where it is not there.

    Returns:
        The file; None where no sample can be read.

    Raises:
        ConfigError: the folder cannot be made.
    """
    if report.labels is None:
        return None
    rows = [row for split in report.splits for row in _rows(config, split, report.labels)]
    if not rows:
        return None
    make_output(folder)
    path = folder / SAMPLES
    write_image(path, draw_sheet(rows, report.labels, f"{config.name} {config.root or ''}: image, mask, overlay"))
    return path


def _rows(config: DataConfig, split: SplitReport, labels: LabelSpace) -> Iterator[list[Cell]]:
    samples = [_three_cells(sample, split.name) for sample in _spread(_sound_samples(config, split, labels))]
    for start in range(0, len(samples), _PER_ROW):
        yield [cell for cells in samples[start : start + _PER_ROW] for cell in cells]


def _sound_samples(config: DataConfig, split: SplitReport, labels: LabelSpace) -> SegmentationDataset | None:
    if split.pairs:
        return FileDataset(split.pairs, labels, split.name, PixelFormat.of(config))
    if DATASETS[config.name].listing or not split.samples:
        return None
    return build_dataset(config, split.name)


def _spread(dataset: SegmentationDataset | None) -> Iterator[Sample]:
    """Samples at equal distances, the first and the last one among them."""
    if dataset is not None:
        for index in np.unique(np.linspace(0, len(dataset) - 1, _SAMPLES).round().astype(int)).tolist():
            yield dataset[index]


def _three_cells(sample: Sample, split: str) -> list[Cell]:
    picture = as_picture(sample.image)
    return [
        Cell(f"{split}: {sample.id}", picture),
        Cell("mask", mask=sample.mask),
        Cell("overlay", picture, sample.mask),
    ]
