"""Images in classes that lie in files: a folder for each class, ImageNet as it is published, and tables."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.config.classification import ClassificationDataConfig, CsvConfig, ImageNetConfig
from segzoo.config.sections import Section
from segzoo.data.datasets.classes import listed_names
from segzoo.data.datasets.listing import Listing, Problem, empty_split, unlisted_folders
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.datasets.splits import held_out_of_each, listed_twice, spellings
from segzoo.data.reading.images import IMAGE_SUFFIXES
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, Pixels
from segzoo.data.reading.tree import composed, files_below, files_named, is_file, left_out_line, name_of, subfolders
from segzoo.data.sample import ClassesOf
from segzoo.errors import ConfigError, DataError, did_you_mean, printable
from segzoo.files import text_of

_IMAGENET_CLASS = re.compile(r"n\d{8}")
_KAGGLE_IMAGES = Path("Data/CLS-LOC")
_WHOLE_TABLE = "labels.csv"
_LISTED_SPLITS = ("train", "val", "test")


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
    """A problem for each class that the network does not have, with its first image."""
    known, said = set(map(composed, names)), set()
    for image in listing.items:
        for name in image.classes:
            if name not in known and name not in said:
                said.add(name)
                line = f"{image.place or image.file}: class '{name}' is none of the run's. {did_you_mean(name, names)}"
                yield Problem("unknown class", line)


def _of_split(
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
    chosen = tuple(_of_split(everything.items, split, config, root))
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


def list_csv(config: ClassificationDataConfig, split: str, options: CsvConfig) -> Listing[NamedImage]:
    """`train.csv` and `val.csv`, or `labels.csv` for all splits, with a column of files and one of classes.

    `labels.csv` may have a column that says which split a row belongs to; without it, a share of each class's images
    (`val_fraction`), chosen by their paths alone, is `val`, the others are `train`. Line endings of any system, a
    byte-order mark and blank lines are fine.

    Raises:
        ConfigError: the folder, the tables or the split are not there.
        DataError: a table cannot be read, or lacks a heading.
    """
    root = dataset_root(config)
    tables = sorted({path.stem for path in files_named(root, ".csv")} - {Path(_WHOLE_TABLE).stem})
    if (root / f"{split}.csv").is_file():
        rows = _Table(root / f"{split}.csv", root, options)
        return rows.listing(rows.images)
    if (root / _WHOLE_TABLE).is_file():
        return _rows_of(_Table(root / _WHOLE_TABLE, root, options), split, config)
    if any(name in tables for name in (*_LISTED_SPLITS, config.train_split)):
        renamed = f", or rename {tables[0]}.csv to {_WHOLE_TABLE}"
        instead = f"{renamed}: then a share of its images is held out (data.val_fraction)."
        raise unknown_split(split, tables, str(root), instead)
    raise ConfigError(
        f"data.root: '{root}' has neither {config.train_split}.csv nor {_WHOLE_TABLE}, with the headings "
        f"{options.file_column},{options.label_column}. Folders for classes: data.name=image_folder."
    )


def _rows_of(table: "_Table", split: str, config: ClassificationDataConfig) -> Listing[NamedImage]:
    """The rows of one split in a table of all."""
    if not table.has_splits:
        return table.listing(_of_split(table.images, split, config, table.path))
    found = sorted(set(table.splits.values()))
    if split not in found:
        raise unknown_split(split, found, str(table.path))
    return table.listing([image for image in table.images if table.splits[image.id] == split])


class _Table:
    """A table read: its sound rows, and what is wrong with the others. Relative paths start from `root`."""

    def __init__(self, path: Path, root: Path, config: CsvConfig) -> None:
        self.path = path
        self.images: list[NamedImage] = []
        self.splits: dict[str, str] = {}
        self.has_splits = False
        self._root = root
        self._config = config
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._seen: dict[str, NamedImage] = {}
        for number, row in self._rows():
            self._add(number, row)

    def listing(self, images: list[NamedImage]) -> Listing[NamedImage]:
        """Some of the images, with all that is wrong with the table."""
        return Listing(tuple(images), tuple(self._problems), str(self.path), warnings=tuple(self._warnings))

    def _rows(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        reader = csv.DictReader(io.StringIO(text_of(self.path), newline=""), restkey="", restval="")
        try:
            headings = [heading.strip() for heading in reader.fieldnames or []]
        except csv.Error as error:
            raise self._unreadable(1, error) from None
        reader.fieldnames = headings
        missing = [name for name in (self._config.file_column, self._config.label_column) if name not in headings]
        if missing:
            keys = {self._config.file_column: "file_column", self._config.label_column: "label_column"}
            raise DataError(
                f"{self.path}:1: no heading '{name}'. {did_you_mean(name, headings)} Another heading: "
                f"data.csv.{keys[name]}=NAME"
                for name in missing
            )
        self.has_splits = self.path.name == _WHOLE_TABLE and self._config.split_column in headings
        try:
            yield from ((reader.line_num, row) for row in reader)
        except csv.Error as error:
            raise self._unreadable(reader.line_num + 1, error) from None

    def _unreadable(self, number: int, error: csv.Error) -> DataError:
        return DataError(f"{self.path}:{number}: no table ({error}). Is a quotation mark left open?")

    def _add(self, number: int, row: Mapping[str, str]) -> None:
        place = f"{self.path}:{number}"
        name = row[self._config.file_column].strip()
        if not name:
            self._add_problem(place, "no file", f"no file in column '{self._config.file_column}'")
            return
        if ".." in re.split(r"[/\\]", name):
            self._add_problem(place, "refused line", f"'{name}' leads out of the data set; remove '..'")
            return
        files = (self._root / spelling for spelling in spellings(name))
        image = NamedImage(name, next(filter(is_file, files), self._root / name), self._classes(row), place)
        if not image.classes and not self._config.multi_label:
            self._add_problem(place, "no class", f"no class in column '{self._config.label_column}'")
        elif not is_file(image.file):
            self._add_problem(place, "missing image", f"no image {image.file}. Add the file or take the line out.")
        elif self.has_splits and not row[self._config.split_column].strip():
            self._add_problem(place, "no split", f"no split in column '{self._config.split_column}'")
        elif self._is_new(image):
            self.images.append(image)
            self.splits[name] = row.get(self._config.split_column, "").strip()

    def _classes(self, row: Mapping[str, str]) -> tuple[str, ...]:
        text = row[self._config.label_column].strip()
        parts = text.split(self._config.separator) if self._config.multi_label else [text]
        return tuple(sorted({composed(part.strip()) for part in parts} - {""}))

    def _is_new(self, image: NamedImage) -> bool:
        """Whether a row is the first one of its image; a second one that says the same does no harm."""
        first = self._seen.setdefault(image.id, image)
        if first is image:
            return True
        if first.classes == image.classes:
            self._warnings.append(listed_twice(image.id, image.place))
            return False
        advice = "name its classes in one row" if self._config.multi_label else "keep the right row"
        line = f"'{image.id}' is {_shown(image)} here and {_shown(first)} in {first.place}; {advice}"
        self._add_problem(image.place, "two classes", line)
        return False

    def _add_problem(self, place: str, kind: str, line: str) -> None:
        self._problems.append(Problem(kind, f"{place}: {line}"))


def _shown(image: NamedImage) -> str:
    return ", ".join(image.classes) or "without a class"


register_dataset("csv", task="classification", options=CsvConfig, reads=("classes",), listing=list_csv)(
    images_from(list_csv, several=lambda options: options.multi_label)
)
