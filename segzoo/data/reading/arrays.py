"""Numbers as files store them: which of them have no value, `.npy` files, and errors that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ConfigError, DataError, first_line

ARRAY_SUFFIXES = frozenset({".npy"})

Numbers = npt.NDArray[Any]
Array8 = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stored:
    """An image, or a part of one, as its file holds it."""

    values: Numbers  # of its channels, (H, W, C)
    missing: Flags | None = None  # where a channel has no value, (H, W, C), apart from NaN; None for nowhere
    alpha: Numbers | None = None  # how opaque each pixel is, (H, W), where alpha is not among the channels

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


def read_npy(path: Path, channels: int | None = None, max_pixels: int | None = None) -> Numbers:
    """The numbers of a `.npy` file, mapped into memory: nothing but its header is read.

    Shape: as stored; (H, W, C) where a number of channels is asked for, also of a file of (H, W), which is one channel.

    Raises:
        DataError: the file is missing, damaged, too large or of another shape.
    """
    with reading(path):
        array: Numbers = np.load(path, mmap_mode="r", allow_pickle=False)
    if channels is None:
        return array
    shape = array.shape
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] != channels):
        expected = f"(H, W, C) with {channels} channels (data.channels)"
        raise DataError(f"{path}: an array of shape {shape}, where {expected} belongs")
    if max_pixels is not None and shape[0] * shape[1] > max_pixels:
        raise DataError(f"{path}: {shape[1]}x{shape[0]} pixels are more than the limit of {max_pixels}")
    return array[..., None] if array.ndim == 2 else array


def upright_array(values: Numbers, orientation: object) -> Numbers:
    """Rows and columns as an EXIF orientation has them shown; values of no meaning change nothing.

    Shape: (H, W, ...) to the same, or to (W, H, ...).
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into a `DataError` that names it."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():  # reading a pipe would wait for ever
        raise DataError(f"{path}: not a regular file")
    try:
        yield
    except (ConfigError, DataError):
        raise
    except Exception as error:  # decoders raise nearly every type on damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise DataError(f"{path}: damaged or unreadable ({reason})") from error
