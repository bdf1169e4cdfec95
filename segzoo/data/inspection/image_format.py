"""What the image files of a folder are: pictures, pictures of 16 bits, or images of other channels and ranges."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.config.data import DataConfig
from segzoo.data.reading.arrays import ARRAY_SUFFIXES, Stored
from segzoo.data.reading.images import IMAGE_SUFFIXES, MAX_PIXELS, check_alpha, image_kind, read_bands
from segzoo.data.reading.pixels import PixelFormat, sensor_range
from segzoo.data.reading.tiff import check_tiff, read_tiff
from segzoo.data.reading.tree import files_below
from segzoo.errors import DataError

_LOOKED_AT = 32  # files whose values are read
_LARGEST_16_BITS = 65535
_MOST_PLANES = 16  # channels; fewer rows than this make no picture
_RGB = 3


@dataclass(frozen=True)
class _Numbers:
    """The numbers in an image file; `low` is above `high` where no pixel has a value."""

    path: Path
    channels: int
    dtype: np.dtype[Any]
    low: float
    high: float


def find_image_format(config: DataConfig) -> PixelFormat:
    """How the images of a folder have to be read: as 8-bit RGB wherever that loses nothing.

    Channels are stated where there are others; the range is stated of numbers that have none of their own, and of those
    of 16 bits that use a part of it only, or they would come out dark.

    Raises:
        DataError: an image cannot be read, or images have different channels.
        ConfigError: the package that reads them is not installed.
    """
    if config.name != "folder":
        return PixelFormat()
    root, images = Path(config.root or ""), config.folder.images
    folder = next(path for path in (root / config.train_split, root) if (path / images).is_dir())
    files = files_below(folder / images, IMAGE_SUFFIXES | ARRAY_SUFFIXES)
    pictures = [path for path in files if path.suffix.lower() not in ARRAY_SUFFIXES]
    some = (pictures or files)[:: -(-len(pictures or files) // _LOOKED_AT) or 1]
    if pictures:
        return _of_pictures(some)
    arrays = [_array_numbers(path) for path in some]
    return PixelFormat(_one_number(arrays), _range(arrays)) if arrays else PixelFormat()


def _of_pictures(paths: Sequence[Path]) -> PixelFormat:
    plain: list[_Numbers] = []
    found: list[_Numbers] = []
    for path in paths:
        try:
            numbers = _picture_numbers(path)
        except DataError:  # comes up again, with all other problems, when every file is looked at
            continue
        (plain if numbers is None else found).append(numbers or _Numbers(path, _RGB, np.dtype(np.uint8), 0, 255))
    if not found:
        return PixelFormat()
    stated = _range(found)
    shallow = [numbers for numbers in (*plain, *found) if numbers.dtype == np.uint8]
    if stated is not None and shallow:
        raise DataError(
            f"{shallow[0].path}: 8 bits, where {found[0].path} has numbers up to {found[0].high:g}; no "
            "data.value_range suits both: save them alike"
        )
    return PixelFormat(_one_number([*plain, *found], gray_is_rgb=True), stated)


def _one_number(found: Sequence[_Numbers], *, gray_is_rgb: bool = False) -> int:
    """The channels of all images, which may not differ."""
    first = {(_RGB if gray_is_rgb and numbers.channels == 1 else numbers.channels): numbers.path for numbers in found}
    if len(first) > 1:
        (one, path), (other, other_path) = list(first.items())[:2]
        raise DataError(f"{path}: {one} channels, but {other_path} has {other}; a network takes images of one kind")
    return next(iter(first))


def _range(found: Sequence[_Numbers]) -> tuple[float, float] | None:
    """The range to state; None where the numbers have one of their own, and use it."""
    low, high = min(numbers.low for numbers in found), max(numbers.high for numbers in found)
    if low > high:
        raise DataError(f"{found[0].path.parent}: images hold values that are not finite, and no others")
    if any(numbers.dtype.kind not in "ub" for numbers in found):  # whole numbers, with 0 between them
        return float(min(np.floor(low), 0.0)), float(max(np.ceil(high), 0.0 if low < 0 else 1.0))
    if all(numbers.dtype == np.uint8 for numbers in found):
        return None
    uses_16_bits = all(numbers.dtype == np.uint16 for numbers in found) and high > _LARGEST_16_BITS // 2
    return None if uses_16_bits else sensor_range(high)


def _array_numbers(path: Path) -> _Numbers:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path.parent}: an array cannot be read ({error})") from error
    shape = array.shape
    if len(shape) == 3 and shape[0] <= _MOST_PLANES < min(shape[1:]):
        raise DataError(
            f"{path}: an array of shape {shape}, whose first axis looks like channels, where (H, W, C) belongs; "
            "save numpy.moveaxis(array, 0, -1)"
        )
    return _numbers_of(Stored(array if array.ndim == 3 else array[..., None]), path)


def _picture_numbers(path: Path) -> _Numbers | None:
    """The numbers of a picture; None of one with 8 bits that is shown by RGB."""
    header = check_tiff(path, MAX_PIXELS)
    if header is None:
        return _deep_numbers(path) if image_kind(path).is_16_bit else None
    if header.has_palette or (header.is_picture and header.bits <= 8 and not header.has_alpha):
        return None
    stored = read_tiff(path, header)
    if not (header.has_alpha and _is_transparency(stored)):
        return _numbers_of(stored, path)
    return None if header.bits <= 8 else _numbers_of(Stored(stored.values[..., :-1]), path)


def _deep_numbers(path: Path) -> _Numbers:
    bands = read_bands(path)
    return _numbers_of(Stored(bands[..., : {2: 1, 4: 3}.get(bands.shape[2], bands.shape[2])]), path)  # without alpha


def _is_transparency(stored: Stored) -> bool:
    try:
        check_alpha(stored.values[..., -1], "")
    except DataError:
        return False
    return True


def _numbers_of(stored: Stored, path: Path) -> _Numbers:
    missing = stored.without_value
    there = stored.values if missing is None else stored.values[~missing]
    low, high = (float(there.min()), float(there.max())) if there.size else (1.0, 0.0)
    if not np.isfinite((low, high)).all():
        raise DataError(f"{path}: infinite values; fill them in before")
    return _Numbers(path, stored.values.shape[2], stored.values.dtype, low, high)
