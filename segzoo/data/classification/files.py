"""What the data sets of image files share: files below a folder, split, with classes by name."""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.class_lists import listed_names
from segzoo.data.classification.dataset import ImageFiles
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import raise_all
from segzoo.data.pixels import PixelFormat
from segzoo.data.tree import composed
from segzoo.errors import did_you_mean, in_groups

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedImage:
    """An image with the names of its classes.

    Args:
        id: unique in the split.
        file: where it is.
        classes: names.
        place: where it is listed ("train.csv:7"), for messages; empty when no list names it.
    """

    id: str
    file: Path
    classes: tuple[str, ...]
    place: str = ""


@dataclass(frozen=True)
class ImageList:
    """One split as names and lists show it; no pixel is read.

    Args:
        images: in order; every file is there.
        where: the split in words, for messages.
        problems: what keeps the split from being used, one line each.
        warnings: what is odd, and does not.
    """

    images: tuple[NamedImage, ...]
    where: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def dataset(self, names: Sequence[str], config: ClassificationDataConfig, *, several: bool = False) -> ImageFiles:
        """The data set of the split.

        Args:
            names: of the classes, in the order of the network's outputs.
            config: the run's `data` section.
            several: whether an image may have several classes, or none.

        Raises:
            DataError: there are problems, no image, or images of other classes; all lines in one go.
        """
        for warning in in_groups(self.warnings):
            logger.warning("%s", warning)
        raise_all([*self.problems, *self._unknown_classes(names)])
        index_of = {composed(name): index for index, name in enumerate(names)}
        tuples: dict[tuple[str, ...], tuple[int, ...]] = {}  # one for all images of a class: there may be a million
        for image in self.images:
            if image.classes not in tuples:
                tuples[image.classes] = tuple(sorted({index_of[name] for name in image.classes}))
        return ImageFiles(
            files=tuple(image.file for image in self.images),
            ids=tuple(image.id for image in self.images),
            classes=tuple(tuples[image.classes] for image in self.images),
            labels=LabelSpace.of_images(names, multi_label=several),
            where=self.where,
            pixels=PixelFormat.of(config),
        )

    def _unknown_classes(self, names: Sequence[str]) -> Iterator[str]:
        """A line for each class that is none of the network's, with its first image."""
        known, said = set(map(composed, names)), set()
        for image in self.images:
            for name in image.classes:
                if name not in known and name not in said:
                    said.add(name)
                    place = image.place or image.file
                    yield f"{place}: class '{name}' is none of the run's. {did_you_mean(name, names)}"


def stated_names(config: ClassificationDataConfig, root: Path) -> tuple[str, ...]:
    """The classes that the configuration or the lines of classes.txt name; none where only the training split tells.

    Raises:
        DataError: classes.txt is no text.
    """
    return config.classes or listed_names(root / "classes.txt")


def names_in(images: Collection[NamedImage]) -> tuple[str, ...]:
    """The classes of some images, in the order of the alphabet."""
    return tuple(sorted({name for image in images for name in image.classes}))
