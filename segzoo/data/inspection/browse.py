"""Pages of samples to look at: as they are stored, and as the network of a run sees them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from segzoo.config.schema import DataConfig, Preprocessing, RunConfig
from segzoo.data.datasets.listing import FileDataset
from segzoo.data.datasets.spec import DATASETS, build_dataset, input_folders
from segzoo.data.inspection.report import Report, SplitReport
from segzoo.data.loading.items import AugmentedDataset, Item, WholeDataset
from segzoo.data.loading.sampling import SampleKey, StepBatchSampler
from segzoo.data.pictures import GridImage, image_grid
from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.images import write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, as_picture
from segzoo.data.sample import Sample, SegmentationDataset, mask_extent
from segzoo.data.transforms.augmentation import check_extra_transforms
from segzoo.data.transforms.preprocessing import normalize
from segzoo.data.transforms.training import TrainTransform
from segzoo.files import check_outputs, make_output

SAMPLES = "samples.png"

_SAMPLES = 6  # of each split
_PER_ROW = 2
_EPOCHS = 2  # augmentations of each image


def write_samples(config: DataConfig, report: Report, folder: Path) -> Path | None:
    """Write `samples.png`: samples from all over each split that can be read, with their masks.

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
    rows = [row for split in report.splits for row in _stored_rows(config, split, report.labels)]
    if not rows:
        return None
    make_output(folder)
    path = folder / SAMPLES
    write_image(path, image_grid(rows, report.labels, f"{config.name} {config.root or ''}: image, mask, overlay"))
    return path


def _stored_rows(config: DataConfig, split: SplitReport, labels: LabelSpace) -> Iterator[list[GridImage]]:
    dataset = _readable(config, split, labels)
    if dataset is None:
        return
    chosen = np.unique(np.linspace(0, len(dataset) - 1, _SAMPLES).round().astype(int)).tolist()
    for start in range(0, len(chosen), _PER_ROW):
        samples = [dataset[index] for index in chosen[start : start + _PER_ROW]]
        yield [image for sample in samples for image in _stored(sample, split.name)]


def _readable(config: DataConfig, split: SplitReport, labels: LabelSpace) -> SegmentationDataset | None:
    """The samples of a split in which nothing is wrong."""
    if split.pairs:
        return FileDataset(split.pairs, labels, split.name, PixelFormat.of(config))
    if DATASETS[config.name].listing or not split.samples:
        return None
    return build_dataset(config, split.name)


def _stored(sample: Sample, split: str) -> list[GridImage]:
    picture = as_picture(sample.image)
    return [
        GridImage(f"{split}: {sample.id}", picture),
        GridImage("mask", mask=sample.mask),
        GridImage("overlay", picture, sample.mask),
    ]


def browse(config: RunConfig, path: Path, *, split: str | None = None, count: int = 6, overwrite: bool = False) -> Path:
    """Draw samples as the network gets them.

    Of the training split: the first `count` samples of the run, each stored, and augmented as in its first passes over
    the data. Of another split: whole images, as they are measured.

    Args:
        config: of the run.
        path: picture to write; its folder is made where it is not there.
        split: None takes the training split.
        count: images to show.
        overwrite: replace a picture that is there.

    Raises:
        ConfigError: the data set, the split or a transform is not there, the picture is there already or would lie
            among the data set's files, or its folder cannot be made.
        DataError: a file cannot be used, or `path` names no kind of picture.
    """
    check_extra_transforms(config.data)
    split = split or config.data.train_split
    dataset = build_dataset(config.data, split)
    check_outputs([path], overwrite=overwrite, inputs=input_folders(config.data))
    make_output(path.parent)
    keys = StepBatchSampler(len(dataset), min(count, len(dataset)), 1, config.seed).batch(0)
    if split == config.data.train_split:
        rows = _augmented_rows(dataset, keys, config)
    else:
        rows = _whole_rows(dataset, [key.index for key in keys], config.data.preprocessing)
    write_image(path, image_grid(rows, dataset.labels, f"{config.data.name}, {split}: what the network sees"))
    return path


def _augmented_rows(dataset: SegmentationDataset, keys: list[SampleKey], config: RunConfig) -> list[list[GridImage]]:
    transform = TrainTransform(config.data, dataset.labels.ignore_index)
    augmented = AugmentedDataset(dataset, transform, config.seed)
    rows = []
    for key in keys:
        stored = dataset[key.index]
        row = [GridImage(f"{stored.id}, stored", as_picture(stored.image), stored.mask)]
        for epoch in range(_EPOCHS):
            item = augmented[SampleKey(epoch, key.index)]
            row += _seen_images(item, config.data.preprocessing, f"pass {epoch + 1}")
        rows.append(row)
    return rows


def _whole_rows(
    dataset: SegmentationDataset, indices: list[int], preprocessing: Preprocessing
) -> list[list[GridImage]]:
    whole = WholeDataset(dataset)
    return [_seen_images(whole[index], preprocessing, dataset.ids[index]) for index in indices]


def _seen_images(item: Item, preprocessing: Preprocessing, caption: str) -> list[GridImage]:
    image, mask = _as_seen(item["image"], preprocessing), item["mask"].numpy()
    size = " x ".join(map(str, mask_extent(mask)))
    return [GridImage(f"{caption}, {size}", image), GridImage("with its mask", image, mask)]


def _as_seen(image: torch.Tensor, preprocessing: Preprocessing) -> Array8:
    """The network's input, with the normalisation undone."""
    shape = (-1, 1, 1)
    mean, std = (torch.tensor(values).view(shape) for values in (preprocessing.mean, preprocessing.std))
    pixels = normalize(image[None], preprocessing)[0] * std + mean
    return as_picture(np.clip(pixels.permute(1, 2, 0).numpy(), 0, 1))
