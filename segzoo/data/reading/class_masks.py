"""Files of classes that are decided each on its own: a mask for each class."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segzoo.data.reading.images import read_stored_mask
from segzoo.data.reading.labels import IGNORED, LabelSpace
from segzoo.errors import DataError

PRESENT = (1, 255)
"""What stands for the presence of a class in a file of its own."""

_WHITE = 0xFFFFFF


def class_mask_labels(names: Sequence[str], ignored: Sequence[int] | None) -> LabelSpace:
    """Classes whose files hold 0, and 1 or 255 where they are present.

    Args:
        names: of the classes.
        ignored: what stands for pixels that do not count; 255 means only that then, if it is among them.
    """
    values = {0: 0, **dict.fromkeys(PRESENT, 1), **dict.fromkeys(ignored or (), IGNORED)}
    return replace(LabelSpace.from_names(names, multi_label=True), raw_ids=tuple(values.items()))


def read_class_masks(
    files: Sequence[Path | None], labels: LabelSpace, size: Callable[[], tuple[int, int]]
) -> npt.NDArray[np.uint8]:
    """Read the mask of every class.

    Args:
        files: one for each class; None where the class is absent.
        labels: what the values in them mean.
        size: height and width, asked for where no class has a file.

    Shape: (K, H, W).

    Raises:
        DataError: a file is damaged, holds a value that means nothing, or differs from the others in size.
    """
    masks = [None if path is None else _read(path, labels) for path in files]
    known = {mask.shape: path for mask, path in zip(masks, files, strict=True) if mask is not None}
    if len(known) > 1:
        (first, one), (second, other) = list(known.items())[:2]
        raise DataError(
            f"{other}: mask is {second[0]}x{second[1]}, but that of another class, {one}, {first[0]}x{first[1]} "
            "(height x width); export both at the image's size"
        )
    absent = np.zeros(next(iter(known), None) or size(), np.uint8)
    return np.stack([absent if mask is None else mask for mask in masks])


def _read(path: Path, labels: LabelSpace) -> npt.NDArray[np.uint8]:
    raw, palette = read_stored_mask(path)
    shown = palette[:2]
    if {*shown} <= {0, _WHITE} and len({*shown}) == len(shown) > raw.max(initial=0):
        raw = (np.array(shown)[raw] == _WHITE).astype(np.uint8)  # whichever of the two comes first in this file
    try:
        mask = labels.encode(raw)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if all((raw == value).any() for value in PRESENT) and dict(labels.raw_ids).get(PRESENT[1]) == 1:
        raise DataError(
            f"{path}: holds 1 and 255. If 255 marks pixels to ignore, say so: data.folder.ignore_value=255; else write "
            "1 in place of 255."
        )
    return mask
