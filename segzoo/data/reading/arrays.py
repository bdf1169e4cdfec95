"""Images as numbers as they are stored: NumPy arrays, and TIFFs of any number of channels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.data.reading.images import upright_array
from segzoo.data.reading.tiff_header import TiffHeader
from segzoo.errors import ConfigError, DataError, first_line

ARRAY_SUFFIXES = frozenset({".npy"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

_IMAGE_DIMENSIONS = (2, 3)


@dataclass(frozen=True)
class Stored:
    """An image, or a part of one, as its file holds it.

    Args:
        values: of its channels, (H, W, C).
        missing: where a channel has no value, (H, W, C); None for nowhere. Beside it, what is not a number is none.
        alpha: how much there is of each pixel, (H, W), where that is no channel; 0 is nothing.
    """

    values: Numbers
    missing: Flags | None = None
    alpha: Numbers | None = None

    @property
    def without_value(self) -> Flags | None:
        """Where a channel has no value, or it is not a number; None for nowhere."""
        if self.values.dtype.kind != "f":
            return self.missing
        nan = np.isnan(self.values)
        return nan if self.missing is None else nan | self.missing

    @property
    def lost(self) -> Flags | None:
        """Where there is nothing at all, (H, W); None for nowhere."""
        missing = self.without_value
        lost = np.zeros(self.values.shape[:2], np.bool_) if missing is None else np.asarray(missing.all(axis=2))
        if self.alpha is not None:
            lost = lost | (self.alpha == 0)
        return lost if lost.any() else None


def read_npy(path: Path, channels: int, max_pixels: int) -> Numbers:
    """The numbers of a `.npy` file of (H, W, C), or (H, W) for one channel.

    Args:
        path: the file.
        channels: how many are expected.
        max_pixels: refuse larger images before they are read.

    Shape: (H, W, C); C is `channels`, or 1.

    Raises:
        DataError: the file is missing, damaged, too large or of another shape.
    """
    with _mapped(path, channels) as array:
        height, width = array.shape[:2]
        if height * width > max_pixels:
            raise DataError(f"{path}: {width}x{height} pixels are more than the limit of {max_pixels}")
        return array[..., None] if array.ndim == 2 else array


def npy_size(path: Path, channels: int) -> tuple[int, int]:
    """Height and width, from the header; errors as `read_npy`."""
    with _mapped(path, channels) as array:
        return array.shape[0], array.shape[1]


def npy_dtype(path: Path) -> np.dtype[Any]:
    """The type of the numbers, from the header; errors as `read_npy`."""
    with _faults(path):
        return np.dtype(np.load(path, mmap_mode="r", allow_pickle=False).dtype)


def read_tiff(path: Path, header: TiffHeader) -> Stored:
    """The numbers of a TIFF, upright. Pages of one size with a channel each are its channels; alpha is one of them.

    Args:
        path: the file.
        header: its own, checked.

    Raises:
        DataError: the file is damaged.
        ConfigError: the package that reads it is not installed.
    """
    check_pages(path, header)
    tifffile = _tifffile(path)
    # Neither a series that its description makes of the pages, nor other files that it names.
    with _faults(path), tifffile.TiffFile(path, is_ome=False, is_shaped=False) as file:
        pages = [file.pages[number] for number in header.pages]
        values = np.stack([_channels_last(page) for page in pages], axis=2).reshape(header.height, header.width, -1)
        there = None if header.mask_page is None else file.pages[header.mask_page].asarray()
    missing = None
    if header.nodata is not None:
        missing = np.isnan(values) if np.isnan(header.nodata) else values == _as_stored(header.nodata, values)
    if there is not None:
        nothing = np.broadcast_to((there == 0)[..., None], values.shape)
        missing = nothing if missing is None else missing | nothing
    if header.white_is_zero and values.dtype.kind == "u":
        values = values.dtype.type(2**header.bits - 1) - values
    upright = upright_array(values, header.orientation)
    return Stored(upright, None if missing is None else upright_array(missing, header.orientation))


def check_pages(path: Path, header: TiffHeader) -> None:
    """Refuse pages that are no channels.

    Raises:
        DataError: there are several pages of several channels.
    """
    if len(header.pages) > 1 and header.channels != len(header.pages):
        raise DataError(f"{path}: {len(header.pages)} pages of {header.channels} channels each; save them as images")


def _channels_last(page: Any) -> Numbers:
    """The numbers of a page: (H, W, C), or (H, W) where there is one channel."""
    values: Numbers = page.asarray()
    return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


def _as_stored(nodata: float, values: Numbers) -> Any:
    """The value as the file's type holds it: rounded as its numbers are."""
    return values.dtype.type(nodata) if values.dtype.kind == "f" else nodata


@contextmanager
def _mapped(path: Path, channels: int) -> Iterator[Numbers]:
    with _faults(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_shape(array.shape, channels, path)
        yield array


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Whatever goes wrong is told of the file."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():  # reading a pipe would wait for ever
        raise DataError(f"{path}: not a regular file")
    try:
        yield
    except (ConfigError, DataError):
        raise
    except Exception as error:  # decoders raise nearly every type on damaged files
        raise DataError(f"{path}: damaged or unreadable ({first_line(error)})") from error


def _check_shape(shape: tuple[int, ...], channels: int, path: Path) -> None:
    """Refuse what is no image with so many channels.

    Raises:
        DataError: it is not.
    """
    fits = len(shape) in _IMAGE_DIMENSIONS and 0 not in shape and (len(shape) == 2 or shape[2] == channels)
    if not fits:
        expected = f"(H, W, C) with {channels} channels (data.channels)"
        raise DataError(f"{path}: an array of shape {shape}, where {expected} belongs")


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
