"""From any image file to the pixels a network takes: 8-bit RGB, or any number of channels with any range of values.

`PixelFormat.read` chooses the reader: `images.read_image` for ordinary pictures, `images.read_bands` for their channels
as they are stored, `tiff.read_tiff` for other TIFFs, `arrays.read_npy` for arrays.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segzoo.config.data import SharedDataConfig
from segzoo.data.reading.arrays import ARRAY_SUFFIXES, Array8, Flags, Stored, read_npy
from segzoo.data.reading.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    MID_GRAY,
    ImageKind,
    check_alpha,
    eight_of_16_bits,
    image_kind,
    image_size,
    over_mid_gray,
    read_bands,
    read_image,
)
from segzoo.data.reading.tiff import TiffHeader, check_pages, check_tiff, read_tiff, read_tiff_header
from segzoo.errors import DataError, SegzooError, printable

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

_RGB = 3
_LOOKED_AT = 16  # images of a data set
_DARK = 2**14  # numbers of 16 bits that stay below come out all but black


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
    def of(cls, config: SharedDataConfig) -> "PixelFormat":
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

        Alpha counts as a channel where as many are asked for, else what is transparent is seen over mid-gray. Gray is
        repeated where three channels are asked for, and no other number of channels will do. Where a channel has no
        value, as a TIFF's nodata or mask says, or one that is not a number, it is seen as mid-gray.

        Args:
            path: a picture; a TIFF of any kind; with another number of channels or a stated range also `.npy`
                (H, W, C).
            max_pixels: refuse larger images before anything is decoded.
            reduction: 8-bit RGB may be decoded at this fraction of its size, as `read_image` does.

        Shape: (H, W, C).

        Raises:
            DataError: the file is missing, damaged, too large, or has other channels or values than stated.
            ConfigError: the package that reads such a TIFF is not installed.
        """
        if _is_npy(path):
            return self.from_stored(Stored(read_npy(path, self.channels, max_pixels)), str(path))
        header = check_tiff(path, max_pixels)
        if header is not None and not self._is_pillows(header):
            return self.from_stored(self._stored_tiff(path, header), str(path))
        if self.is_rgb8:
            return read_image(path, max_pixels, reduction)
        return self.from_stored(Stored(read_bands(path, max_pixels)), str(path))

    def lost(self, path: Path, max_pixels: int = MAX_PIXELS) -> Flags | None:
        """Where an image has nothing to see (H, W), and no mask says anything; None for nowhere. Errors as `read`.

        That is where no channel has a value, and where an image that lies somewhere on Earth is transparent.
        """
        if _is_npy(path):
            return Stored(read_npy(path, self.channels, max_pixels)).lost
        header = read_tiff_header(path)
        if header is None or not (header.may_lack_values or (header.has_place and header.has_alpha)):
            return None
        check_tiff(path, max_pixels)
        return self._stored_tiff(path, header).lost

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of an image, from its header.

        Raises:
            DataError: the file is missing or no image, or has other channels than stated.
        """
        if _is_npy(path):
            height, width, _ = read_npy(path, self.channels).shape
            return height, width
        header = read_tiff_header(path)
        if header is None or self._is_pillows(header):
            return image_size(path)
        self._check_tiff_channels(path, header)
        return header.size

    def kind(self, path: Path) -> ImageKind:
        """How an image is stored, from its header; `DataError` where there is no image."""
        if _is_npy(path):
            dtype = read_npy(path).dtype
            return ImageKind("array" if dtype == np.uint8 else f"{dtype} array", is_16_bit=dtype == np.uint16)
        header = read_tiff_header(path)
        if header is None or self._is_pillows(header):
            return image_kind(path)
        unit = "floating-point" if header.is_float else f"{header.bits}-bit"
        return ImageKind(f"{unit}, {header.channels} channels", is_16_bit=8 < header.bits <= 16 and not header.is_float)

    def highest_of_16_bits(self, image: Pixels, kind: ImageKind) -> int | None:
        """About the largest number in what `read` gave of 16 bits whose range nobody stated; None of other images."""
        if self.value_range is not None or not kind.is_16_bit:
            return None
        highest = float(image.max(where=image != self.gray, initial=0))  # gray is what has no value
        # Of 8 bits, the number is half a step lower than it might have been, and so in the range of as many bits.
        return max(0, int(highest) * 257 - 128) if image.dtype == np.uint8 else round(highest * 65535)

    def from_array(self, array: npt.NDArray[Any]) -> Pixels:
        """Pixels of an array with values as files hold them.

        Shape: (H, W, C), or (H, W) for one channel, to (H, W, C).

        Raises:
            DataError: no image; for 8-bit RGB another shape or type;
                another number of channels, values that are not finite, or whose range is not stated.
        """
        if not array.size:
            raise DataError(f"an image without pixels: its shape is {array.shape}")
        if self.is_rgb8 and (array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != _RGB):
            raise DataError(f"expected a uint8 RGB array (H, W, 3), not {array.dtype} {array.shape}")
        if self.is_rgb8:
            return array
        if array.ndim not in (2, 3):
            raise DataError(f"expected an array (H, W, {self.channels}), not {array.dtype} {array.shape}")
        return self.from_stored(Stored(array[..., None] if array.ndim == 2 else array), "image")

    def from_stored(self, stored: Stored, name: str) -> Pixels:
        """Pixels (H, W, C) of what the file of this name holds, by the rules of `read`.

        Raises:
            DataError: other channels or values than stated.
        """
        if stored.alpha is not None:
            check_alpha(stored.alpha, name)
        seen = self._eight_bits(stored, name) if self.is_rgb8 else self._scaled(stored, name)
        seen = self._repeated(seen, name)
        if stored.alpha is not None:
            seen = _over_gray(seen, stored.alpha)
        if (lost := stored.lost) is not None:
            seen[lost] = self.gray
        return seen

    @property
    def gray(self) -> float:
        """What a network sees where there is nothing."""
        return MID_GRAY if self.is_rgb8 else 0.5

    def takes_alpha_apart(self, channels: int, *, has_alpha: bool) -> bool:
        """Whether the last of so many channels is alpha that the network does not take as a channel."""
        return has_alpha and channels != self.channels and self._takes(channels - 1)

    def _is_pillows(self, header: TiffHeader) -> bool:
        """Whether Pillow reads such a TIFF as it should be read."""
        if header.has_palette:
            return not header.may_lack_values or not self.is_rgb8
        return self.is_rgb8 and header.is_picture and not header.may_lack_values

    def _stored_tiff(self, path: Path, header: TiffHeader) -> Stored:
        """What a TIFF holds; of a palette its colours, beside where it has none."""
        self._check_tiff_channels(path, header)
        stored = read_tiff(path, header)
        if header.has_palette:
            missing = stored.without_value
            colors = read_image(path)
            return Stored(colors, None if missing is None else np.broadcast_to(missing, colors.shape))
        if not self.takes_alpha_apart(header.channels, has_alpha=header.has_alpha):
            return stored
        missing = stored.missing
        return Stored(stored.values[..., :-1], None if missing is None else missing[..., :-1], stored.values[..., -1])

    def _check_tiff_channels(self, path: Path, header: TiffHeader) -> None:
        check_pages(path, header)
        if not self.takes_alpha_apart(header.channels, has_alpha=header.has_alpha):
            self.check_channels(header.channels, str(path))

    def _takes(self, channels: int) -> bool:
        return channels == self.channels or (channels == 1 and self.channels == _RGB)

    def check_channels(self, found: int, name: str) -> None:
        """Refuse a file with another number of channels, not counting alpha, than a network takes."""
        if not self._takes(found):
            raise DataError(
                f"{name}: {found} channels where {self.channels} belong (data.channels); data.channels={found} is for "
                "networks that take all of them"
            )

    def _repeated(self, bands: Pixels, name: str) -> Pixels:
        """The bands, or gray repeated for RGB."""
        self.check_channels(bands.shape[2], name)
        repeats = bands.shape[2] == 1 and self.channels == _RGB
        fitting = np.repeat(bands, _RGB, axis=2) if repeats else np.ascontiguousarray(bands)
        return cast(Pixels, fitting)

    def _eight_bits(self, stored: Stored, name: str) -> Array8:
        values = stored.values
        if values.dtype == np.uint16:
            return eight_of_16_bits(values)
        if values.dtype != np.uint8:
            raise DataError(
                f"{name}: {values.dtype} values where 8 or 16 bits belong; say which of them are black and white: "
                "data.value_range=[0, 1]"
            )
        return np.array(values)

    def _scaled(self, stored: Stored, name: str) -> npt.NDArray[np.float32]:
        """Values in units of the range, cut off at 0 and 1; mid-gray where a missing value is beyond the range."""
        self.check_channels(stored.values.shape[2], name)
        low, high = self.value_range or _full_range(stored.values.dtype, name)
        scaled = stored.values.astype(np.float32)
        scaled -= np.float32(low)
        scaled /= np.float32(high - low)
        if (missing := stored.without_value) is not None:
            scaled[missing & ~((scaled >= 0) & (scaled <= 1))] = self.gray
        if not np.isfinite(scaled).all():
            wrong = int(np.count_nonzero(~np.isfinite(scaled)))
            raise DataError(f"{name}: {wrong} values are infinite; fill them in before")
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


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() in ARRAY_SUFFIXES


def _over_gray(seen: Pixels, alpha: npt.NDArray[Any]) -> Pixels:
    """Pixels over mid-gray, as much of each as its alpha says."""
    if seen.dtype == np.uint8:
        alpha8 = alpha if alpha.dtype == np.uint8 else eight_of_16_bits(alpha)
        return over_mid_gray(np.dstack([seen, alpha8]))
    share = (alpha / np.float32(np.iinfo(alpha.dtype).max))[..., None]
    return np.asarray(seen * share + np.float32(0.5) * (1 - share), np.float32)


def dark_range(highest: int) -> tuple[float, float] | None:
    """The range of the bits that are used, where they are so few that 16-bit images would come out all but black.

    >>> dark_range(3000), dark_range(30000)
    ((0.0, 4095.0), None)
    """
    return sensor_range(highest) if highest < _DARK else None


def dark_line(names: Sequence[str], highest: int) -> str | None:
    """The line that says that these 16-bit images would come out all but black; None where they would not."""
    stated = dark_range(highest) if highest else None
    if stated is None:
        return None
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"{names[0]}{more}: 16-bit images whose largest number is about {highest} would come out all but black; say "
        f"which numbers mean black and white: data.value_range=[0, {stated[1]:g}], or [0, 65535] if they are so dark"
    )


def warn_of_dark(files: Sequence[Path], pixels: PixelFormat) -> None:
    """Look at some images, and log `dark_line` of those of 16 bits, if there is one."""
    deep = {}
    for path in files[:: -(-len(files) // _LOOKED_AT)] if files else ():
        with suppress(SegzooError):  # told when it is read
            kind = pixels.kind(path)
            highest = pixels.highest_of_16_bits(pixels.read(path), kind) if kind.is_16_bit else None
            if highest is not None:
                deep[printable(path)] = highest
    line = dark_line(list(deep), max(deep.values(), default=0))
    if line is not None:
        logger.warning("%s", line)


def sensor_range(highest: float) -> tuple[float, float]:
    """The range of some numbers with some room, as large as sensors have it: to 1, or to 255, 1023, 4095, ..."""
    return 0.0, 1.0 if highest <= 1 else float(2 ** max(8, int(np.ceil(np.log2(highest + 1)))) - 1)


def _full_range(dtype: np.dtype[Any], name: str) -> tuple[float, float]:
    """0 and the largest value of 8 or 16 bits; other types have no range of their own."""
    if dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(dtype).max)
    if dtype == np.bool_:
        return 0.0, 1.0
    raise DataError(f"{name}: {dtype} values, whose range is not known; state it: data.value_range=[0, 1]")
