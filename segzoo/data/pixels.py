"""The kind of pixels a network takes: 8-bit RGB pictures, or any number of channels with any range of values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.config.classification_data import AnyDataConfig
from segzoo.data.arrays import ARRAY_SUFFIXES, TIFF_SUFFIXES, array_size, read_array
from segzoo.data.images import IMAGE_SUFFIXES, MAX_PIXELS, Array8, eight_of_16_bits, image_size, read_bands, read_image
from segzoo.errors import DataError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

_RGB = 3


@dataclass(frozen=True)
class PixelFormat:
    """How the files of a data set become pixels, the same in training and prediction.

    With three channels and no stated range, pixels are 8-bit RGB. All others are float32 in units of their full range
    (0 to 1), so that every image of a data set has one type.

    Args:
        channels: of an image.
        value_range: stored values that become 0 and 1, those beyond are cut off; None: the full range of 8 or 16 bits.
    """

    channels: int = _RGB
    value_range: tuple[float, float] | None = None

    @classmethod
    def of(cls, config: AnyDataConfig) -> "PixelFormat":
        """The format that `data.channels` and `data.value_range` state."""
        return cls(config.channels, config.value_range)

    @property
    def is_rgb8(self) -> bool:
        """Whether pixels are 8-bit RGB."""
        return self.channels == _RGB and self.value_range is None

    @property
    def suffixes(self) -> frozenset[str]:
        """Of the files that `read` takes. Arrays count only where they are stated, for any program writes `.npy`."""
        return IMAGE_SUFFIXES if self.is_rgb8 else IMAGE_SUFFIXES | ARRAY_SUFFIXES

    def read(self, path: Path, max_pixels: int = MAX_PIXELS, reduction: int = 1) -> Pixels:
        """Read an image.

        Args:
            path: a picture; with another number of channels or a stated range also `.npy` (H, W, C) or a TIFF of many
                channels. Alpha then counts as a channel, and gray is repeated only where three channels are asked for.
            max_pixels: refuse larger images before anything is decoded.
            reduction: 8-bit RGB may be decoded at this fraction of its size, as `read_image` does.

        Shape: (H, W, C).

        Raises:
            DataError: the file is missing, damaged, too large, or has other channels or values than stated.
            ConfigError: the package that reads such a TIFF is not installed.
        """
        if self.is_rgb8:
            return read_image(path, max_pixels, reduction)
        bands = read_array(path, self.channels, max_pixels) if self._is_array(path) else read_bands(path, max_pixels)
        return self._scaled(self._fitting(bands, str(path)), str(path))

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of an image, from its header.

        Raises:
            DataError: the file is missing or no image.
            ConfigError: as `read`.
        """
        return array_size(path, self.channels) if self._is_array(path) else image_size(path)

    def from_array(self, array: npt.NDArray[Any]) -> Pixels:
        """Pixels of an array with values as files hold them.

        Shape: (H, W, C), or (H, W) for one channel, to (H, W, C).

        Raises:
            ValueError: no image; for 8-bit RGB another shape or type.
            DataError: another number of channels, values that are not finite, or whose range is not stated.
        """
        if self.is_rgb8 and (array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != _RGB):
            raise ValueError(f"expected a uint8 RGB array (H, W, 3), not {array.dtype} {array.shape}")
        if self.is_rgb8:
            return array
        if array.ndim not in (2, 3):
            raise ValueError(f"expected an array (H, W, {self.channels}), not {array.dtype} {array.shape}")
        return self._scaled(self._fitting(array[..., None] if array.ndim == 2 else array, "image"), "image")

    def from_bands(self, bands: npt.NDArray[Any], name: str) -> Pixels:
        """Pixels of a file's channels, by the rules of `read`.

        Args:
            bands: values as the file holds them; for 8-bit RGB one channel or three, of 8 or 16 bits.
            name: of the file, for messages.

        Shape: (H, W, C), to the same or with gray repeated.

        Raises:
            DataError: other channels or values than stated.
        """
        fitting = self._fitting(bands, name)
        if not self.is_rgb8:
            return self._scaled(fitting, name)
        if fitting.dtype == np.uint16:
            return eight_of_16_bits(fitting)
        if fitting.dtype != np.uint8:
            raise DataError(
                f"{name}: {fitting.dtype} values where 8 or 16 bits belong; other pixels need a network that was "
                "trained with data.value_range"
            )
        return np.ascontiguousarray(fitting)

    def _is_array(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        return suffix in ARRAY_SUFFIXES or (suffix in TIFF_SUFFIXES and not self.is_rgb8)

    def _fitting(self, bands: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        """The bands where they are as many as asked for; gray repeated for RGB."""
        found = bands.shape[2]
        if found == 1 and self.channels == _RGB:
            return np.repeat(bands, _RGB, axis=2)
        if found != self.channels:
            raise DataError(f"{name}: {found} channels where {self.channels} belong (data.channels)")
        return bands

    def _scaled(self, values: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
        """Values in units of the range, cut off at 0 and 1."""
        low, high = self.value_range or _full_range(values.dtype, name)
        scaled = values.astype(np.float32)
        scaled -= np.float32(low)
        scaled /= np.float32(high - low)
        if not np.isfinite(scaled).all():
            wrong = int(np.count_nonzero(~np.isfinite(scaled)))
            raise DataError(f"{name}: {wrong} values are not finite; fill them in before")
        return np.clip(scaled, 0, 1, out=scaled)


RGB8 = PixelFormat()
"""Ordinary pictures."""


def as_picture(image: Pixels) -> Array8:
    """An image as people look at it: the first three channels as 8-bit RGB, or the first one as gray.

    Shape: (H, W, C) to (H, W, 3).
    """
    shown = image[..., :_RGB] if image.shape[2] >= _RGB else np.repeat(image[..., :1], _RGB, axis=2)
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    return np.rint(shown * 255).astype(np.uint8)


def _full_range(dtype: np.dtype[Any], name: str) -> tuple[float, float]:
    """0 and the largest value of 8 or 16 bits.

    Raises:
        DataError: other types have no range of their own.
    """
    if dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(dtype).max)
    if dtype == np.bool_:
        return 0.0, 1.0
    raise DataError(f"{name}: {dtype} values, whose range is not known; state it: data.value_range=[0, 1]")
