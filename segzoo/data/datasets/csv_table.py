"""Tables of images and their classes."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig, CsvConfig
from segzoo.data.datasets.image_files import NamedImage, images_from, of_split
from segzoo.data.datasets.listing import Listing, Problem
from segzoo.data.datasets.spec import dataset_root, register_dataset, unknown_split
from segzoo.data.datasets.splits import listed_twice, spellings
from segzoo.data.reading.tree import composed, files_named, is_file
from segzoo.errors import ConfigError, DataError, did_you_mean
from segzoo.files import text_of

_WHOLE = "labels.csv"
_LISTED_SPLITS = ("train", "val", "test")


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
    tables = sorted({path.stem for path in files_named(root, ".csv")} - {Path(_WHOLE).stem})
    if (root / f"{split}.csv").is_file():
        rows = _Table(root / f"{split}.csv", root, options)
        return rows.listing(rows.images)
    if (root / _WHOLE).is_file():
        return _part(_Table(root / _WHOLE, root, options), split, config)
    if any(name in tables for name in (*_LISTED_SPLITS, config.train_split)):
        instead = (
            f", or rename {tables[0]}.csv to {_WHOLE}: then a share of its images is held out (data.val_fraction)."
        )
        raise unknown_split(split, tables, str(root), instead)
    raise ConfigError(
        f"data.root: '{root}' has neither {config.train_split}.csv nor {_WHOLE}, with the headings "
        f"{options.file_column},{options.label_column}. Folders for classes: data.name=image_folder."
    )


def _part(table: "_Table", split: str, config: ClassificationDataConfig) -> Listing[NamedImage]:
    """The rows of one split in a table of all."""
    if not table.has_splits:
        return table.listing(of_split(table.images, split, config, table.path))
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
        self.has_splits = self.path.name == _WHOLE and self._config.split_column in headings
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
        line = f"'{image.id}' is {_listed(image)} here and {_listed(first)} in {first.place}; {advice}"
        self._add_problem(image.place, "two classes", line)
        return False

    def _add_problem(self, place: str, kind: str, line: str) -> None:
        self._problems.append(Problem(kind, f"{place}: {line}"))


def _listed(image: NamedImage) -> str:
    return ", ".join(image.classes) or "without a class"


register_dataset("csv", task="classification", options=CsvConfig, reads=("classes",), listing=list_csv)(
    images_from(list_csv, several=lambda options: options.multi_label)
)
