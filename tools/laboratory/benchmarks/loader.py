"""How many training samples a second one core reads and augments, beside a plain data set of the same recipe."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from laboratory.benchmarks.harness import Clock, Prepared, Row, measure_ways
from laboratory.benchmarks.machine import Way
from segzoo.config.schema import DataConfig
from segzoo.data.datasets.listing import FileDataset, Pair
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.loading.cache import cached
from segzoo.data.loading.items import AugmentedDataset, as_batch
from segzoo.data.loading.sampling import SampleKey, StepBatchSampler
from segzoo.data.reading.labels import IGNORED
from segzoo.data.sample import SegmentationDataset
from segzoo.data.transforms.preprocessing import normalize
from segzoo.data.transforms.training import TrainTransform
from segzoo.errors import ConfigError

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network for its newest version when imported
import albumentations as A

_NAMES = ("plain", "segzoo", "segzoo, normalised", "segzoo, reduced decoding", "segzoo, cache")


def plain_pipeline(config: DataConfig) -> A.Compose:
    """The deeplab recipe as albumentations' users write it: each step on the whole picture, floats at the end."""
    low, high = config.scale_range
    height, width = config.crop_size
    mean = config.preprocessing.mean
    return A.Compose(
        [
            A.RandomScale((low - 1, high - 1), p=1),
            A.PadIfNeeded(height, width, position="top_left", fill=[255 * value for value in mean], fill_mask=IGNORED),
            A.RandomCrop(height, width),
            A.HorizontalFlip(p=config.flip_probability),
            A.Normalize(mean, config.preprocessing.std),
            A.ToTensorV2(),
        ]
    )


class PlainDataset(Dataset[Any]):
    """What one writes with Pillow and albumentations in a few lines; it holds none of our tricks, nor our checks.

    Decodes all of both files, scales all of both, pads, crops, flips, normalises to float32, turns into tensors. Values
    of masks stay as they are on disk.

    Args:
        pairs: the files.
        config: scale range, crop size, flip probability, mean and standard deviation.
    """

    def __init__(self, pairs: Sequence[Pair], config: DataConfig) -> None:
        self.pairs = pairs
        self.pipeline = plain_pipeline(config)

    def __getitem__(self, key: SampleKey) -> tuple[torch.Tensor, torch.Tensor]:
        pair = self.pairs[key.index]
        image = np.array(Image.open(pair.image).convert("RGB"))
        mask = np.array(Image.open(pair.mask))
        result = self.pipeline(image=image, mask=mask)
        return result["image"], result["mask"].long()


def measure_loader(config: DataConfig, *, images: int, rounds: int, clock: Clock = time.process_time) -> list[Row]:
    """Read the same samples in each way, the ways taking turns, in this process and on one core.

    The files are in the system's memory after the first round, which is not counted.

    Args:
        config: the run's `data` section; its training split is read.
        images: samples in a round, at most: whole batches are read.
        rounds: counted rounds.
        clock: tells seconds; those of this process, for nothing else should count.

    Raises:
        ConfigError: the data set is not read from pairs of files.
    """
    dataset = build_dataset(config, config.train_split)
    if not isinstance(dataset, FileDataset):
        raise ConfigError(f"data.name: {config.name} is not read from pairs of files; there is nothing to compare")
    batch = min(config.batch_size, len(dataset), images)
    order = StepBatchSampler(len(dataset), batch, steps=images // batch, seed=0)
    with tempfile.TemporaryDirectory() as folder, _one_core():
        ways = zip(_NAMES, _ways(dataset, config, folder, order), strict=True)
        return measure_ways([Prepared(name, run, batch * len(order)) for name, run in ways], rounds, clock)


def _ways(dataset: FileDataset, config: DataConfig, folder: str, order: StepBatchSampler) -> list[Way]:
    """One function for each of `_NAMES`, that reads all samples of a round."""
    in_cache = cached(dataset, config.model_copy(update={"cache": folder}), config.train_split)
    whole, reduced = (config.model_copy(update={"reduced_decoding": value}) for value in (False, True))

    def ours(source: SegmentationDataset, settings: DataConfig) -> DataLoader[Any]:
        samples = AugmentedDataset(source, TrainTransform(settings, dataset.labels.ignore_index), seed=0)
        return DataLoader(samples, batch_sampler=order, collate_fn=as_batch)

    def normalised() -> None:
        for batch in ours(dataset, whole):
            normalize(batch["image"], config.preprocessing)

    plain = DataLoader(PlainDataset(dataset.pairs, config), batch_sampler=order)
    loaders = [ours(dataset, whole), ours(dataset, reduced), ours(in_cache, whole)]
    as_they_are = [lambda loader=loader: _exhaust(loader) for loader in (plain, *loaders)]
    return [as_they_are[0], as_they_are[1], normalised, *as_they_are[2:]]


def _exhaust(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


@contextmanager
def _one_core() -> Iterator[None]:
    """This process on one core, with one thread in torch and none beside in OpenCV."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    try:
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        if cores:
            os.sched_setaffinity(0, {min(cores)})
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
        if cores:
            os.sched_setaffinity(0, cores)
