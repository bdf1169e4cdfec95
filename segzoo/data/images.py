"""The only reader and writer of image and mask files.

Images come as upright 8-bit RGB whatever the file holds; masks as the very numbers stored, never as the
luminance of a palette. Every refusal is a `DataError` that names the file.
"""

import io
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from segzoo.data.labels import LabelSpace
from segzoo.errors import DataError

Array8 = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970  # where Pillow itself stops believing a header
MID_GRAY = 128  # what shows through transparent pixels

# Pillow has decoders for far more, each a risk with files from strangers.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNED = range(5, 9)  # orientations that swap height and width
_MASK_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L"})
# Pillow stretches these to 0..255 while reading; dividing gives the stored number back.
_STRETCHED = {"L;2": 85, "L;4": 17}
_pillow_limit = threading.Lock()


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Array8:
    """Read a picture as upright RGB.

    Gray is repeated, alpha laid over mid-gray, 16-bit gray divided by 257 (of 16-bit colour Pillow keeps the
    high byte, at most one level off), EXIF orientation applied. An animation gives its first frame.

    Args:
        path: file in one of the formats of `IMAGE_SUFFIXES`, told by content.
        max_pixels: refuse larger pictures before anything is decoded.

    Shape: (H, W, 3).

    Raises:
        DataError: the file is missing, no picture, damaged or too large.
    """
    with _opened(path, max_pixels) as image:
        return np.ascontiguousarray(_to_rgb(_upright(image), path))


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.integer]:
    """Read a mask as the numbers stored in it: palette indices, gray values, or 0 and 1.

    Args:
        path: single-channel file of a lossless format.
        max_pixels: refuse larger masks before anything is decoded.

    Shape: (H, W).

    Raises:
        DataError: the file is missing, damaged, too large, coloured, or a JPEG.
    """
    with _opened(path, max_pixels) as image:
        _refuse_as_mask(image, path)
        stretch = _STRETCHED.get(_raw_mode(image), 1)
        values = np.asarray(_upright(image))
        if values.dtype == np.bool_:
            return values.astype(np.uint8)
        return values // np.uint8(stretch) if stretch > 1 else values.copy()


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as displayed, from its header.

    Raises:
        DataError: the file is missing or no picture.
    """
    with _opened(path) as image:
        return _displayed_size(image)


def mask_size(path: Path) -> tuple[int, int]:
    """Height and width of a mask, from its header.

    Raises:
        DataError: the file is missing or can be no mask: coloured, or a JPEG.
    """
    with _opened(path) as image:
        _refuse_as_mask(image, path)
        return _displayed_size(image)


def write_image(path: Path, image: Array8) -> None:
    """Write an RGB or gray picture; the suffix says the format. Whole or not at all.

    Shape: (H, W, 3) or (H, W).

    Raises:
        DataError: the suffix names no format we write.
    """
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format not in _FORMATS:
        raise DataError(f"{path}: cannot write {path.suffix or 'a name without suffix'}; use .png or .jpg")
    _write_whole(path, Image.fromarray(image), file_format)


def write_mask(path: Path, mask: npt.NDArray[np.integer], palette: Sequence[int]) -> None:
    """Write class indices as an 8-bit indexed PNG. Whole or not at all.

    Args:
        path: where to; a `.png`.
        mask: class indices, 0 to 255.
        palette: 256 colours in a row (`LabelSpace.flat_palette`).

    Shape: mask (H, W).

    Raises:
        DataError: a value does not fit 8 bits.
    """
    if mask.size and not 0 <= mask.min() <= mask.max() <= 255:
        raise DataError(f"{path}: mask values {mask.min()} to {mask.max()} do not fit 8 bits")
    image = Image.fromarray(mask.astype(np.uint8))
    # All 256 colours, or Pillow would write 1, 2 or 4 bits a pixel and cut 255 off.
    image.putpalette([*palette, *[0] * (768 - len(palette))])
    _write_whole(path, image, "PNG")


def overlay(image: Array8, mask: npt.NDArray[np.integer], labels: LabelSpace, alpha: float = 0.5) -> Array8:
    """Lay the classes' colours over a picture; ignored pixels stay as they are.

    Args:
        image: the picture.
        mask: class indices.
        labels: whose palette to use.
        alpha: weight of the colours, 0 to 1.

    Shape: image (H, W, 3) and mask (H, W) to (H, W, 3).
    """
    colors = np.array(labels.flat_palette(), dtype=np.float32).reshape(256, 3)
    weights = np.full((256, 1), alpha, dtype=np.float32)
    weights[labels.ignore_index] = 0
    weight = weights[mask]
    return np.rint(image * (1 - weight) + colors[mask] * weight).astype(np.uint8)


@contextmanager
def _opened(path: Path, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """An image whose header is read; checked if `max_pixels` is given. Faults become `DataError`."""
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if not path.is_file():  # reading a pipe would wait for ever
            raise DataError(f"{path}: not a regular file")
        with path.open("rb") as file:
            if max_pixels is not None:
                _check(file, path, max_pixels)
            with _header(file, path) as image:
                yield image
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly every type on damaged files
        raise DataError(f"{path}: damaged or unreadable ({_reason(error)})") from error


def _check(file: io.BufferedReader, path: Path, max_pixels: int) -> None:
    """Refuse what is too large or has a wrong checksum, before a pixel is decoded."""
    with _header(file, path) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise DataError(f"{path}: {width}x{height} pixels are more than the limit of {max_pixels}")
        if image.format == "PNG":
            image.verify()  # decoding alone never looks at PNG's checksums


def _header(file: io.BufferedReader, path: Path) -> Image.Image:
    file.seek(0)
    if not file.peek(1):
        raise DataError(f"{path}: empty file")
    try:
        with _pillow_limit:  # Pillow's own limit is global and cannot be raised for one call
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(file, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image (known: {', '.join(_FORMATS)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _displayed_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # TIFF headers are turned by Pillow itself.
    turned = image.format != "TIFF" and _orientation(image) in _EXIF_TURNED
    return (width, height) if turned else (height, width)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except SyntaxError:  # Pillow's word for broken EXIF, which spoils no pixel
        return 1


def _raw_mode(image: Image.Image) -> str:
    """How samples lie in the file, such as "L;4"; known only before the pixels are decoded."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _refuse_as_mask(image: Image.Image, path: Path) -> None:
    if image.format in {"JPEG", "MPO"}:
        raise DataError(f"{path}: a JPEG cannot be a mask, its compression changes class numbers; use PNG")
    if image.mode not in _MASK_MODES:
        raise DataError(
            f"{path}: {image.mode} picture where a mask of class numbers belongs; "
            "save one channel, or an indexed PNG with the classes' numbers as indices"
        )


def _to_rgb(image: Image.Image, path: Path) -> Array8:
    """8-bit RGB of any upright picture that Pillow decodes."""
    if image.mode.startswith("I"):
        gray = _gray_from_16_bits(np.asarray(image), path)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError(f"{path}: floating-point pixels; save the picture with 8 or 16 bits")
    if image.has_transparency_data:
        return _over_mid_gray(image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _gray_from_16_bits(values: npt.NDArray[np.integer], path: Path) -> Array8:
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise DataError(f"{path}: 32-bit values {values.min()} to {values.max()}; save the picture with 16 bits")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _over_mid_gray(image: Image.Image) -> Array8:
    background = Image.new("RGBA", image.size, (MID_GRAY, MID_GRAY, MID_GRAY, 255))
    return np.asarray(Image.alpha_composite(background, image).convert("RGB"))


def _write_whole(path: Path, image: Image.Image, file_format: str) -> None:
    """Write beside the target and move over it, so that nobody ever sees half a file."""
    encoded = io.BytesIO()
    image.save(encoded, format=file_format)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(encoded.getvalue())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
