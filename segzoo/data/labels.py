"""What the numbers in a mask mean: names, colours, the ignored value, and raw ids on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from segzoo.errors import ConfigError, DataError

Color = tuple[int, int, int]

IGNORED_COLOR: Color = (224, 224, 192)  # what VOC paints its void border with
_REFUSED = -1


def voc_palette(count: int) -> tuple[Color, ...]:
    """The bit-interleaved colour map of Pascal VOC, as long as asked.

    Args:
        count: number of colours, at most 256.

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


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set, from its files on disk to the masks a model predicts.

    Args:
        names: one name per class.
        palette: one RGB colour per class, 0 to 255.
        ignore_index: value of pixels that no loss and no metric counts.
        raw_ids: (value on disk, class index or `ignore_index`) pairs. Empty: files hold class indices and
            `ignore_index` themselves. Otherwise a value that no pair names is refused.

    Raises:
        ConfigError: names repeat, colours are missing, or an index does not fit 8 bits.

    >>> labels = LabelSpace.from_names(["road", "car"])
    >>> labels.encode(np.array([[0, 1, 255]]))
    array([[  0,   1, 255]], dtype=uint8)
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = 255
    raw_ids: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(f"classes: {problem}" for problem in problems)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "LabelSpace":
        """A label space with the default colours, whose files hold class indices."""
        return cls(names=tuple(names), palette=voc_palette(len(names)))

    @property
    def num_classes(self) -> int:
        """How many classes there are; the ignored value is none."""
        return len(self.names)

    def encode(self, raw_mask: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Turn the values of a mask file into class indices and `ignore_index`.

        Shape: (H, W), kept.

        Raises:
            DataError: a value means nothing here. The message lists values with their pixel counts; the
                caller adds the file's name.
        """
        if raw_mask.min(initial=0) < 0:
            raise DataError(self._refusal(raw_mask))
        last = len(self._table) - 1
        in_table = raw_mask if np.iinfo(raw_mask.dtype).max <= last else np.minimum(raw_mask, last)
        encoded = self._table[in_table]
        if encoded.min(initial=0) == _REFUSED:
            raise DataError(self._refusal(raw_mask))
        return encoded.astype(np.uint8)

    def flat_palette(self) -> list[int]:
        """256 colours in a row, as Pillow's `putpalette` takes them; what is no class is black."""
        colors: list[Color] = [(0, 0, 0)] * 256
        colors[: self.num_classes] = self.palette
        colors[self.ignore_index] = IGNORED_COLOR
        return [channel for color in colors for channel in color]

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types, for checkpoints and reports."""
        return {
            "names": list(self.names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
            "raw_ids": [list(pair) for pair in self.raw_ids],
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
            return cls(names, palette, _integer(values["ignore_index"]), raw_ids)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"label space: not readable ({error!r})") from error

    @cached_property
    def _table(self) -> npt.NDArray[np.int16]:
        """Class index of every raw value; the last entry stands for all values above the named ones."""
        pairs = self.raw_ids or (
            *((i, i) for i in range(self.num_classes)),
            (self.ignore_index, self.ignore_index),
        )
        largest = max(raw for raw, _ in pairs)
        table = np.full(max(256, largest + 2), _REFUSED, dtype=np.int16)
        for raw, index in pairs:
            table[raw] = index
        return table

    def _refusal(self, raw_mask: npt.NDArray[np.integer]) -> str:
        values, counts = np.unique(raw_mask, return_counts=True)
        known = self._table
        wrong = [
            (value, count)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True)
            if not 0 <= value < len(known) or known[value] == _REFUSED
        ]
        listed = ", ".join(f"{value} ({count} px)" for value, count in wrong[:8])
        more = f" and {len(wrong) - 8} more values" if len(wrong) > 8 else ""
        return f"value {listed}{more} is no class. {self._hint(set(values.tolist()))}"

    def _hint(self, values: set[int]) -> str:
        if values <= {0, 255}:
            return "This is a 0/255 picture of one class: write 1 in place of 255."
        expected = f"0 to {self.num_classes - 1}" if not self.raw_ids else "the data set's own ids"
        return f"The {self.num_classes} classes are {expected}, and {self.ignore_index} is ignored."

    def _problems(self) -> list[str]:
        problems = []
        if not 1 <= self.num_classes <= 255:
            problems.append(f"{self.num_classes} of them; an 8-bit mask holds 1 to 255")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            problems.append(f"named twice: {', '.join(repeated)}")
        if len(self.palette) != self.num_classes:
            problems.append(f"{self.num_classes} names but {len(self.palette)} colours")
        if any(not 0 <= channel <= 255 for color in self.palette for channel in color):
            problems.append("a colour is outside 0 to 255")
        if not self.num_classes <= self.ignore_index <= 255:
            problems.append(f"ignore_index {self.ignore_index} must lie above the classes and below 256")
        known = {*range(self.num_classes), self.ignore_index}
        wrong = [f"{raw}: {index}" for raw, index in self.raw_ids if index not in known or raw < 0]
        if wrong:
            problems.append(f"raw ids that lead nowhere: {', '.join(wrong)}")
        return problems


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
