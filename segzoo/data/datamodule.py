"""Data sets to batches, for Lightning."""

import math
import os
import sys
from collections.abc import Iterator
from typing import Any, TypedDict

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from segzoo.config.schema import DataConfig
from segzoo.data.dataset import SegmentationDataset, build_dataset
from segzoo.data.labels import LabelSpace
from segzoo.data.sampling import SampleKey, ShardSampler, StepBatchSampler
from segzoo.data.transforms import Transform, train_transform
from segzoo.errors import ConfigError, DataError

_MAX_WORKERS = 8
# Forked workers start at once and share the listing; starting afresh would import torch in each of them.
_START_METHOD = "fork" if sys.platform == "linux" else None


class Item(TypedDict):
    """One sample as tensors, and a training batch of them with one more dimension in front.

    Shape: image (3, H, W) uint8, mask (H, W) uint8.
    """

    image: torch.Tensor
    mask: torch.Tensor
    id: str


class AugmentedDataset(Dataset[Item]):
    """Augmented samples; each is a function of the seed, the epoch and the index alone.

    Args:
        dataset: where samples come from.
        transform: the augmentation.
        seed: of the run.
    """

    def __init__(self, dataset: SegmentationDataset, transform: Transform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> Item:
        sample = self.dataset[key.index]
        seed = int(np.random.SeedSequence((self.seed, *key)).generate_state(1)[0])
        image, mask = self.transform(sample.image, sample.mask, seed)
        return _item(image, mask, sample.id)


class WholeDataset(Dataset[Item]):
    """Samples as they are.

    Args:
        dataset: where samples come from.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Item:
        sample = self.dataset[index]
        return _item(sample.image, sample.mask, sample.id)


class SampleLoader(DataLoader[Any]):
    """A loader whose `DataError` names the file and nothing else, in worker processes too."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # an iterator is all that callers use
        try:
            yield from super().__iter__()
        except DataError as error:
            # torch puts the worker's traceback in front of the message.
            message = str(error).rpartition(f"{DataError.__module__}.{DataError.__name__}: ")[2]
            raise DataError(message.splitlines()) from error


class SegmentationData(lightning.LightningDataModule):
    """The training and validation split of a run, and their loaders.

    Args:
        config: the run's `data` section.
        steps: optimiser steps in the whole run; None counts `epochs`.
        epochs: passes over the training split, where `steps` is None.
        seed: decides order and augmentation.
        eval_batch_size: validation images read at a time.

    Set `start_step` before training to go on at a later step.

    Raises:
        ConfigError: there are fewer training samples than `data.batch_size`.
        DataError: the splits have different classes.
    """

    def __init__(
        self, config: DataConfig, *, steps: int | None, epochs: int | None = None, seed: int, eval_batch_size: int
    ) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.eval_batch_size = eval_batch_size
        self.start_step = 0
        self.train_dataset = build_dataset(config, config.train_split)
        self.val_dataset = build_dataset(config, config.val_split)
        self.labels: LabelSpace = self.train_dataset.labels
        self.steps = steps or math.ceil((epochs or 1) * len(self.train_dataset) / config.batch_size)
        if self.val_dataset.labels != self.labels:
            raise DataError(f"data: splits {config.train_split} and {config.val_split} have different classes")
        if len(self.train_dataset) < config.batch_size:
            raise ConfigError(
                f"data.batch_size: {config.batch_size} is more than the {len(self.train_dataset)} samples of "
                f"split {config.train_split}. Set it to {len(self.train_dataset)} or less."
            )

    def train_dataloader(self) -> SampleLoader:
        """Augmented batches, from `start_step` to the end of the run."""
        rank, world_size = self._process()
        order = StepBatchSampler(
            len(self.train_dataset),
            self.config.batch_size,
            self.steps,
            self.seed,
            start_step=self.start_step,
            rank=rank,
            world_size=world_size,
        )
        dataset = AugmentedDataset(self.train_dataset, train_transform(self.config), self.seed)
        workers = _num_workers(self.config)
        return SampleLoader(
            dataset,
            batch_sampler=order,
            num_workers=workers,
            multiprocessing_context=_START_METHOD if workers else None,
            generator=torch.Generator(),  # or starting the loader would draw from the global one
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> SampleLoader:
        """Lists of whole images, each image once over all processes."""
        rank, world_size = self._process()
        return evaluation_loader(
            self.val_dataset, self.config, batch_size=self.eval_batch_size, rank=rank, world_size=world_size
        )

    def _process(self) -> tuple[int, int]:
        """Number of this process, and of all."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def evaluation_loader(
    dataset: SegmentationDataset, config: DataConfig, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> SampleLoader:
    """Lists of whole images, in order, each image once over all processes.

    Args:
        dataset: where samples come from.
        config: for the number of workers.
        batch_size: images in a list.
        rank: number of this process.
        world_size: number of processes.
    """
    workers = _num_workers(config)
    return SampleLoader(
        WholeDataset(dataset),
        batch_size=batch_size,
        sampler=ShardSampler(len(dataset), rank, world_size),
        collate_fn=_as_list,
        num_workers=workers,
        multiprocessing_context=_START_METHOD if workers else None,
        generator=torch.Generator(),  # as in training
        persistent_workers=workers > 0,  # validation runs many times
        pin_memory=torch.cuda.is_available(),
    )


def _num_workers(config: DataConfig) -> int:
    """The configured number, else one per core; none for scenes that are quicker made than handed over."""
    if config.num_workers is not None:
        return config.num_workers
    if config.name == "synthetic":
        return 0
    return min(_MAX_WORKERS, _cores())


def _cores() -> int:
    """Cores this process may use, which a container or a batch system can restrict."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _item(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], sample_id: str) -> Item:
    """Tensors of their own memory; a data set may keep its arrays."""
    channels_first = np.array(image.transpose(2, 0, 1), order="C")
    return {
        "image": torch.from_numpy(channels_first),
        "mask": torch.from_numpy(np.array(mask, order="C")),
        "id": sample_id,
    }


def _as_list(items: list[Item]) -> list[Item]:
    """Images may differ in size, so they are not stacked."""
    return items
