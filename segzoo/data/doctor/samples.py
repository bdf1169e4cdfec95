"""A page of samples: image, mask, and the mask over the image."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.dataset import Sample, SegmentationDataset, build_dataset
from segzoo.data.doctor.check import Report, SplitReport
from segzoo.data.images import write_image
from segzoo.data.labels import LabelSpace
from segzoo.data.listing import LISTINGS
from segzoo.data.pairs import FileDataset
from segzoo.data.pixels import PixelFormat, as_picture
from segzoo.data.sheet import Tile, draw_sheet

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
    """
    if report.labels is None:
        return None
    rows = [row for split in report.splits for row in _rows(config, split, report.labels)]
    if not rows:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "samples.png"
    write_image(path, draw_sheet(rows, report.labels, f"{config.name} {config.root or ''}: image, mask, overlay"))
    return path


def _rows(config: DataConfig, split: SplitReport, labels: LabelSpace) -> Iterator[list[Tile]]:
    samples = [_three_tiles(sample, split.name) for sample in _spread(_sound_samples(config, split, labels))]
    for start in range(0, len(samples), _PER_ROW):
        yield [tile for tiles in samples[start : start + _PER_ROW] for tile in tiles]


def _sound_samples(config: DataConfig, split: SplitReport, labels: LabelSpace) -> SegmentationDataset | None:
    if split.pairs:
        return FileDataset(split.pairs, labels, split.name, PixelFormat.of(config))
    if config.name in LISTINGS or not split.samples:
        return None
    return build_dataset(config, split.name)


def _spread(dataset: SegmentationDataset | None) -> Iterator[Sample]:
    """Samples at equal distances, the first and the last one among them."""
    if dataset is not None:
        for index in np.unique(np.linspace(0, len(dataset) - 1, _SAMPLES).round().astype(int)).tolist():
            yield dataset[index]


def _three_tiles(sample: Sample, split: str) -> list[Tile]:
    picture = as_picture(sample.image)
    return [
        Tile(f"{split}: {sample.id}", picture),
        Tile("mask", mask=sample.mask),
        Tile("overlay", picture, sample.mask),
    ]
