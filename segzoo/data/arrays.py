"""Images that are no pictures: NumPy arrays and TIFFs of any number of channels, as numbers as they are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ConfigError, DataError, first_line

ARRAY_SUFFIXES = frozenset({".npy"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

_IMAGE_DIMENSIONS = (2, 3)


def read_array(path: Path, channels: int, max_pixels: int) -> npt.NDArray[Any]:
    """The numbers of a `.npy` file or a TIFF. Pages of a TIFF that are of one size are its channels.

    Args:
        path: a `.npy` of (H, W, C), or (H, W) for one channel; a TIFF with its channels last, in planes or in pages.
        channels: how many are expected; tells channels from rows.
        max_pixels: refuse larger images before they are read.

    Shape: (H, W, C); C is `channels`, or 1.

    Raises:
        DataError: the file is missing, damaged, too large or of another shape.
        ConfigError: a TIFF, and the package that reads it is not installed.
    """
    with _opened(path, channels) as (image, to_channels_last):
        height, width = _size(image.shape, to_channels_last)
        if height * width > max_pixels:
            raise DataError(f"{path}: {width}x{height} pixels are more than the limit of {max_pixels}")
        values = np.asarray(image if isinstance(image, np.ndarray) else image.asarray())
        return values[..., None] if values.ndim == 2 else values.transpose(to_channels_last)


def array_size(path: Path, channels: int) -> tuple[int, int]:
    """Height and width, from the header.

    Raises:
        DataError: as `read_array`.
        ConfigError: as `read_array`.
    """
    with _opened(path, channels) as (image, to_channels_last):
        return _size(image.shape, to_channels_last)


@contextmanager
def _opened(path: Path, channels: int) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Something with a shape whose numbers are not read yet, and the axes' order that puts channels last."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():  # reading a pipe would wait for ever
        raise DataError(f"{path}: not a regular file")
    try:
        if path.suffix.lower() in ARRAY_SUFFIXES:
            image = np.load(path, mmap_mode="r", allow_pickle=False)
            yield image, _channels_last(image.shape, channels, path, planes=False)
        else:
            with _tifffile(path).TiffFile(path) as file:
                series = file.series[0]
                yield series, _channels_last(series.shape, channels, path, planes=not series.axes.endswith("S"))
    except (ConfigError, DataError):
        raise
    except Exception as error:  # decoders raise nearly every type on damaged files
        raise DataError(f"{path}: damaged or unreadable ({first_line(error)})") from error


def _channels_last(shape: tuple[int, ...], channels: int, path: Path, *, planes: bool) -> tuple[int, ...]:
    """The order of axes that puts channels last.

    Raises:
        DataError: the shape is not that of an image with so many channels.
    """
    if len(shape) in _IMAGE_DIMENSIONS and 0 not in shape:
        if len(shape) == 2:
            return (0, 1)
        if len(shape) == 3 and planes and shape[0] == channels:
            return (1, 2, 0)
        if len(shape) == 3 and shape[2] == channels:
            return (0, 1, 2)
    expected = f"({'C, ' if planes else ''}H, W{'' if planes else ', C'}) with {channels} channels (data.channels)"
    raise DataError(f"{path}: an array of shape {shape}, where {expected} belongs")


def _size(shape: tuple[int, ...], to_channels_last: tuple[int, ...]) -> tuple[int, int]:
    return shape[to_channels_last[0]], shape[to_channels_last[1]]


def _tifffile(path: Path) -> Any:
    """The TIFF reader, which is optional: most people have pictures.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("tifffile")
    except ImportError:
        raise ConfigError(
            f"{path}: TIFFs that are no 8-bit RGB pictures need a reader: pip install tifffile imagecodecs"
        ) from None
