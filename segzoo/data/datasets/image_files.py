"""Images in classes that lie in files: a folder for each class, and ImageNet as it is published."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig, ImageNetConfig
from segzoo.config.fields import Section
from segzoo.data.datasets.classes import listed_names
from segzoo.data.datasets.listing import Listing, Problem, empty_split, unlisted_folders
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.datasets.splits import held_out_of_each
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, Pixels
from segzoo.data.reading.tree import composed, files_below, left_out_line, name_of, subfolders
from segzoo.data.sample import ClassesOf
from segzoo.errors import ConfigError, DataError, did_you_mean, printable
from segzoo.files import text_of

_IMAGENET_CLASS = re.compile(r"n\d{8}")
_KAGGLE_IMAGES = Path("Data/CLS-LOC")


@dataclass(frozen=True)
class NamedImage:
    """An image with the names of its classes, and where a list names it ("train.csv:7"), for messages."""

    id: str
    file: Path
    classes: tuple[str, ...]
    place: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """The image."""
        return (self.file,)


class ImageFiles:
    """Images read from files, each when it is asked for."""

    def __init__(
        self, images: Sequence[NamedImage], classes: ClassesOf, labels: LabelSpace, pixels: PixelFormat
    ) -> None:
        self.image_files = tuple(image.file for image in images)
        self.ids = tuple(image.id for image in images)
        self.classes = classes
        self.labels = labels
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.image_files)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The file of an image."""
        return (self.image_files[index],)

    def read_image(self, index: int) -> Pixels:
        """The pixels of an image."""
        return self.pixels.read(self.image_files[index])


def images_from(
    listing: Callable[..., Listing[NamedImage]], several: Callable[..., bool] = lambda *options: False
) -> Callable[..., ImageFiles]:
    """The function to register for a data set of images that its listing names with their classes.

    The classes, in the order of the network's outputs, are those that the listing knows, else those that the
    configuration or the lines of classes.txt name, else those of the training split in the order of the alphabet.

    Args:
        listing: from the `data` section, a split and the data set's options to its images.
        several: from the options to whether an image may have several classes, or none.
    """

    def build(config: ClassificationDataConfig, split: str, *options: Section) -> ImageFiles:
        found = listing(config, split, *options)
        names = found.labels.names if found.labels else config.classes
        names = names or listed_names(dataset_root(config) / "classes.txt")
        if not names:
            training = found if split == config.train_split else listing(config, config.train_split, *options)
            names = tuple(sorted({name for image in training.items for name in image.classes}))
        images = found.checked(_unknown_classes(found, names))
        if not images:
            raise DataError(empty_split(found.where))
        index_of = {composed(name): index for index, name in enumerate(names)}
        named = {image.classes for image in images}  # one tuple for all images of a class: there may be a million
        indices = {classes: tuple(sorted({index_of[name] for name in classes})) for classes in named}
        labels = LabelSpace.of_images(names, multi_label=several(*options))
        return ImageFiles(images, tuple(indices[image.classes] for image in images), labels, PixelFormat.of(config))

    return build


def _unknown_classes(listing: Listing[NamedImage], names: Sequence[str]) -> Iterator[Problem]:
    """A problem for each class that is none of the network's, with its first image."""
    known, said = set(map(composed, names)), set()
    for image in listing.items:
        for name in image.classes:
            if name not in known and name not in said:
                said.add(name)
                line = f"{image.place or image.file}: class '{name}' is none of the run's. {did_you_mean(name, names)}"
                yield Problem("unknown class", line)


def of_split(
    images: Sequence[NamedImage], split: str, config: ClassificationDataConfig, where: Path
) -> list[NamedImage]:
    """The images of one split where nothing divides them: a share of each class's, chosen by their ids, is `val`.

    Raises:
        ConfigError: the split is neither `train` nor `val`.
    """
    if split not in {"train", "val"}:
        raise unknown_split(split, ["train", "val"], str(where))
    groups = [image.classes for image in images]
    held_out = held_out_of_each([image.id for image in images], groups, config.val_fraction, config.split_seed)
    return [image for image in images if (image.id in held_out) == (split == "val")]


def list_image_folder(config: ClassificationDataConfig, split: str) -> Listing[NamedImage]:
    """Images at any depth below a folder for each class: `train/cat/a.jpg`, `val/cat/b.jpg`; or `cat/a.jpg`.

    Without folders for the splits, a share of each class's images (`val_fraction`), chosen by their names alone, is
    `val`, the others are `train`.

    Raises:
        ConfigError: the folder or the split is not there.
    """
    root = dataset_root(config)
    where = f"{root}, split {split}"
    if any((root / name).is_dir() for name in (config.train_split, config.val_split)):  # or they would be classes
        if not (root / split).is_dir():
            found = [path.name for path in subfolders(root)]
            instead = f", or hold out a share of these images (data.val_fraction): data.root={root / found[0]}"
            raise unknown_split(split, found, str(root), instead)
        return _in_class_folders(root / split, where, PixelFormat.of(config).suffixes)
    everything = _in_class_folders(root, where, PixelFormat.of(config).suffixes)
    chosen = tuple(of_split(everything.items, split, config, root))
    return Listing(chosen, everything.problems, where, warnings=everything.warnings if split == "train" else ())


def _in_class_folders(folder: Path, where: str, suffixes: frozenset[str]) -> Listing[NamedImage]:
    classes = subfolders(folder)
    if not classes:
        raise ConfigError(
            f"data.root: '{folder}' has no folder for each class, such as {folder.name}/cat/a.jpg. A table of files "
            "and labels: data.name=csv."
        )
    unlisted: dict[Path, str] = {}
    others: list[Path] = []
    images, warnings = [], []
    for path in classes:
        files = files_below(path, suffixes, unlisted=unlisted, others=others)
        images += [NamedImage(printable(file.relative_to(folder).as_posix()), file, (name_of(path),)) for file in files]
        if not files:
            warnings.append(Problem("empty folder", f"{path}: no image in this folder; left out"))
    if left_out := left_out_line(folder, others):
        warnings.append(Problem("files left out", left_out))
    return Listing(tuple(images), tuple(unlisted_folders(unlisted)), where, warnings=tuple(warnings))


register_dataset("image_folder", task="classification", reads=("classes",), listing=list_image_folder)(
    images_from(list_image_folder)
)


def list_imagenet(config: ClassificationDataConfig, split: str, options: ImageNetConfig) -> Listing[NamedImage]:
    """`train/n01440764/*.JPEG` and `val/n01440764/*.JPEG`; or `val/*.JPEG` with a file that says the classes.

    Classes are the training folders' WordNet numbers in their order, which is that of published weights' outputs. Root
    is the folder of `train` and `val`, or Kaggle's `ILSVRC` with `Data/CLS-LOC`.

    Raises:
        ConfigError: the folder, the split or the file with the classes is not there.
    """
    root = dataset_root(config)
    images = root / _KAGGLE_IMAGES if (root / _KAGGLE_IMAGES).is_dir() else root
    labels = LabelSpace.of_images(_wordnet_numbers(images / config.train_split, config))
    folder = images / split
    if not folder.is_dir():
        raise unknown_split(split, [path.name for path in subfolders(images)], str(images))
    where = f"{images}, split {split}"
    if subfolders(folder):
        listing = _in_class_folders(folder, where, IMAGE_SUFFIXES)
        return Listing(listing.items, listing.problems, where, labels)
    found, problems = _mapped(root, folder, options)
    return Listing(found, problems, where, labels)


def _wordnet_numbers(folder: Path, config: ClassificationDataConfig) -> list[str]:
    names = [path.name for path in subfolders(folder)] if folder.is_dir() else []
    if not names or not all(_IMAGENET_CLASS.fullmatch(name) for name in names):
        raise ConfigError(
            f"data.root: '{folder}' has no folders n01440764, n01443537, ..., as ImageNet's training images have. "
            f"Folders of other names: data.name=image_folder. '{config.train_split}' is data.train_split."
        )
    return names


def _mapped(root: Path, folder: Path, options: ImageNetConfig) -> tuple[tuple[NamedImage, ...], tuple[Problem, ...]]:
    """Images in one folder, with the classes that a file names."""
    if options.val_map is None:
        raise ConfigError(
            f"data.imagenet.val_map: '{folder}' has no folder for each class. Name the file with a line "
            "`ILSVRC2012_val_00000001.JPEG n01751748` for each image, such as Kaggle's LOC_val_solution.csv."
        )
    path = root / options.val_map
    if not path.is_file():
        raise ConfigError(f"data.imagenet.val_map: no file '{path}'")
    lines = [re.split(r"[,\s]+", line.strip()) for line in text_of(path, any_bytes=True).splitlines()]
    named = (line[:2] for line in lines if len(line) >= 2)  # what follows in a line is left out
    classes = {Path(name).stem: wordnet for name, wordnet in named if _IMAGENET_CLASS.fullmatch(wordnet)}
    if not classes:
        raise DataError(f"{path}: no line of the form `ILSVRC2012_val_00000001.JPEG n01751748`")
    images, unnamed = [], []
    for file in files_below(folder, IMAGE_SUFFIXES):
        if file.stem in classes:
            images.append(NamedImage(printable(file.name), file, (classes[file.stem],), str(path)))
        else:
            unnamed.append(Problem("no class", f"{file}: {path.name} does not name it"))
    return tuple(images), tuple(unnamed)


register_dataset("imagenet", task="classification", options=ImageNetConfig, listing=list_imagenet)(
    images_from(list_imagenet)
)
