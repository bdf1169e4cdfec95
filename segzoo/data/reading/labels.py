"""What the numbers in a mask mean: names, colours, the ignored value, and raw ids on disk."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.data.reading.coding import ClassMasks, Color, IndexMap, MaskCoding
from segzoo.data.reading.masks import read_stored_mask
from segzoo.errors import ConfigError, DataError, did_you_mean

IGNORED = 255
"""Value of ignored pixels, in memory and in most data sets' files."""
_NOTHING = -1  # what is ignored where every number is a class
_REFUSED = 0  # in the table of raw values, where every class index stands one higher
_CITYSCAPES_CLASSES = 19
_LAST_CITYSCAPES_ID = 33
LARGEST_RAW = 2**24 - 1
"""The largest number, and with a minus the lowest, that may stand for a class: three bytes, a colour as one number."""
_SHOWN = 8  # values in a message
_PRESENT = (1, 255)  # what stands for the presence of a class in a file of its own
_WHITE = 0xFFFFFF


def voc_palette(count: int) -> tuple[Color, ...]:
    """The bit-interleaved colour map of Pascal VOC, of at most 256 colours.

    Source: VOCdevkit, VOClabelcolormap.m.

    >>> voc_palette(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    return tuple(_voc_color(index) for index in range(count))


def _voc_color(index: int) -> Color:
    """Bits 0, 3, 6 of the index give red its bits 7, 6, 5; bits 1, 4, 7 green; bits 2, 5, 8 blue."""
    channels = [0, 0, 0]
    for bit in range(9):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]


def color_number(color: Color) -> int:
    """A colour as one number, as masks whose raw values are colours hold it.

    >>> hex(color_number((255, 128, 0)))
    '0xff8000'
    """
    red, green, blue = color
    return red << 16 | green << 8 | blue


def shown_color(number: int) -> str:
    """A colour that is one number, as the configuration writes it.

    >>> shown_color(0xff8000)
    '[255, 128, 0]'
    """
    return f"[{number >> 16}, {number >> 8 & 255}, {number & 255}]"


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set, from its files on disk to the masks a model predicts.

    Args:
        names: one name per class.
        palette: one RGB colour per class, 0 to 255.
        ignore_index: value of pixels that no loss and no metric counts.
        raw_ids: (value on disk, class index or `ignore_index`) pairs. Empty: files hold class indices and
            `ignore_index` themselves. Otherwise a value that no pair names is refused.
        raw_colors: files are coloured pictures, and the values of `raw_ids` are colours (`color_number`).
        multi_label: a pixel, or an image, may have several classes or none. Each class then has a mask of 0 where it is
            absent, 1 where it is present, and `ignore_index`; the pairs of `raw_ids` lead to these.
        whole_images: no mask shows the classes, which are those of whole images: any number of them, without colours.

    Raises:
        ConfigError: names repeat, colours are missing, or an index does not fit 8 bits.

    >>> labels = LabelSpace.from_names(["road", "car"])
    >>> labels.encode(np.array([[0, 1, 255]]))
    array([[  0,   1, 255]], dtype=uint8)
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = IGNORED
    raw_ids: tuple[tuple[int, int], ...] = ()
    raw_colors: bool = False
    multi_label: bool = False
    whole_images: bool = False

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(f"classes: {problem}" for problem in problems)

    @classmethod
    def from_names(cls, names: Sequence[str], *, multi_label: bool = False) -> "LabelSpace":
        """A label space with the default colours, whose files hold class indices; or 0 and 1, one for each class."""
        # VOC's first colour, black, is its background's; here every class is something to see.
        palette = voc_palette(len(names) + 1)[1:] if multi_label else voc_palette(len(names))
        return cls(names=tuple(names), palette=palette, multi_label=multi_label)

    @classmethod
    def of_class_masks(cls, names: Sequence[str], ignored: Sequence[int] | None) -> "LabelSpace":
        """Classes with a file each, which holds 0, and 1 or 255 where the class is present.

        Pixels of the values `ignored` do not count; 255 means only that where it is among them.
        """
        values = {0: 0, **dict.fromkeys(_PRESENT, 1), **dict.fromkeys(ignored or (), IGNORED)}
        return replace(cls.from_names(names, multi_label=True), raw_ids=tuple(values.items()))

    @classmethod
    def of_images(cls, names: Sequence[str], *, multi_label: bool = False) -> "LabelSpace":
        """Any number of classes of whole images, which no mask shows, and which have no colours."""
        return cls(names=tuple(names), palette=(), multi_label=multi_label, whole_images=True)

    @property
    def num_classes(self) -> int:
        """How many classes there are, without the ignored value."""
        return len(self.names)

    @cached_property
    def coding(self) -> MaskCoding:
        """How masks in memory hold the classes, and all that depends on it."""
        kind = ClassMasks if self.multi_label else IndexMap
        return kind(self.names, self.palette, _NOTHING if self.whole_images else self.ignore_index)

    def is_like(self, other: "LabelSpace") -> bool:
        """Whether a network for the other classes predicts these, too."""
        return (self.names, self.multi_label) == (other.names, other.multi_label)

    def encode(self, raw_mask: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Turn the values of a mask file into class indices and `ignore_index`.

        Shape: (H, W), kept.

        Raises:
            DataError: a value means nothing here. The message lists values with their pixel counts; the
                caller adds the file's name.
        """
        if raw_mask.dtype == np.uint8 and raw_mask.size and self._refused_byte is not None:
            encoded_bytes = cv2.LUT(raw_mask, self._encoded_bytes)  # in a fifth of the time
            if not (encoded_bytes == self._refused_byte).any():
                return np.asarray(encoded_bytes, dtype=np.uint8)
        last, lowest = len(self._table) - 1, self._lowest
        if raw_mask.min(initial=0) >= lowest:
            above = raw_mask.astype(np.int64) - lowest if lowest else raw_mask
            in_table = above if np.iinfo(above.dtype).max <= last else np.minimum(above, last)
            encoded = self._table[in_table]
            if encoded.min(initial=1) != _REFUSED:
                return (encoded - 1).astype(np.uint8)
        raise DataError(self.refusal(*np.unique(raw_mask, return_counts=True)) or "not readable as a mask")

    def refusal(self, values: npt.NDArray[np.integer], counts: npt.NDArray[np.integer]) -> str | None:
        """Which of a mask's different values mean nothing here, how often they are there, and what may be done.

        None where all of them mean something. Values and counts may be those of many masks together.
        """
        found = zip(values.tolist(), counts.tolist(), strict=True)
        wrong = [(value, count) for value, count in found if value not in self.meanings]
        if not wrong:
            return None
        listed = ", ".join(f"{self._shown(value)} ({count} px)" for value, count in wrong[:_SHOWN])
        more = f" and {len(wrong) - _SHOWN} more values" if len(wrong) > _SHOWN else ""
        kind = "color" if self.raw_colors else "value"
        return f"{kind} {listed}{more} is no class. {self._hint(set(values.tolist()))}"

    @cached_property
    def meanings(self) -> Mapping[int, int]:
        """Value on disk to class index or `ignore_index`, written out."""
        indices = (*range(self.coding.num_values), self.ignore_index)
        return dict(self.raw_ids or zip(indices, indices, strict=True))

    def of_indices(self) -> "LabelSpace":
        """The same classes, for masks that hold class indices and `ignore_index` themselves."""
        return replace(self, raw_ids=(), raw_colors=False)

    def regrouped(self, ignored: Sequence[str], merged: Mapping[str, Sequence[str]]) -> "LabelSpace":
        """The classes that remain when some count as ignored and others become one; files stay as they are.

        Args:
            ignored: names of classes whose pixels become `ignore_index`.
            merged: a new name to the names it replaces; the new class takes the place and colour of the first.

        Raises:
            ConfigError: there is no class of a name, or it is used twice; all problems in one go.

        >>> labels = LabelSpace.from_names(["void", "car", "road", "bus"])
        >>> labels.regrouped(["void"], {"vehicle": ["car", "bus"]}).names
        ('vehicle', 'road')
        """
        problems = list(self._regroup_problems(ignored, merged))
        if problems:
            raise ConfigError(problems)
        new_names = {old: new for new, members in merged.items() for old in members}
        kept = {name: new_names.get(name, name) for name in self.names if name not in set(ignored)}
        names = list(dict.fromkeys(kept.values()))
        colors = {new: self.palette[self.names.index(old)] for old, new in reversed(kept.items())}
        indices = {self.names.index(old): names.index(new) for old, new in kept.items()}
        raw_ids = tuple((raw, indices.get(index, self.ignore_index)) for raw, index in self.meanings.items())
        palette = tuple(colors[name] for name in names)
        return LabelSpace(tuple(names), palette, self.ignore_index, raw_ids, self.raw_colors)

    def flat_palette(self) -> list[int]:
        """256 colours in a row, as Pillow's `putpalette` takes them."""
        return self.coding.flat_palette()

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types, for checkpoints and reports."""
        return {
            "names": list(self.names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
            "raw_ids": [list(pair) for pair in self.raw_ids],
            "raw_colors": self.raw_colors,
            "multi_label": self.multi_label,
            **({"whole_images": True} if self.whole_images else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "LabelSpace":
        """The inverse of `to_dict`.

        Raises:
            DataError: a key is missing or holds something else.
        """
        try:
            names = tuple(_strings(values["names"]))
            palette = tuple((red, green, blue) for red, green, blue in _int_rows(values["palette"]))
            raw_ids = tuple((raw, index) for raw, index in _int_rows(values["raw_ids"]))
            # Older checkpoints lack some.
            flags = (bool(values.get(key, False)) for key in ("raw_colors", "multi_label", "whole_images"))
            return cls(names, palette, _integer(values["ignore_index"]), raw_ids, *flags)
        except ConfigError:  # a ValueError, too, whose own words say more
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"label space: not readable ({error!r})") from error

    @cached_property
    def _lowest(self) -> int:
        """The raw value of the table's first entry: 0, or the lowest of negative ones."""
        return min(0, *self.meanings)

    @cached_property
    def _table(self) -> npt.NDArray[np.uint16]:
        """One more than the class index of every raw value; the last entry stands for all values above the named ones.

        Zeros cost no memory until they are touched, so that the table of a few colours is small.
        """
        table = np.zeros(max(256, max(self.meanings) + 2) - self._lowest, dtype=np.uint16)
        for raw, index in self.meanings.items():
            table[raw - self._lowest] = index + 1
        return table

    @cached_property
    def _refused_byte(self) -> int | None:
        """A byte that is neither a class nor `ignore_index`, if there is one."""
        return next((byte for byte in range(self.coding.num_values, 256) if byte != self.ignore_index), None)

    @cached_property
    def _encoded_bytes(self) -> npt.NDArray[np.uint8]:
        """Class index of every value of an 8-bit file; `_refused_byte` for those that mean nothing."""
        table = self._table[-self._lowest :][:256]
        return np.where(table == _REFUSED, self._refused_byte or 0, table - 1).astype(np.uint8)

    def _shown(self, value: int) -> str:
        return shown_color(value) if self.raw_colors else str(value)

    def _hint(self, values: set[int]) -> str:
        if not self.coding.exclusive:
            return (
                "A class's own mask holds 0 where it is absent and 1 or 255 where it is present; state the value of "
                "pixels to ignore, if there are any: data.folder.ignore_value."
            )
        if self.raw_colors:
            return f"The {self.num_classes} classes and what is ignored have {len(self.raw_ids)} colours in all."
        if values <= {0, 255}:
            return (
                "This is a 0/255 picture of one class: write 1 in place of 255, or in a folder data set set "
                "data.folder.mask_values={background: 0, object: 255}."
            )
        if self.raw_ids and values <= {*range(self.num_classes), self.ignore_index}:
            return (
                "These look like class indices, such as Cityscapes' trainIds, where the data set's own ids belong. "
                "Cityscapes: name such files *_gtFine_labelTrainIds.png."
            )
        expected = f"0 to {self.num_classes - 1}" if not self.raw_ids else "the data set's own ids"
        likely = "" if self.raw_ids else self._likely_ids(values - {self.ignore_index})
        if min(values) < 0:
            unlabelled = ", ".join(str(value) for value in sorted(values - self.meanings.keys()) if value < 0)
            likely = f" If pixels of negative numbers have no class: data.folder.ignore_value=[{unlabelled}]"
        return f"The {self.num_classes} classes are {expected}, and {self.ignore_index} is ignored.{likely}"

    def _likely_ids(self, values: set[int]) -> str:
        """Which other numbers files most likely hold, where class indices belong."""
        if max(values) == self.num_classes:
            return " If 0 means unlabelled, in a folder data set: data.folder.mask_offset=1."
        if self.num_classes == _CITYSCAPES_CLASSES and max(values) <= _LAST_CITYSCAPES_ID:
            return (
                " These look like Cityscapes' labelIds, where trainIds belong: data.name=cityscapes reads them from "
                "files named *_gtFine_labelIds.png."
            )
        return ""

    def _regroup_problems(self, ignored: Sequence[str], merged: Mapping[str, Sequence[str]]) -> Iterator[str]:
        if not self.coding.exclusive:
            yield (
                "data: ignore_classes and merge_classes need one class a pixel, and these classes are decided each on "
                "its own. Name those to learn in data.classes."
            )
            return
        used = [("data.ignore_classes", name) for name in ignored]
        used += [(f"data.merge_classes.{new}", name) for new, members in merged.items() for name in members]
        for key, name in used:
            if name not in self.names:
                yield f"{key}: no class '{name}'. {did_you_mean(name, self.names)}"
        for name, count in Counter(name for _, name in used).items():
            if count > 1:
                yield f"data: class '{name}' is ignored or merged {count} times; once is enough"
        taken = {name for _, name in used}
        for new in merged:
            if new in self.names and new not in taken:
                yield f"data.merge_classes.{new}: the name of a class that stays; take another, or merge it too"
        if not set(self.names) - set(ignored):
            yield "data.ignore_classes: all classes; nothing would be left to learn"

    def _problems(self) -> list[str]:
        problems = []
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            problems.append(f"named twice: {', '.join(repeated)}")
        if self.whole_images:
            return problems if self.names else ["none of them"]  # what follows is about masks
        if not 1 <= self.num_classes <= 255:
            problems.append(f"{self.num_classes} of them; an 8-bit mask holds 1 to 255")
        if len(self.palette) != self.num_classes:
            problems.append(f"{self.num_classes} names but {len(self.palette)} colours")
        if any(not 0 <= channel <= 255 for color in self.palette for channel in color):
            problems.append("a colour is outside 0 to 255")
        if not max(self.num_classes, self.coding.num_values) <= self.ignore_index <= 255:
            problems.append(f"ignore_index {self.ignore_index} must lie above the classes and below 256")
        known = {*range(self.coding.num_values), self.ignore_index}
        wrong = [f"{raw}: {index}" for raw, index in self.raw_ids if index not in known or abs(raw) > LARGEST_RAW]
        if wrong:
            problems.append(f"raw ids that lead nowhere: {', '.join(wrong)}")
        twice = sorted(raw for raw, count in Counter(raw for raw, _ in self.raw_ids).items() if count > 1)
        if twice:
            problems.append(f"given to two classes: {', '.join(map(self._shown, twice))}")
        return problems


def read_class_masks(
    files: Sequence[Path | None], labels: LabelSpace, size: Callable[[], tuple[int, int]]
) -> npt.NDArray[np.uint8]:
    """Read a mask for each class from a file of its own.

    Args:
        files: one for each class; None where the class is absent.
        labels: what the values in them mean (`LabelSpace.of_class_masks`).
        size: gives height and width where no class has a file.

    Shape: (K, H, W).

    Raises:
        DataError: a file is damaged, holds a value that means nothing, or differs from the others in size.
    """
    masks = [None if path is None else _read_class_mask(path, labels) for path in files]
    known = {mask.shape: path for mask, path in zip(masks, files, strict=True) if mask is not None}
    if len(known) > 1:
        (first, one), (second, other) = list(known.items())[:2]
        raise DataError(
            f"{other}: mask is {second[0]}x{second[1]}, but that of another class, {one}, {first[0]}x{first[1]} "
            "(height x width); export both at the image's size"
        )
    absent = np.zeros(next(iter(known), None) or size(), np.uint8)
    return np.stack([absent if mask is None else mask for mask in masks])


def _read_class_mask(path: Path, labels: LabelSpace) -> npt.NDArray[np.uint8]:
    raw, palette = read_stored_mask(path)
    shown = palette[:2]
    if {*shown} <= {0, _WHITE} and len({*shown}) == len(shown) > raw.max(initial=0):
        raw = (np.array(shown)[raw] == _WHITE).astype(np.uint8)  # whichever of the two comes first in this file
    try:
        mask = labels.encode(raw)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if all((raw == value).any() for value in _PRESENT) and labels.meanings.get(_PRESENT[1]) == 1:
        raise DataError(
            f"{path}: holds 1 and 255. If 255 marks pixels to ignore, say so: data.folder.ignore_value=255; else write "
            "1 in place of 255."
        )
    return mask


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no integer")
    return value


def _strings(value: object) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value!r} is no list of names")
    return list(value)


def _int_rows(value: object) -> list[list[int]]:
    if not isinstance(value, list | tuple) or not all(isinstance(row, list | tuple) for row in value):
        raise TypeError(f"{value!r} is no list of number rows")
    return [[_integer(item) for item in row] for row in value]
