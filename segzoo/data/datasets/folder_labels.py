"""Which classes a folder's masks hold: stated in the configuration or a file, or read off the masks."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from segzoo.config.schema import DataConfig, FolderConfig
from segzoo.data.datasets.class_lists import listed_names
from segzoo.data.datasets.pairs import Pair
from segzoo.data.reading.class_masks import class_mask_labels
from segzoo.data.reading.images import read_mask
from segzoo.data.reading.labels import IGNORED, LabelSpace, color_number, voc_palette
from segzoo.errors import ConfigError, DataError


def stated_labels(config: DataConfig, root: Path) -> LabelSpace | None:
    """The classes that the configuration or classes.txt names; None where only the masks or their folders can tell.

    Args:
        config: `folder.mask_values` or `folder.colors`, else `classes`, else the lines of classes.txt name the classes.
        root: folder with classes.txt.

    Raises:
        ConfigError: a value or colour is given to two classes.
        DataError: classes.txt is no text.
    """
    folder = config.folder
    if folder.mask_values is not None:
        return _labels_of_values(folder.mask_values, folder.ignore_value or ())
    if folder.colors is not None:
        raw_ids = tuple((color_number(color), index) for index, color in enumerate(folder.colors.values()))
        return LabelSpace(tuple(folder.colors), tuple(folder.colors.values()), raw_ids=raw_ids, raw_colors=True)
    names = config.classes or listed_names(root / "classes.txt")
    if folder.multi_label:
        return class_mask_labels(names, folder.ignore_value) if names else None
    return _labels_counting_up(names, folder) if names else None


def infer_labels(values: Iterable[int], config: DataConfig) -> LabelSpace:
    """Classes class_0, class_1, ... up to the largest value in the training masks, ignored ones aside.

    Args:
        values: all that the masks hold.
        config: the run's `data` section.

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


def refuse_binary(masks: Iterable[Iterable[int]], where: str) -> None:
    """255 is the ignored value, so that 0/255 pictures would pass for masks without an object.

    Args:
        masks: the values of each mask; read until one shows a class above 0, most often a single one.
        where: the data set, for messages.

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
    """The values in a mask's file. Remembered while the file stays as it is, for every split asks for the same ones.

    Raises:
        DataError: the file is damaged, or no mask of numbers.
    """
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


def _labels_of_values(mask_values: dict[str, tuple[int, ...]], ignored: Sequence[int]) -> LabelSpace:
    of_classes = {value: index for index, values in enumerate(mask_values.values()) for value in values}
    pairs = [(value, index) for index, values in enumerate(mask_values.values()) for value in values]
    pairs += [(value, IGNORED) for value in dict.fromkeys((*ignored, IGNORED)) if value not in of_classes]
    return LabelSpace(tuple(mask_values), voc_palette(len(mask_values)), raw_ids=tuple(pairs))


def _labels_counting_up(names: Sequence[str], folder: FolderConfig) -> LabelSpace:
    """Classes whose values in the masks count up from the offset; those below it are ignored.

    Raises:
        ConfigError: the number of a class is to be ignored.
    """
    labels = LabelSpace.from_names(names)
    offset, stated = folder.mask_offset, folder.ignore_value or ()
    if offset == 0 and not stated:
        return labels
    of_classes = {index + offset: index for index in range(len(names))}
    for value in stated:
        if value in of_classes:
            raise ConfigError(
                f"data.folder.ignore_value: {value} is the number of class {names[of_classes[value]]}; name the class "
                "in data.ignore_classes, or state the numbers of all classes in data.folder.mask_values"
            )
    ignored = dict.fromkeys((*range(offset), *stated, IGNORED))
    pairs = [*of_classes.items(), *((value, IGNORED) for value in ignored if value not in of_classes)]
    return LabelSpace(labels.names, labels.palette, raw_ids=tuple(pairs))


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
