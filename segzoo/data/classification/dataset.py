"""What a data set for classification is, and those there are, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.images import Array8
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import empty_split
from segzoo.data.pixels import RGB8, PixelFormat, Pixels, warn_of_dark
from segzoo.errors import DataError
from segzoo.registry import Registry

ClassesOf = Sequence[tuple[int, ...]]
"""The classes of each image: one, or, where the label space says so, any number of them."""


class ClassificationDataset(Protocol):
    """What training and evaluation ask of a data set. Any class with these members is one."""

    @property
    def labels(self) -> LabelSpace:
        """The classes, without colours (`LabelSpace.of_images`)."""

    @property
    def ids(self) -> Sequence[str]:
        """One id per image, unique in the split, in order, without reading an image."""

    @property
    def classes(self) -> ClassesOf:
        """The classes of each image, without reading it."""

    def __len__(self) -> int: ...

    def read_image(self, index: int) -> Pixels:
        """The pixels of an image. Shape: (H, W, C)."""


ClassificationBuilder = Callable[[ClassificationDataConfig, str], ClassificationDataset]

CLASSIFICATION_DATASETS: Registry[ClassificationBuilder] = Registry("data set for classification")


def register_classification_dataset(
    name: str, *, replace: bool = False
) -> Callable[[ClassificationBuilder], ClassificationBuilder]:
    """Decorate a function `(config, split) -> data set` so that `data.name` finds it in classification runs.

    Args:
        name: value of `data.name`.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken.
    """
    return CLASSIFICATION_DATASETS.register(name, replace=replace)


def build_classification_dataset(config: ClassificationDataConfig, split: str) -> ClassificationDataset:
    """One split of the data set that `config` names.

    Args:
        config: the run's `data` section.
        split: "train", "val", or another split the data set has.

    Raises:
        UnknownNameError: no data set is registered under `config.name`.
        ConfigError: the folder or the split does not exist.
        DataError: what is there cannot be used; all problems in one go.
    """
    dataset = CLASSIFICATION_DATASETS[config.name](config, split)
    if isinstance(dataset, ImageFiles):
        warn_of_dark(dataset.files, dataset.pixels)
    return dataset


class ImageFiles:
    """Images read from files, each when it is asked for.

    Args:
        files: of the images, in order.
        ids: of the images.
        classes: of the images.
        labels: the classes.
        where: the split in words, for messages.
        pixels: what the files become.

    Raises:
        DataError: there is no image.
    """

    def __init__(
        self,
        files: Sequence[Path],
        ids: Sequence[str],
        classes: ClassesOf,
        labels: LabelSpace,
        where: str,
        pixels: PixelFormat = RGB8,
    ) -> None:
        if not files:
            raise DataError(empty_split(where))
        self.files = files
        self.ids = ids
        self.classes = classes
        self.labels = labels
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.files)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The file of an image."""
        return (self.files[index],)

    def read_image(self, index: int) -> Pixels:
        """Read an image.

        Raises:
            DataError: the file is missing or damaged.
        """
        return self.pixels.read(self.files[index])


class ImageArrays:
    """Images that are in memory.

    Args:
        images: 8-bit RGB, (N, H, W, 3).
        classes: of the images.
        labels: the classes.
        ids: of the images.
    """

    def __init__(self, images: Array8, classes: ClassesOf, labels: LabelSpace, ids: Sequence[str]) -> None:
        self.images = images
        self.classes = classes
        self.labels = labels
        self.ids = ids

    def __len__(self) -> int:
        return len(self.images)

    def read_image(self, index: int) -> Pixels:
        """An image of its own memory."""
        return np.array(self.images[index], order="C")
