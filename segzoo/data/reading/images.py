"""The only reader and writer of image and mask files.

Images come as upright 8-bit RGB whatever the file holds; masks as the very numbers stored, never as the
luminance of a palette. Every refusal is a `DataError` that names the file.
"""

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from segzoo.data.reading.tiff_header import check_tiff, read_tiff_header
from segzoo.errors import DataError
from segzoo.files import write_atomically

Array8 = npt.NDArray[np.uint8]

_TARGA = ".tga"
# As cameras, browsers and phones call the files of `_FORMATS`.
IMAGE_SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm",
        ".pgm", ".png", ".pnm", ".ppm", _TARGA, ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
MAX_PIXELS = 178_956_970  # where Pillow itself stops believing a header
MID_GRAY = 128  # what shows through transparent pixels

# Pillow has decoders for far more, each a risk with files from strangers.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LOSSY = frozenset({"AVIF", "JPEG", "JPEG2000", "MPO"})
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262
_J2K_START = b"\xff\x4f\xff\x51"  # of JPEG 2000's codestream and of the sizes in it
_J2K_HEAD = 2**20  # bytes in which these lie, behind whatever a file says of its colours
_J2K_FIRST_DEPTH = 42  # bytes from there to the bits of the first channel
_TIFF_SAMPLE_FORMAT, _TIFF_SIGNED = 339, 2
_EXIF_TURNED = range(5, 9)  # orientations that swap height and width
_MASK_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F"})
# Pillow stretches samples of so few bits to 0..255 while reading; dividing gives the stored number back.
_STRETCHED = {"2": 85, "4": 17}
_LARGEST_WHOLE = 2**24  # from where on float32 leaves whole numbers out
_DEEP_FORMATS = ("PNG", "PPM", "JPEG2000")  # whose 16 bits a colour Pillow cuts to 8, and OpenCV reads
_pillow_limit = threading.Lock()


class ImageKind(NamedTuple):
    """How a picture is stored.

    Args:
        pixels: in words: "RGB", "gray", "16-bit gray", "with alpha", ...
        turned: whether its EXIF orientation turns or mirrors it.
        quarter_turn: whether that swaps height and width.
        is_16_bit: whether its numbers go from 0 to 65535.
    """

    pixels: str
    turned: bool = False
    quarter_turn: bool = False
    is_16_bit: bool = False


class StoredMask(NamedTuple):
    """The numbers in a mask file.

    Args:
        values: palette indices, gray values, or 0 and 1; (H, W).
        palette: the colour of each index, as one number (`color_number`); empty where the file has no palette.
    """

    values: npt.NDArray[np.integer]
    palette: tuple[int, ...] = ()


def read_image(path: Path, max_pixels: int = MAX_PIXELS, reduction: int = 1) -> Array8:
    """Read a picture as upright RGB.

    Gray is repeated, alpha laid over mid-gray, 16-bit gray divided by 257 (of 16-bit colour Pillow keeps the
    high byte, at most one level off), EXIF orientation applied. An animation gives its first frame.

    Args:
        path: file in one of the formats of `IMAGE_SUFFIXES`, told by content.
        max_pixels: refuse larger pictures before anything is decoded.
        reduction: 1, 2, 4 or 8: JPEGs may be decoded at that fraction of their size, rounded up. Each pixel is then
            about the mean of those it stands for.

    Shape: (H, W, 3).

    Raises:
        DataError: the file is missing, no picture, damaged or too large; or its transparency is another channel.
    """
    with _opened(path, max_pixels) as image:
        if reduction > 1 and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
        return np.ascontiguousarray(_to_rgb(_upright(image), path))


def read_bands(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[Any]:
    """Read a picture's channels upright and as they are stored: alpha is one of them, palettes become colours.

    Shape: (H, W, C).

    Raises:
        DataError: the file is missing, no picture, damaged, too large, or of a kind that Pillow would change.
    """
    with _opened(path, max_pixels) as image:
        if _is_changed(image):
            return _deep_bands(image, path)
        upright = _upright(image)
        if upright.mode in {"P", "PA"}:
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        elif upright.mode == "1":
            upright = upright.convert("L")
        bands = np.array(upright)
        return bands[..., None] if bands.ndim == 2 else bands


def read_color_mask(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint32]:
    """Read a mask whose colours stand for classes, each colour as one number (`labels.color_number`).

    Args:
        path: coloured, gray or palette picture of a lossless format.
        max_pixels: refuse larger masks before anything is decoded.

    Shape: (H, W).

    Raises:
        DataError: the file is missing, damaged, too large, transparent in places, or a JPEG.
    """
    with _opened(path, max_pixels) as image:
        _refuse_jpeg_mask(image, path)
        upright = _upright(image)
        rgb = np.asarray(upright.convert("RGB")).astype(np.uint32)
        colors = (rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).astype(np.uint32, copy=False)
        if upright.has_transparency_data:
            _refuse_lost_colors(upright, colors, path)
        return colors


def _refuse_lost_colors(image: Image.Image, colors: npt.NDArray[np.uint32], path: Path) -> None:
    """Transparent pixels have no colour to go by, but for those of a palette that gives it to no opaque ones."""
    clear = np.asarray(image.convert("RGBA"))[..., 3] < 255
    if clear.any() and (image.mode != "P" or np.isin(np.unique(colors[clear]), colors[~clear]).any()):
        raise DataError(f"{path}: transparent pixels have no colour; save the mask without transparency")


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.integer]:
    """The numbers of `read_stored_mask` alone.

    Shape: (H, W).

    Raises:
        DataError: as `read_stored_mask`.
    """
    return read_stored_mask(path, max_pixels).values


def read_stored_mask(path: Path, max_pixels: int = MAX_PIXELS) -> StoredMask:
    """Read a mask as the numbers stored in it, whatever a viewer would make of them.

    Args:
        path: single-channel file of a lossless format; floating-point numbers have to be whole ones.
        max_pixels: refuse larger masks before anything is decoded.

    Raises:
        DataError: the file is missing, damaged, too large, coloured, or a JPEG, or holds fractions.
    """
    with _opened(path, max_pixels) as image:
        _refuse_as_mask(image, path)
        as_stored = _undo_display(image)
        upright = _upright(image)
        values = np.asarray(upright)
        if values.dtype == np.float32:
            values = _whole_numbers(values, path)
        values = np.array(as_stored(values.astype(np.uint8) if values.dtype == np.bool_ else values))
        return StoredMask(values, _palette(upright, image.format))


def _undo_display(image: Image.Image) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """From what Pillow shows to what a file holds; to be asked for before the pixels are decoded.

    Pillow stretches samples of 2 and 4 bits and PGM files of other largest values, turns TIFFs with white at 0 round,
    and takes signed bytes for unsigned ones.
    """
    packing = _raw_mode(image).partition(";")[2]
    stretch = _STRETCHED.get(packing[:1], 1) if image.mode == "L" else 1
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    white_is_0 = tags.get(_TIFF_PHOTOMETRIC) == 0 and image.mode in {"1", "L"}
    signed = tags.get(_TIFF_SAMPLE_FORMAT) == (_TIFF_SIGNED,) and image.mode == "L"
    white = np.uint8(1 if image.mode == "1" else 255)
    largest, shown = _largest_value(image), 255 if image.mode == "L" else 65535

    def as_stored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values = white - values if white_is_0 else values
        values = values // np.uint8(stretch) if stretch > 1 else values
        if largest not in (0, shown):
            return (values.astype(np.int64) * largest + shown // 2) // shown
        return values.view(np.int8) if signed else values

    return as_stored


def _whole_numbers(values: npt.NDArray[np.floating], path: Path) -> npt.NDArray[np.int32]:
    """Floating-point numbers as integers.

    Raises:
        DataError: some are none.
    """
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


def is_colored_mask(path: Path) -> bool:
    """Whether a mask is a picture in which only colours can stand for classes, from its header.

    Raises:
        DataError: the file is missing or no picture.
    """
    with _opened(path) as image:
        return image.mode not in _MASK_MODES


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as displayed, from its header.

    Raises:
        DataError: the file is missing or no picture.
    """
    with _opened(path) as image:
        return _displayed_size(image)


def image_kind(path: Path) -> ImageKind:
    """How a picture is stored, from its header.

    Raises:
        DataError: the file is missing or no picture.
    """
    with _opened(path) as image:
        orientation = _orientation_in_header(image)
        words, is_16_bit = _pixels_in_words(image), _is_16_bit(image)
        return ImageKind(words, orientation not in {0, 1}, orientation in _EXIF_TURNED, is_16_bit)


def is_image(path: Path) -> bool:
    """Whether a file's content is that of a picture, whatever its name."""
    try:
        image_size(path)
    except DataError:
        return False
    return True


def mask_size(path: Path, *, colored: bool = False) -> tuple[int, int]:
    """Height and width of a mask, from its header.

    Args:
        path: file of the mask.
        colored: its colours stand for classes, so that every lossless picture will do.

    Raises:
        DataError: the file is missing or can be no mask: coloured, or a JPEG.
    """
    with _opened(path) as image:
        (_refuse_jpeg_mask if colored else _refuse_as_mask)(image, path)
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
    write_atomically(path, _encoded(Image.fromarray(image), file_format))


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
    write_atomically(path, _encoded(image, "PNG"))


def eight_of_16_bits(values: npt.NDArray[np.integer]) -> Array8:
    """Values of 0 to 65535 divided by 257, to the nearest of 0 to 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def upright_array(values: npt.NDArray[Any], orientation: object) -> npt.NDArray[Any]:
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


def over_mid_gray(rgba: Array8) -> Array8:
    """Colours over mid-gray, as much of each as its alpha says. Shape: (H, W, 4) to (H, W, 3)."""
    return np.array(_over_mid_gray(Image.fromarray(rgba)))


def refuse_channel_as_alpha(alpha: npt.NDArray[np.integer], name: str) -> None:
    """Refuse a TIFF's channel that is marked as transparency and holds something else.

    GDAL marks the last of four channels so unless it is told not to: near infrared, for one. Transparency is all or
    nothing but for soft edges; a picture with more of these is rather one with four channels.

    Args:
        alpha: the channel, 8 or 16 bits.
        name: of the file.

    Raises:
        DataError: it holds something else.
    """
    between = np.count_nonzero((alpha > 0) & (alpha < np.iinfo(alpha.dtype).max))
    if 2 * between > alpha.size:
        raise DataError(
            f"{name}: its last channel is marked as transparency, but most of it is neither clear nor opaque; if it is "
            "one such as near infrared, say so: data.channels=4 (beside gray: 2); else save the picture without it"
        )


@contextmanager
def _opened(path: Path, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """An image whose header is read; checked if `max_pixels` is given. Faults become `DataError`."""
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if not path.is_file():  # reading a pipe would wait for ever
            raise DataError(f"{path}: not a regular file")
        read = _header if max_pixels is None else partial(_checked, max_pixels=max_pixels)
        with path.open("rb") as file, read(file, path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly every type on damaged files
        raise DataError(f"{path}: damaged or unreadable ({_reason(error)})") from error


def _checked(file: io.BufferedReader, path: Path, max_pixels: int) -> Image.Image:
    """As `_header`, but what is too large or has a wrong checksum is refused before a pixel is decoded."""
    image = _header(file, path)
    if image.format == "TIFF":
        check_tiff(path, max_pixels)
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(f"{path}: {width}x{height} pixels are more than the limit of {max_pixels}")
    if image.format == "PNG":
        _check_png(file)
    return image


def _check_png(file: io.BufferedReader) -> None:
    """Compare the checksums of all chunks, which decoding alone never looks at.

    Quicker than Pillow's `verify`, after which a file has to be opened again.
    """
    opened_at = file.tell()
    file.seek(len(_PNG_SIGNATURE))
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", file.read(8))
        content = file.read(length + 4)
        if len(content) < length + 4 or zlib.crc32(content[:-4], zlib.crc32(kind)) != int.from_bytes(content[-4:]):
            raise OSError(f"wrong checksum in chunk {kind.decode('latin-1')}")
    file.seek(opened_at)


def _header(file: io.BufferedReader, path: Path) -> Image.Image:
    file.seek(0)
    if not file.peek(1):
        raise DataError(f"{path}: empty file")
    try:
        with _pillow_limit:  # Pillow's own limit is global and cannot be raised for one call
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                # Targa's files begin with nothing of their own: text might be taken for one.
                return Image.open(file, formats=("TGA",) if path.suffix.lower() == _TARGA else _FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError:
        if header := read_tiff_header(path):
            raise DataError(
                f"{path}: a TIFF of {header.bits}-bit numbers, {header.channels} a pixel, which is no picture; save a "
                "mask with one channel of 8, 16 or 32 bits"
            ) from None
        raise DataError(f"{path}: not an image (known: {', '.join(_FORMATS)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _displayed_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # TIFF headers are turned by Pillow itself.
    turned = image.format != "TIFF" and _orientation_in_header(image) in _EXIF_TURNED
    return (width, height) if turned else (height, width)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except SyntaxError:  # Pillow's word for broken EXIF, which spoils no pixel
        return 1


def _orientation_in_header(image: Image.Image) -> object:
    """As `_orientation`, before the pixels are decoded: Pillow would decode all of a PNG to find its EXIF."""
    if isinstance(image, PngImagePlugin.PngImageFile) and "exif" not in image.info and not _has_late_exif(image):
        return 1
    return _orientation(image)


def _has_late_exif(image: PngImagePlugin.PngImageFile) -> bool:
    """Whether there is EXIF behind a PNG's pixels, where it may stand but seldom does."""
    file = image.fp
    if file is None:
        return False
    opened_at = file.tell()
    file.seek(len(_PNG_SIGNATURE))
    kind = b""
    while kind not in (b"IEND", b"eXIf"):
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(opened_at)
    return kind == b"eXIf"


def _pixels_in_words(image: Image.Image) -> str:
    deep = "16-bit " if _is_16_bit(image) else ""
    if image.has_transparency_data:
        return f"{deep}with alpha"
    if image.mode.startswith("I"):
        return "16-bit gray"
    words = {"1": "black and white", "L": "gray", "P": "palette", "F": "floating-point"}
    return deep + words.get(image.mode, image.mode)


def _is_16_bit(image: Image.Image) -> bool:
    deep = ";16" in _raw_mode(image) or _largest_value(image) > 255 or _bits_of_jpeg2000(image) > 8
    return deep or image.mode.startswith("I")


def _bits_of_jpeg2000(image: Image.Image) -> int:
    """Of a channel of a JPEG 2000, of which Pillow says nothing; 0 of any other picture."""
    file = image.fp if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) else None
    if file is None:
        return 0
    opened_at = file.tell()
    file.seek(0)
    head = file.read(_J2K_HEAD)
    file.seek(opened_at)
    depth = head.find(_J2K_START) + _J2K_FIRST_DEPTH
    return 1 + (head[depth] & 127) if depth < len(head) else 0  # the highest bit says whether there are negative ones


def _largest_value(image: Image.Image) -> int:
    """Of a PPM, whose header says it; else 0."""
    tiles = image.tile if isinstance(image, PpmImagePlugin.PpmImageFile) else []
    arguments = tiles[0].args if tiles else None
    return int(arguments[1]) if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 0


def _is_changed(image: Image.Image) -> bool:
    """Whether Pillow gives other numbers than are stored: 16-bit colours as 8 bits, those of 12 as if they had 16."""
    if image.format == "PPM":
        return image.mode == "I" or _largest_value(image) > 255
    if image.format == "JPEG2000":
        return _bits_of_jpeg2000(image) > 8
    return ";16" in _raw_mode(image) and not image.mode.startswith("I")


def _deep_bands(image: Image.Image, path: Path) -> npt.NDArray[Any]:
    """The channels of a picture whose numbers Pillow would change.

    Raises:
        DataError: of a format that nothing else here reads.
    """
    if image.format not in _DEEP_FORMATS:
        raise DataError(f"{path}: Pillow changes the numbers of a 16-bit {image.format}; save it as PNG, TIFF or .npy")
    gray_with_alpha = _raw_mode(image).startswith("LA")
    image.load()  # OpenCV says nothing of what is cut off
    bands = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if bands is None:
        raise DataError(f"{path}: damaged or unreadable")
    if bands.ndim == 2:
        bands = bands[..., None]
    else:
        bands = bands[..., [2, 3] if gray_with_alpha else [2, 1, 0, 3][: bands.shape[2]]]
    return upright_array(bands, _orientation(image))


def _raw_mode(image: Image.Image) -> str:
    """How samples lie in the file, such as "L;4"; known only before the pixels are decoded."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _refuse_jpeg_mask(image: Image.Image, path: Path) -> None:
    lossy = "JPEG" if image.info.get("compression") in {"jpeg", "tiff_jpeg"} else image.format
    if lossy in _LOSSY:
        raise DataError(f"{path}: a {lossy} cannot be a mask, its compression changes class numbers; use PNG")


def _refuse_as_mask(image: Image.Image, path: Path) -> None:
    _refuse_jpeg_mask(image, path)
    if image.mode not in _MASK_MODES:
        raise DataError(
            f"{path}: {image.mode} picture where a mask of class numbers belongs; "
            "save one channel, or an indexed PNG with the classes' numbers as indices; in a folder data set "
            "data.folder.colors may say what its colours mean"
        )


def picture_to_rgb(image: Image.Image) -> Array8:
    """8-bit RGB (H, W, 3) of an open picture by the rules of `read_image`, but as it lies: its array does, too.

    Raises:
        DataError: of a kind that has no such rule.
    """
    return np.ascontiguousarray(_to_rgb(image, Path(getattr(image, "filename", "") or "image")))


def _to_rgb(image: Image.Image, path: Path) -> Array8:
    """8-bit RGB of any upright picture that Pillow decodes."""
    if image.mode.startswith("I"):
        gray = _gray_from_16_bits(np.asarray(image), path)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError(f"{path}: floating-point pixels; save the picture with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if image.format == "TIFF":
            refuse_channel_as_alpha(np.asarray(rgba)[..., 3], str(path))
        return _over_mid_gray(rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # convert copies in any case


def _gray_from_16_bits(values: npt.NDArray[np.integer], path: Path) -> Array8:
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise DataError(f"{path}: 32-bit values {values.min()} to {values.max()}; save the picture with 16 bits")
    return eight_of_16_bits(values)


def _over_mid_gray(image: Image.Image) -> Array8:
    background = Image.new("RGBA", image.size, (MID_GRAY, MID_GRAY, MID_GRAY, 255))
    return np.asarray(Image.alpha_composite(background, image).convert("RGB"))


def _encoded(image: Image.Image, file_format: str) -> bytes:
    encoded = io.BytesIO()
    # Photographs as PNG hardly get smaller by trying harder, which takes three times as long.
    level = {"compress_level": 1} if file_format == "PNG" and image.mode == "RGB" else {}
    image.save(encoded, format=file_format, **level)
    return encoded.getvalue()
