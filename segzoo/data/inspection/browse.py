"""A page of what the network sees: the very samples of a run, after augmentation."""

from pathlib import Path

import numpy as np
import torch

from segzoo.config.schema import Preprocessing, RunConfig
from segzoo.data.datasets.spec import build_dataset, input_folders
from segzoo.data.loading.items import AugmentedDataset, Item, WholeDataset
from segzoo.data.loading.sampling import SampleKey, StepBatchSampler
from segzoo.data.pictures import Cell, draw_sheet
from segzoo.data.reading.images import Array8, write_image
from segzoo.data.reading.pixels import as_picture
from segzoo.data.sample import SegmentationDataset, mask_extent
from segzoo.data.transforms.augmentation import check_extra_transforms
from segzoo.data.transforms.preprocessing import normalize
from segzoo.data.transforms.training import train_transform
from segzoo.files import check_outputs, make_output

_EPOCHS = 2  # augmentations of each image


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
    write_image(path, draw_sheet(rows, dataset.labels, f"{config.data.name}, {split}: what the network sees"))
    return path


def _augmented_rows(dataset: SegmentationDataset, keys: list[SampleKey], config: RunConfig) -> list[list[Cell]]:
    transform = train_transform(config.data, dataset.labels.ignore_index)
    augmented = AugmentedDataset(dataset, transform, config.seed)
    rows = []
    for key in keys:
        stored = dataset[key.index]
        row = [Cell(f"{stored.id}, stored", as_picture(stored.image), stored.mask)]
        for epoch in range(_EPOCHS):
            item = augmented[SampleKey(epoch, key.index)]
            row += _item_cells(item, config.data.preprocessing, f"pass {epoch + 1}")
        rows.append(row)
    return rows


def _whole_rows(dataset: SegmentationDataset, indices: list[int], preprocessing: Preprocessing) -> list[list[Cell]]:
    whole = WholeDataset(dataset)
    return [_item_cells(whole[index], preprocessing, dataset.ids[index]) for index in indices]


def _item_cells(item: Item, preprocessing: Preprocessing, caption: str) -> list[Cell]:
    image, mask = _as_seen(item["image"], preprocessing), item["mask"].numpy()
    size = " x ".join(map(str, mask_extent(mask)))
    return [Cell(f"{caption}, {size}", image), Cell("with its mask", image, mask)]


def _as_seen(image: torch.Tensor, preprocessing: Preprocessing) -> Array8:
    """The network's input, with the normalisation undone."""
    shape = (-1, 1, 1)
    mean, std = (torch.tensor(values).view(shape) for values in (preprocessing.mean, preprocessing.std))
    pixels = normalize(image[None], preprocessing)[0] * std + mean
    return as_picture(np.clip(pixels.permute(1, 2, 0).numpy(), 0, 1))
