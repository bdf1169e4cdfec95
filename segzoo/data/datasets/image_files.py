"""What the data sets of image files share: files below a folder, split, with classes by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.datasets.class_lists import listed_names
from segzoo.data.datasets.listing import Listing, Problem
from segzoo.data.datasets.pairs import empty_split
from segzoo.data.datasets.spec import dataset_root
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import RGB8, PixelFormat, Pixels
from segzoo.data.reading.tree import composed
from segzoo.data.sample import ClassesOf
from segzoo.errors import DataError, did_you_mean


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

    @property
    def files(self) -> tuple[Path, ...]:
        """The image."""
        return (self.file,)


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
        self.image_files = files
        self.ids = ids
        self.classes = classes
        self.labels = labels
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.image_files)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The file of an image."""
        return (self.image_files[index],)

    def read_image(self, index: int) -> Pixels:
        """Read an image.

        Raises:
            DataError: the file is missing or damaged.
        """
        return self.pixels.read(self.image_files[index])


def image_files(
    list_split: Callable[[str], Listing[NamedImage]],
    config: ClassificationDataConfig,
    split: str,
    *,
    several: bool = False,
) -> ImageFiles:
    """One split of a data set of image files.

    The classes, in the order of the network's outputs, are those that the listing knows, else those that the
    configuration or the lines of classes.txt name, else those of the training split in the order of the alphabet.

    Args:
        list_split: the images of a split by its name.
        config: the run's `data` section.
        split: which one.
        several: whether an image may have several classes, or none.

    Raises:
        ConfigError: the folder or the split is not there.
        DataError: there are problems, no image, or images of other classes; all lines in one go.
    """
    listing = list_split(split)
    names = listing.labels.names if listing.labels else config.classes
    names = names or listed_names(dataset_root(config) / "classes.txt")
    if not names:
        training = listing if split == config.train_split else list_split(config.train_split)
        names = tuple(sorted({name for image in training.items for name in image.classes}))
    images = listing.checked(_unknown_classes(listing, names))
    index_of = {composed(name): index for index, name in enumerate(names)}
    tuples: dict[tuple[str, ...], tuple[int, ...]] = {}  # one for all images of a class: there may be a million
    for image in images:
        if image.classes not in tuples:
            tuples[image.classes] = tuple(sorted({index_of[name] for name in image.classes}))
    return ImageFiles(
        files=tuple(image.file for image in images),
        ids=tuple(image.id for image in images),
        classes=tuple(tuples[image.classes] for image in images),
        labels=LabelSpace.of_images(names, multi_label=several),
        where=listing.where,
        pixels=PixelFormat.of(config),
    )


def _unknown_classes(listing: Listing[NamedImage], names: Sequence[str]) -> Iterator[Problem]:
    """A problem for each class that is none of the network's, with its first image."""
    known, said = set(map(composed, names)), set()
    for image in listing.items:
        for name in image.classes:
            if name not in known and name not in said:
                said.add(name)
                line = f"{image.place or image.file}: class '{name}' is none of the run's. {did_you_mean(name, names)}"
                yield Problem("unknown class", line)
