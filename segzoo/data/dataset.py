"""Data sets by name: the registry, and what all loaders say when something is not there."""

from collections.abc import Callable, Sequence
from pathlib import Path

from segzoo.config.classification_data import AnyDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data.pairs import FileDataset
from segzoo.data.pixels import warn_of_dark
from segzoo.data.regroup import regroup
from segzoo.data.sample import PartwiseDataset, Sample, SegmentationDataset, read_mask
from segzoo.data.tree import is_folder
from segzoo.errors import ConfigError
from segzoo.registry import Registry

__all__ = [
    "DATASETS",
    "DatasetBuilder",
    "PartwiseDataset",
    "Sample",
    "SegmentationDataset",
    "build_dataset",
    "dataset_root",
    "how_to_get",
    "read_mask",
    "register_dataset",
    "unknown_split",
    "without_masks",
]

DatasetBuilder = Callable[[DataConfig, str], SegmentationDataset]

DATASETS: Registry[DatasetBuilder] = Registry("data set")

PREPARED = {"voc": "VOCdevkit", "cityscapes": "cityscapes", "camvid": "camvid", "cifar10": "cifar10"}
"""Data sets that `segzoo prepare-data` gets, and the folder that each becomes."""


def register_dataset(name: str, *, replace: bool = False) -> Callable[[DatasetBuilder], DatasetBuilder]:
    """Decorate a function `(config, split) -> data set` so that `data.name` finds it.

    Args:
        name: value of `data.name`.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken.
    """
    return DATASETS.register(name, replace=replace)


def build_dataset(config: DataConfig, split: str) -> SegmentationDataset:
    """One split of the data set that `config` names, with the classes that its settings leave.

    Args:
        config: the run's `data` section.
        split: "train", "val", or another split the data set has.

    Raises:
        UnknownNameError: no data set is registered under `config.name`.
        ConfigError: the folder or the split does not exist, or a class to ignore or merge.
        DataError: what is in the folder cannot be used.
    """
    dataset = regroup(DATASETS[config.name](config, split), config)
    if isinstance(dataset, FileDataset):
        warn_of_dark([pair.image for pair in dataset.pairs], dataset.pixels)
    return dataset


def dataset_root(config: AnyDataConfig) -> Path:
    """The folder `data.root` names.

    Raises:
        ConfigError: none is named, or it does not exist.
    """
    if not config.root:
        raise ConfigError(f"data.root: not set. {how_to_get(config)}")
    root = Path(config.root).expanduser()
    if not is_folder(root):
        raise ConfigError(f"data.root: no folder '{root}'. {how_to_get(config)}")
    return root


def how_to_get(config: AnyDataConfig) -> str:
    """The end of a message that a data set is not where it was looked for."""
    advice = f"Give the folder of the {config.name} data: data.root=FOLDER"
    if config.name not in PREPARED:
        return advice
    # The tool makes that folder below its own --root.
    root, made = Path(config.root or PREPARED[config.name]), PREPARED[config.name]
    asked = next((str(folder.parent) for folder in (root, root.parent) if folder.name == made), "DIR")
    return f"{advice}. To download it: segzoo prepare-data {config.name} --root {asked}"


def unknown_split(split: str, found: Sequence[str], where: str, instead: str = "") -> ConfigError:
    """The error for a split that is not there, listing those that are.

    Args:
        split: that was asked for.
        found: those that are there.
        where: they were looked for, for the message.
        instead: what to do where a single one is there, besides adding the other.
    """
    listed = ", ".join(sorted(found)) or "none"
    another = "Add it" + (instead or ".") if len(found) == 1 else "Set data.train_split or data.val_split."
    return ConfigError(f"data: no split '{split}' in {where}. Found: {listed}. {another}")


def without_masks(split: str, images: Path) -> ConfigError:
    """The error for a split whose masks only the benchmark's server has."""
    return ConfigError(
        f"data: split '{split}' has no public masks, so that nothing can be trained or measured on it. "
        f"To segment its images: segzoo predict CHECKPOINT {images}"
    )
