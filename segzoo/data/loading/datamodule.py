"""Data sets to batches, for Lightning."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import lightning
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.data import SharedDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.cores import START_METHOD, available_cores, leave_signals_to_parent
from segzoo.data.datasets.classes import single_class
from segzoo.data.datasets.listing import FileDataset
from segzoo.data.datasets.spec import build_classification_dataset, build_dataset, spec_of
from segzoo.data.loading.cache import cached
from segzoo.data.loading.items import (
    AugmentedDataset,
    CentralDataset,
    CroppedDataset,
    EvaluationItems,
    Mixup,
    TrainingItems,
    WholeDataset,
)
from segzoo.data.loading.sampling import ShardSampler
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import ClassificationDataset, SegmentationDataset, named_in_errors
from segzoo.data.transforms.augmentation import check_extra_transforms
from segzoo.data.transforms.classification import CenterView, TrainView
from segzoo.data.transforms.training import TrainTransform
from segzoo.errors import ConfigError, DataError, printable

_MAX_WORKERS = 8
_LINE_END = printable("\n")


class SampleLoader(DataLoader[Any]):
    """A loader whose `DataError` names the file and nothing else, in worker processes too."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # an iterator is all that callers use
        try:
            yield from super().__iter__()
        except DataError as error:
            # torch makes one text of the worker's traceback and the problems, whose line ends the error then escaped.
            _, worker, message = str(error).rpartition(f"{DataError.__module__}.{DataError.__name__}: ")
            if not worker:
                raise
            raise DataError(message.removesuffix(_LINE_END).split(_LINE_END)) from error


class LabelledImages(Protocol):
    """What `StepDataModule` asks of a split, whatever its samples are."""

    @property
    def labels(self) -> LabelSpace:
        """Its classes."""

    def __len__(self) -> int: ...


Config = TypeVar("Config", bound=SharedDataConfig)
Images = TypeVar("Images", bound=LabelledImages)


class StepDataModule(lightning.LightningDataModule, ABC, Generic[Config, Images]):
    """The training and validation split of a run, seen in steps: the data of every task.

    Args:
        config: the run's `data` section.
        steps: in a pass of the training loader, which `segzoo.train` takes for the whole run; None counts `epochs`.
        epochs: passes over the training split in one of the loader, where `steps` is None; None is 1.
        seed: decides order and augmentation.
        eval_batch_size: validation images read at a time.
        accumulate: batches of `data.batch_size` that make a step, and come as one.

    Set `start_step` before training to go on at a later step; a Trainer's checkpoint does.

    Raises:
        ConfigError: there are fewer training samples than a step takes, or the data set is not there.
        DataError: the splits have different classes, or what is there cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        seed: int = 0,
        eval_batch_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.eval_batch_size = eval_batch_size
        self.images_per_step = config.batch_size * accumulate
        self.start_step = 0
        self.train_dataset = self._dataset(config.train_split)
        self.val_dataset = self._dataset(config.val_split)
        self.labels: LabelSpace = self.train_dataset.labels
        self.steps = steps or math.ceil((epochs or 1) * len(self.train_dataset) / self.images_per_step)
        if self.val_dataset.labels != self.labels:
            raise DataError(f"data: splits {config.train_split} and {config.val_split} have different classes")
        if accumulate > 1 and len(self.train_dataset) < self.images_per_step:
            raise ConfigError(
                f"trainer.accumulate: {accumulate} batches of {config.batch_size} are {self.images_per_step} images a "
                f"step, more than the {len(self.train_dataset)} samples of split {config.train_split}. Take fewer."
            )
        if len(self.train_dataset) < config.batch_size:
            raise ConfigError(
                f"data.batch_size: {config.batch_size} is more than the {len(self.train_dataset)} samples of "
                f"split {config.train_split}. Set it to {len(self.train_dataset)} or less."
            )

    def train_dataloader(self) -> SampleLoader:
        """Augmented batches, from `start_step` to the end of the run."""
        items = self._training_items()
        rank, world_size = self._process()
        order = items.order(
            len(self.train_dataset), self.images_per_step, self.steps, self.seed, self.start_step, rank, world_size
        )
        return _loader(items, order, items.collate, worker_count(self.config, world_size))

    def val_dataloader(self) -> SampleLoader:
        """Batches of the validation split as evaluation sees it, each image once over all processes."""
        return evaluation_loader(self._evaluation_items(), self.config, self.eval_batch_size, *self._process())

    def state_dict(self) -> dict[str, Any]:
        """Where training goes on."""
        return {"step": 0 if self.trainer is None else self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there."""
        self.start_step = state_dict["step"]

    @abstractmethod
    def _dataset(self, split: str) -> Images: ...

    @abstractmethod
    def _training_items(self) -> TrainingItems: ...

    @abstractmethod
    def _evaluation_items(self) -> EvaluationItems: ...

    def _process(self) -> tuple[int, int]:
        """Number of this process, and of all."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


class SegmentationDataModule(StepDataModule[DataConfig, SegmentationDataset]):
    """Crops to train a segmenter on, and lists of whole images to measure it by; otherwise as `StepDataModule`.

    Raises:
        ConfigError: an extra transform is wrong, or there is a single class, too.
    """

    def _dataset(self, split: str) -> SegmentationDataset:
        check_extra_transforms(self.config)  # before data are read
        dataset = build_dataset(self.config, split)
        if line := single_class(dataset.labels):
            raise ConfigError(line)
        if not isinstance(dataset, FileDataset):  # which reads no image of another kind
            _check_channels(dataset, self.config, split)
        return cached(dataset, self.config, split)

    def _training_items(self) -> TrainingItems:
        transform = TrainTransform(self.config, self.labels.ignore_index)
        return AugmentedDataset(self.train_dataset, transform, self.seed)

    def _evaluation_items(self) -> EvaluationItems:
        return WholeDataset(self.val_dataset)


class ClassificationDataModule(StepDataModule[ClassificationDataConfig, ClassificationDataset]):
    """Crops to train a classifier on, and the centres of images to measure it by; otherwise as `StepDataModule`.

    A batch is a dictionary: `image`, `target` as in `ClassItem`, and `id`, a list.
    """

    def _dataset(self, split: str) -> ClassificationDataset:
        return build_classification_dataset(self.config, split)

    def _training_items(self) -> TrainingItems:
        alpha = self.config.augmentation.mixup
        mixup = Mixup(alpha, self.labels.num_classes) if alpha else None
        return CroppedDataset(self.train_dataset, TrainView(self.config), self.seed, mixup)

    def _evaluation_items(self) -> EvaluationItems:
        return CentralDataset(self.val_dataset, CenterView(self.config))


def _check_channels(dataset: SegmentationDataset, config: DataConfig, split: str) -> None:
    """Look at the first image of a data set of one's own, before a network is built for other channels than it has."""
    if not len(dataset):
        return
    with named_in_errors(dataset.ids[0]):
        shape = dataset[0].image.shape
    if len(shape) != 3 or shape[2] != config.channels:
        found = f"{shape[2]} channels" if len(shape) == 3 else f"the shape {shape} in place of (H, W, C)"
        advice = f". Say so: data.channels={shape[2]}" if len(shape) == 3 else ""
        raise ConfigError(
            f"data.channels: {config.channels}, but images of {config.name}, split {split}, have {found}{advice}"
        )


def evaluation_loader(
    items: EvaluationItems, config: SharedDataConfig, batch_size: int, rank: int = 0, world_size: int = 1
) -> SampleLoader:
    """Batches of a split, in order, each sample once over all processes; an empty list in a process without samples."""
    batches = BatchSampler(ShardSampler(len(items), rank, world_size), batch_size, drop_last=False)
    # Lightning would leave a process without batches out of the validation, for whose end the others wait.
    order: Any = batches if len(batches) else [[]]
    return _loader(items, order, items.collate, worker_count(config, world_size), stay=True)


def _loader(
    items: Dataset[Any], order: Any, collate: Callable[[list[Any]], Any], workers: int, *, stay: bool = False
) -> SampleLoader:
    """Batches read by so many processes, which `stay` from one pass to the next."""
    return SampleLoader(
        items,
        batch_sampler=order,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=START_METHOD if workers else None,
        worker_init_fn=leave_signals_to_parent,
        generator=torch.Generator(),  # or starting the loader would draw from the global one
        persistent_workers=stay and workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def worker_count(config: SharedDataConfig, world_size: int = 1) -> int:
    """How many processes read and augment for each training process: what the configuration says, or what suits here.

    Where the processor trains, one process is enough: it augments over 100 images a second where training takes a few.
    What is made on the spot is quicker made than handed over. Training processes of one machine share its cores.
    """
    if config.num_workers is not None:
        return config.num_workers
    if spec_of(config).drawn:
        return 0
    if not torch.cuda.is_available():
        return min(1, available_cores() - 1)
    here = min(world_size, torch.cuda.device_count())
    return max(1, min(_MAX_WORKERS, available_cores() // here))
