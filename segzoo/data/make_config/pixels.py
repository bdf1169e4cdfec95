"""What the image files of a folder are: pictures, pictures of 16 bits, or arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segzoo.data.arrays import ARRAY_SUFFIXES
from segzoo.data.images import IMAGE_SUFFIXES, image_kind, read_bands
from segzoo.data.make_config.layout import Layout
from segzoo.data.pixels import PixelFormat
from segzoo.data.tree import files_below
from segzoo.errors import DataError

_LOOKED_AT = 32  # files whose values are read
_LARGEST_16_BITS = 65535
_MOST_PLANES = 16  # channels; fewer rows than this make no picture


def find_pixels(layout: Layout) -> PixelFormat:
    """How the images of a folder have to be read: as 8-bit RGB wherever that loses nothing.

    Arrays and 16-bit pictures that use a part of their range only get that part stated, or they would come out dark.

    Args:
        layout: where they are.

    Raises:
        DataError: an array cannot be read.
    """
    if layout.name != "folder":
        return PixelFormat()
    folder = next(path for path in (layout.root / layout.train_split, layout.root) if (path / layout.images).is_dir())
    arrays = files_below(folder / layout.images, ARRAY_SUFFIXES)
    pictures = files_below(folder / layout.images, IMAGE_SUFFIXES)
    if arrays and not pictures:
        return _of_arrays(arrays[:_LOOKED_AT])
    return _of_pictures(pictures[:_LOOKED_AT])


def _of_arrays(paths: Sequence[Path]) -> PixelFormat:
    try:
        arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{paths[0].parent}: an array cannot be read ({error})") from error
    shape, dtype = arrays[0].shape, arrays[0].dtype
    if len(shape) == 3 and shape[0] <= _MOST_PLANES < min(shape[1:]):
        raise DataError(
            f"{paths[0]}: an array of shape {shape}, whose first axis looks like channels, where (H, W, C) belongs; "
            "save numpy.moveaxis(array, 0, -1)"
        )
    channels = shape[2] if len(shape) == 3 else 1
    if dtype == np.uint8:
        return PixelFormat(channels)
    low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if not np.isfinite((low, high)).all():
        raise DataError(f"{paths[0].parent}: arrays hold values that are not finite; fill them in before")
    if np.issubdtype(dtype, np.unsignedinteger):
        return PixelFormat(channels, _sensor_range(high))
    return PixelFormat(channels, _measured_range(low, high))


def _of_pictures(paths: Sequence[Path]) -> PixelFormat:
    try:
        deep = [path for path in paths if image_kind(path).pixels == "16-bit gray"]
        highest = max((int(read_bands(path).max()) for path in deep), default=_LARGEST_16_BITS)
    except DataError:  # comes up again, with all other problems, when every file is looked at
        return PixelFormat()
    if highest > _LARGEST_16_BITS // 2:
        return PixelFormat()
    return PixelFormat(value_range=_sensor_range(highest))


def _sensor_range(high: float) -> tuple[float, float]:
    """The range with some room, as large as sensors have it: to 1, or to 255, 1023, 4095, ..."""
    return 0.0, 1.0 if high <= 1 else float(2 ** max(8, int(np.ceil(np.log2(high + 1)))) - 1)


def _measured_range(low: float, high: float) -> tuple[float, float]:
    """The range of numbers of any kind, in whole numbers, with 0 in it."""
    return float(min(np.floor(low), 0.0)), float(max(np.ceil(high), 0.0 if low < 0 else 1.0))
