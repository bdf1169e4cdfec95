"""What a data set is: numbered samples, their ids and their labels; and the registry of data sets by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.registry import Registry


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Args:
        image: 8-bit RGB.
        mask: class indices, and the label space's `ignore_index`.
        id: name that is unique in its split; prediction files are called after it.

    Shape: image (H, W, 3), mask (H, W).
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    id: str


class SegmentationDataset(Protocol):
    """What training and evaluation ask of a data set. Any class with these four members is one."""

    @property
    def labels(self) -> LabelSpace:
        """Classes, colours, ignored value."""

    @property
    def ids(self) -> Sequence[str]:
        """One id per sample, in order, without reading a sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


DatasetBuilder = Callable[[DataConfig, str], SegmentationDataset]

DATASETS: Registry[DatasetBuilder] = Registry("data set")


def register_dataset(name: str) -> Callable[[DatasetBuilder], DatasetBuilder]:
    """Decorate a function `(config, split) -> data set` so that `data.name` finds it.

    Args:
        name: value of `data.name`.

    Raises:
        ValueError: the name is taken.
    """
    return DATASETS.register(name)


def build_dataset(config: DataConfig, split: str) -> SegmentationDataset:
    """One split of the data set that `config` names.

    Args:
        config: the run's `data` section.
        split: "train", "val", or another split the data set has.

    Raises:
        UnknownNameError: no data set is registered under `config.name`.
        ConfigError: the folder or the split does not exist.
        DataError: what is in the folder cannot be used.
    """
    return DATASETS[config.name](config, split)


def dataset_root(config: DataConfig) -> Path:
    """The folder `data.root` names.

    Raises:
        ConfigError: none is named, or it does not exist.
    """
    if config.root is None:
        raise ConfigError(f"data.root: not set. Give the folder of the {config.name} data: data.root=FOLDER")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise ConfigError(f"data.root: no folder '{root}'. Give the folder of the {config.name} data: data.root=FOLDER")
    return root


def unknown_split(split: str, found: Sequence[str], where: str) -> ConfigError:
    """The error for a split that is not there, listing those that are."""
    listed = ", ".join(sorted(found)) or "none"
    return ConfigError(f"data: no split '{split}' in {where}. Found: {listed}. Set data.train_split or data.val_split.")
