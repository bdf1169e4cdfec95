"""From the values in a folder's masks to classes, and to the keys that say so."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segzoo.data.doctor.scan import facts_labels
from segzoo.data.folder_labels import listed_names
from segzoo.data.labels import IGNORED, LabelSpace
from segzoo.data.make_config.facts import Facts
from segzoo.errors import DataError

_MOST_CLASSES = 64  # more values than this are shades, not classes
_NAMES_FILES = ("classes.txt", "class_names.txt", "labels.txt")


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Args:
        names: one for each class.
        pixels: of each class in the training masks.
        key: the key that states them ("data.classes", "data.folder.colors"); empty where the data set knows them.
        values: what stands for each class in the masks: numbers, or colours.
        reason: why so, in words.
        offset: what is subtracted from the numbers in the masks.
        multi_label: whether a pixel may have several.
    """

    names: tuple[str, ...]
    pixels: tuple[int, ...]
    key: str
    values: tuple[int | list[int], ...]
    reason: str
    offset: int = 0
    multi_label: bool = False

    @property
    def nameless(self) -> bool:
        """Whether the classes have numbers for names, because nothing says what they are."""
        return len(self.names) > 2 and self.names == _made_up_names(len(self.names))


def choose_classes(facts: Facts, root: Path) -> Classes:
    """What the values in the masks most likely mean.

    Args:
        facts: of the data set.
        root: folder that may hold a list of names.

    Raises:
        DataError: the values cannot be classes.
    """
    if facts.labels is not None:
        known = _known_pixels(facts_labels(facts.labels), facts.train_values)
        if facts.labels.multi_label:
            names, reason = facts.labels.names, "the folders of the masks"
            return Classes(names, known, "data.classes", (), reason, multi_label=True)
        return Classes(facts.labels.names, known, "", (), f"the {facts.labels.num_classes} classes of the data set")
    values = sorted(facts.values)
    if len(values) > _MOST_CLASSES:
        kind = "colours" if facts.colored else "values"
        raise DataError(
            f"{root}: the masks hold {len(values)} different {kind}; smoothed borders or a lossy format spoil masks. "
            f"Save them again without smoothing, one value for each class."
        )
    if len(values) < 2:
        raise DataError(f"{root}: all masks hold the single value {values[0]}; there is nothing to tell apart")
    if facts.colored:
        return _by_color(values, facts.train_values, _listed_names(root))
    return _by_number(values, facts.train_values, _listed_names(root))


def _by_color(values: Sequence[int], pixels: Counter[int], listed: Sequence[str]) -> Classes:
    colors: list[int | list[int]] = [[value >> 16, value >> 8 & 255, value & 255] for value in values]
    names = _names(len(values), listed)
    counts = tuple(pixels[value] for value in values)
    return Classes(names, counts, "data.folder.colors", tuple(colors), f"the masks hold {len(values)} colours")


def _by_number(values: Sequence[int], pixels: Counter[int], listed: Sequence[str]) -> Classes:
    numbers = [value for value in values if value != IGNORED]
    if len(numbers) < 2 or max(numbers) >= 4 * len(numbers):  # 0 and 255, or gray levels: 255 is one of them
        numbers = list(values)
    counts = tuple(pixels[value] for value in numbers)
    if numbers[-1] == len(listed):  # one number more than names: 0 has none, as in ADE20K
        counts = tuple(pixels[value + 1] for value in range(len(listed)))
        reason = f"the masks hold up to {len(listed)}, and there are {len(listed)} names: 0 is unlabelled, and ignored"
        return Classes(tuple(listed), counts, "data.classes", (), reason, offset=1)
    if numbers == list(range(len(numbers))) or (len(numbers) < len(listed) and max(numbers) < len(listed)):
        names = tuple(listed) if len(listed) >= len(numbers) else _names(len(numbers), ())
        counts = tuple(pixels[value] for value in range(len(names)))
        ignored = ", 255 is ignored" if IGNORED in values else ""
        return Classes(names, counts, "data.classes", (), f"the masks hold 0 to {max(numbers)}{ignored}")
    names = _names(len(numbers), listed)
    shown = ", ".join(map(str, values))
    return Classes(names, counts, "data.folder.mask_values", tuple(numbers), f"the masks hold {shown}")


def _known_pixels(labels: LabelSpace, pixels: Counter[int]) -> tuple[int, ...]:
    """Pixels of each class where the data set says what its values mean."""
    values = np.array(sorted(pixels))
    counts = np.array([pixels[value] for value in sorted(pixels)])
    refusal = labels.refusal(values, counts)
    if refusal is not None:
        raise DataError(f"masks: {refusal}")
    total = np.zeros(256, dtype=np.int64)
    np.add.at(total, labels.encode(values), counts)
    return tuple(total[: labels.num_classes].tolist())


def _names(count: int, listed: Sequence[str]) -> tuple[str, ...]:
    return tuple(listed) if len(listed) == count else _made_up_names(count)


def _made_up_names(count: int) -> tuple[str, ...]:
    return ("background", "object") if count == 2 else tuple(f"class_{index}" for index in range(count))


def _listed_names(root: Path) -> tuple[str, ...]:
    """The names in a file beside the images, if there is one."""
    for path in (root / name for name in _NAMES_FILES):
        if names := listed_names(path):
            return names
    return ()
