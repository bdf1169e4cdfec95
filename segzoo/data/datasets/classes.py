"""Which classes a data set has: as a file beside it names them, as stated, read off its masks, left out or merged."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from segzoo.config.load import read_yaml
from segzoo.config.schema import DataConfig, FolderConfig
from segzoo.data.datasets.listing import FileDataset, Pair
from segzoo.data.reading.coding import Color
from segzoo.data.reading.labels import IGNORED, LabelSpace, color_number, voc_palette
from segzoo.data.reading.masks import read_mask
from segzoo.data.reading.tree import is_file
from segzoo.data.sample import Sample, SegmentationDataset
from segzoo.errors import ConfigError, DataError
from segzoo.files import text_of

_COLOR_MAP = "labelmap.txt"
_NAME_LISTS = ("classes.txt", "class_names.txt", "labels.txt")
_YAML_LISTS = ("data.yaml", "dataset.yaml")
_NO_CLASS = "__ignore__"  # labelme's first line, for what it stores as 255
_COLOR_LINE = re.compile(r"(?P<name>.+?)\s*:\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)\s*(:.*)?")


@dataclass(frozen=True)
class ClassList:
    """Classes that a file names, as annotation programs write it beside images and masks.

    Args:
        file: its name; empty where there is none.
        names: in the order of the file.
        colors: one for each name where the file says them, else none.
        objects: whether the file names objects only, so that the masks may hold a background besides.
    """

    file: str = ""
    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    objects: bool = False


def find_class_list(root: Path) -> ClassList:
    """The classes that a file in a folder names: CVAT's labelmap.txt, a list of names, or the data.yaml of YOLO.

    Raises:
        DataError: the file is no text, or no YAML.
    """
    return next((found for found in _lists(root) if found.names), ClassList())


def _lists(root: Path) -> Iterator[ClassList]:
    lines = listed_names(root / _COLOR_MAP)
    matches = [_COLOR_LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    parts = [match for match in matches if match]
    if len(parts) == len(matches):
        colors = tuple(_color(part["color"]) for part in parts)
        yield ClassList(_COLOR_MAP, tuple(part["name"] for part in parts), colors)
    for name in (*_NAME_LISTS, _COLOR_MAP):
        names = listed_names(root / name)
        yield ClassList(name, names[1:] if names[:1] == (_NO_CLASS,) else names)
    for name in _YAML_LISTS:
        yield ClassList(name, _yaml_names(root / name), objects=True)


def listed_names(path: Path) -> tuple[str, ...]:
    """The names in a file, one a line; none where there is no such file."""
    if not is_file(path):
        return ()
    return tuple(line.strip() for line in text_of(path).splitlines() if line.strip())


def _color(text: str) -> Color:
    red, green, blue = (min(int(level), 255) for level in text.split(","))
    return red, green, blue


def _yaml_names(path: Path) -> tuple[str, ...]:
    """The names of a data.yaml: a list, or a mapping from numbers."""
    if not path.is_file():
        return ()
    try:
        names = read_yaml(path).get("names")
    except ConfigError as error:
        raise DataError(error.problems) from None
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names, key=int)] if all(str(key).isdigit() for key in names) else []
    return tuple(map(str, names)) if isinstance(names, Sequence) and not isinstance(names, str) else ()


def stated_labels(config: DataConfig, root: Path) -> LabelSpace | None:
    """The classes that the configuration or classes.txt names; None where only the masks or their folders can tell.

    These are `folder.mask_values` or `folder.colors`, else `classes`, else the lines of classes.txt in `root`.

    Raises:
        ConfigError: a value or colour is given to two classes.
        DataError: classes.txt is no text.
    """
    folder = config.folder
    if folder.mask_values is not None:
        pairs = [(value, index) for index, values in enumerate(folder.mask_values.values()) for value in values]
        raw_ids = _with_ignored(pairs, folder.ignore_value or ())
        return LabelSpace(tuple(folder.mask_values), voc_palette(len(folder.mask_values)), raw_ids=raw_ids)
    if folder.colors is not None:
        raw_ids = tuple((color_number(color), index) for index, color in enumerate(folder.colors.values()))
        return LabelSpace(tuple(folder.colors), tuple(folder.colors.values()), raw_ids=raw_ids, raw_colors=True)
    names = config.classes or listed_names(root / "classes.txt")
    if folder.multi_label:
        return LabelSpace.of_class_masks(names, folder.ignore_value) if names else None
    return _labels_counting_up(names, folder) if names else None


def infer_labels(values: Iterable[int], config: DataConfig) -> LabelSpace:
    """Classes class_0, class_1, ... up to the largest of the values in the training masks, ignored ones aside.

    Raises:
        DataError: the values do not look like class numbers.
    """
    offset = config.folder.mask_offset
    found = set(values)
    classes = {value - offset for value in found - {IGNORED, *(config.folder.ignore_value or ())} if value >= offset}
    # Numbers with wide gaps are gray levels or another set's ids.
    if not classes - {0} or max(classes) >= 4 * len(classes):
        raise _not_counting_up(found, str(config.root))
    return _labels_counting_up([f"class_{index}" for index in range(max(classes) + 1)], config.folder)


def check_not_binary(masks: Iterable[Iterable[int]], where: str) -> None:
    """Refuse 0/255 pictures: as 255 is the ignored value, they would pass for masks without an object.

    Masks, given by their values, are read until one shows a class above 0, most often a single one.

    Raises:
        DataError: no mask holds more than 0 and 255.
    """
    seen: set[int] = set()
    for values in masks:
        seen.update(values)
        if not seen <= {0, IGNORED}:
            return
    if IGNORED in seen:
        raise _not_counting_up(seen, where)


def mask_values(pair: Pair) -> frozenset[int]:
    """The values in a mask's file. Remembered while the file stays as it is, for every split asks for the same ones."""
    try:
        status = pair.mask.stat()
    except OSError as error:
        raise DataError(f"{pair.mask}: {error.strerror}") from error
    return _values_in(pair.mask, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _values_in(path: Path, size: int, changed: int) -> frozenset[int]:
    mask = read_mask(path)
    if mask.dtype == np.uint8:  # counting is much quicker than np.unique's sorting
        return frozenset(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist())
    return frozenset(np.unique(mask).tolist())


def _labels_counting_up(names: Sequence[str], folder: FolderConfig) -> LabelSpace:
    """Classes whose values in the masks count up from the offset; those below it are ignored."""
    labels = LabelSpace.from_names(names)
    offset, stated = folder.mask_offset, folder.ignore_value or ()
    if offset == 0 and not stated:
        return labels
    for value in stated:
        if value - offset in range(len(names)):
            raise ConfigError(
                f"data.folder.ignore_value: {value} is the number of class {names[value - offset]}; name the class in "
                "data.ignore_classes, or state the numbers of all classes in data.folder.mask_values"
            )
    pairs = [(index + offset, index) for index in range(len(names))]
    return LabelSpace(labels.names, labels.palette, raw_ids=_with_ignored(pairs, (*range(offset), *stated)))


def _with_ignored(pairs: list[tuple[int, int]], ignored: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Values of classes, and besides them those that are ignored: the stated ones and 255."""
    of_classes = dict(pairs)
    return (*pairs, *((value, IGNORED) for value in dict.fromkeys((*ignored, IGNORED)) if value not in of_classes))


def _not_counting_up(values: set[int], where: str) -> DataError:
    found = sorted(values)
    if values <= {0, IGNORED}:
        mapping = f"background: 0, object: {IGNORED}"
    else:
        mapping = ", ".join(f"class_{index}: {value}" for index, value in enumerate(found[:12]))
    return DataError(
        f"{where}: the masks hold only the values {', '.join(map(str, found[:12]))}, which are no class numbers 0, 1, "
        f"2, ... Say what they mean: data.folder.mask_values={{{mapping}}}, or write class numbers into the masks "
        "(1 in place of 255 where there is one class), and 255 only for pixels to ignore."
    )


def regroup(dataset: SegmentationDataset, config: DataConfig) -> SegmentationDataset:
    """The data set with the classes that `regrouped_labels` leaves; no file changes."""
    labels = regrouped_labels(dataset.labels, config)
    if labels is dataset.labels:
        return dataset
    if isinstance(dataset, FileDataset):  # what stands in its files maps to the new classes at once
        return dataset.with_labels(labels)
    return _RegroupedDataset(dataset, config)


def regrouped_labels(labels: LabelSpace, config: DataConfig) -> LabelSpace:
    """The classes that `data.ignore_classes` and `data.merge_classes` leave.

    Raises:
        ConfigError: a name is no class of the data set.
    """
    if not config.ignore_classes and not config.merge_classes:
        return labels
    return labels.regrouped(config.ignore_classes or (), config.merge_classes or {})


class _RegroupedDataset:
    """Samples of another data set, their masks in the new classes."""

    def __init__(self, dataset: SegmentationDataset, config: DataConfig) -> None:
        self._dataset = dataset
        self._from_old = regrouped_labels(dataset.labels.of_indices(), config)
        self.labels = self._from_old.of_indices()

    @property
    def ids(self) -> Sequence[str]:
        return self._dataset.ids

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return Sample(sample.image, self._from_old.encode(np.asarray(sample.mask)), sample.id)


def single_class(labels: LabelSpace) -> str | None:
    """The line for classes of which every pixel, or image, would have the same one; None where there are several."""
    if labels.coding.num_values > 1:
        return None
    return (
        f"data: '{labels.names[0]}' is the only class, so that there is nothing to tell apart. Leave at least two of "
        "those that the data set, data.classes or data.folder name (data.ignore_classes, data.merge_classes)."
    )
