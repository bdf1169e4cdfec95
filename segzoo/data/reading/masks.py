"""Files of masks: the very numbers stored, never the luminance of a palette, or the colours of a coloured picture.

`labels.py` says what the numbers mean. Every refusal is a `DataError` that names the file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from segzoo.data.reading.images import (
    MAX_PIXELS,
    displayed_size,
    largest_value,
    opened,
    raw_mode,
    upright,
    write_picture,
)
from segzoo.errors import DataError

_LOSSY = frozenset({"AVIF", "JPEG", "JPEG2000", "MPO"})
_MASK_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F"})
# Pillow stretches samples of so few bits to 0..255 while reading; dividing gives the stored number back.
_STRETCHED = {"2": 85, "4": 17}
_LARGEST_WHOLE = 2**24  # from where on float32 leaves whole numbers out
_TIFF_PHOTOMETRIC = 262
_TIFF_SAMPLE_FORMAT, _TIFF_SIGNED = 339, 2


class StoredMask(NamedTuple):
    """The numbers (H, W) in a mask file: palette indices, gray values, or 0 and 1.

    `palette` has the colour of each index as one number (`labels.color_number`), and is empty where the file has none.
    """

    values: npt.NDArray[np.integer]
    palette: tuple[int, ...] = ()


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.integer]:
    """The numbers of `read_stored_mask` alone. Shape: (H, W)."""
    return read_stored_mask(path, max_pixels).values


def read_stored_mask(path: Path, max_pixels: int = MAX_PIXELS) -> StoredMask:
    """Read a mask of one channel as the numbers stored in it, whatever a viewer would make of them.

    Raises:
        DataError: the file is missing, damaged, too large, coloured, or a JPEG, or holds fractions.
    """
    with opened(path, max_pixels) as image:
        _check_numbers(image, path)
        as_stored = _undo_display(image)
        shown = upright(image)
        values = np.asarray(shown)
        if values.dtype == np.float32:
            values = _whole_numbers(values, path)
        values = np.array(as_stored(values.astype(np.uint8) if values.dtype == np.bool_ else values))
        return StoredMask(values, _palette(shown, image.format))


def read_color_mask(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint32]:
    """Read a mask (H, W) whose colours stand for classes, each colour as one number (`labels.color_number`).

    Raises:
        DataError: the file is missing, damaged, too large, transparent in places, or a JPEG.
    """
    with opened(path, max_pixels) as image:
        _check_lossless(image, path)
        shown = upright(image)
        rgb = np.asarray(shown.convert("RGB")).astype(np.uint32)
        colors = (rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).astype(np.uint32, copy=False)
        if shown.has_transparency_data:
            _check_opaque(shown, colors, path)
        return colors


def is_colored_mask(path: Path) -> bool:
    """Whether only colours can stand for classes in a file, from its header; `DataError` of what is not a picture."""
    with opened(path) as image:
        return image.mode not in _MASK_MODES


def mask_size(path: Path, *, colored: bool = False) -> tuple[int, int]:
    """Height and width of a mask, from its header; where colours stand for classes, every lossless picture is one.

    Raises:
        DataError: the file is missing or can be no mask: coloured, or a JPEG.
    """
    with opened(path) as image:
        (_check_lossless if colored else _check_numbers)(image, path)
        return displayed_size(image)


def write_mask(path: Path, mask: npt.NDArray[np.integer], palette: Sequence[int]) -> None:
    """Write class indices (H, W) as an 8-bit indexed PNG with the colours of `LabelSpace.flat_palette`.

    Raises:
        DataError: a value does not fit 8 bits.
    """
    if mask.size and not 0 <= mask.min() <= mask.max() <= 255:
        raise DataError(f"{path}: mask values {mask.min()} to {mask.max()} do not fit 8 bits")
    image = Image.fromarray(mask.astype(np.uint8))
    # All 256 colours, or Pillow would write 1, 2 or 4 bits a pixel and cut 255 off.
    image.putpalette([*palette, *[0] * (768 - len(palette))])
    write_picture(path, image, "PNG")


def _check_lossless(image: Image.Image, path: Path) -> None:
    lossy = "JPEG" if image.info.get("compression") in {"jpeg", "tiff_jpeg"} else image.format
    if lossy in _LOSSY:
        raise DataError(f"{path}: a {lossy} cannot be a mask, its compression changes class numbers; use PNG")


def _check_numbers(image: Image.Image, path: Path) -> None:
    _check_lossless(image, path)
    if image.mode not in _MASK_MODES:
        raise DataError(
            f"{path}: {image.mode} picture where a mask of class numbers belongs; "
            "save one channel, or an indexed PNG with the classes' numbers as indices; in a folder data set "
            "data.folder.colors may say what its colours mean"
        )


def _check_opaque(image: Image.Image, colors: npt.NDArray[np.uint32], path: Path) -> None:
    """Transparent pixels have no colour to go by, but for those of a palette that gives it to no opaque ones."""
    clear = np.asarray(image.convert("RGBA"))[..., 3] < 255
    if clear.any() and (image.mode != "P" or np.isin(np.unique(colors[clear]), colors[~clear]).any()):
        raise DataError(f"{path}: transparent pixels have no colour; save the mask without transparency")


def _undo_display(image: Image.Image) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """From what Pillow shows to what a file holds; to be asked for before the pixels are decoded.

    Pillow stretches samples of 2 and 4 bits and PGM files of other largest values, turns TIFFs with white at 0 round,
    and takes signed bytes for unsigned ones.
    """
    packing = raw_mode(image).partition(";")[2]
    stretch = _STRETCHED.get(packing[:1], 1) if image.mode == "L" else 1
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    white_is_0 = tags.get(_TIFF_PHOTOMETRIC) == 0 and image.mode in {"1", "L"}
    signed = tags.get(_TIFF_SAMPLE_FORMAT) == (_TIFF_SIGNED,) and image.mode == "L"
    white = np.uint8(1 if image.mode == "1" else 255)
    largest, shown = largest_value(image), 255 if image.mode == "L" else 65535

    def as_stored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values = white - values if white_is_0 else values
        values = values // np.uint8(stretch) if stretch > 1 else values
        if largest not in (0, shown):
            return (values.astype(np.int64) * largest + shown // 2) // shown
        return values.view(np.int8) if signed else values

    return as_stored


def _whole_numbers(values: npt.NDArray[np.floating], path: Path) -> npt.NDArray[np.int32]:
    wrong = values[~(np.abs(values) <= _LARGEST_WHOLE) | (values != np.rint(values))]  # NaN fails the first
    if wrong.size:
        raise DataError(
            f"{path}: {wrong.size} px of a floating-point mask are no whole numbers, such as {wrong[0]:g}; write class "
            "numbers, and one number of its own for pixels without a class, which data.folder.ignore_value names"
        )
    return values.astype(np.int32)


def _palette(image: Image.Image, file_format: str | None) -> tuple[int, ...]:
    """The colour of each index of an indexed file. Of GIF and BMP, Pillow makes gray ones of ramps."""
    if image.mode == "P":
        channels = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
        return tuple((channels @ (1 << 16, 1 << 8, 1)).tolist())
    if file_format in {"GIF", "BMP"} and image.mode in {"1", "L"}:
        return tuple(level * 0x010101 for level in ((0, 255) if image.mode == "1" else range(256)))
    return ()
