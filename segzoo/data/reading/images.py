"""Pictures as Pillow reads and writes them: PNG, JPEG, TIFF and the like, of 8 or 16 bits.

`read_image` gives upright 8-bit RGB whatever the file holds: gray is repeated, alpha laid over mid-gray, 16 bits become
8. `read_bands` gives the channels as they are stored. `masks.py` reads masks, and `pixels.py` chooses between these
readers and those of arrays and other TIFFs. Every refusal is a `DataError` that names the file.
"""

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

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
    UnidentifiedImageError,
)

from segzoo.data.reading.arrays import Array8, Numbers, reading, upright_array
from segzoo.data.reading.tiff import check_tiff, read_tiff_header
from segzoo.errors import DataError
from segzoo.files import write_atomically

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
_DEEP_FORMATS = ("PNG", "PPM", "JPEG2000")  # whose 16 bits a colour Pillow cuts to 8, and OpenCV reads
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_ORIENTATION = 0x0112
_EXIF_TURNED = range(5, 9)  # orientations that swap height and width
_J2K_START = b"\xff\x4f\xff\x51"  # of JPEG 2000's codestream and of the sizes in it
_J2K_HEAD = 2**20  # bytes in which these lie, behind whatever a file says of its colours
_J2K_FIRST_DEPTH = 42  # bytes from there to the bits of the first channel
_pillow_limit = threading.Lock()


class ImageKind(NamedTuple):
    """How a picture is stored."""

    pixels: str  # in words: "RGB", "gray", "16-bit gray", "with alpha", ...
    turned: bool = False  # whether its EXIF orientation turns or mirrors it
    quarter_turn: bool = False  # whether that swaps height and width
    is_16_bit: bool = False  # whether its numbers go from 0 to 65535


def read_image(path: Path, max_pixels: int = MAX_PIXELS, reduction: int = 1) -> Array8:
    """Read a picture as upright RGB.

    Gray is repeated, alpha laid over mid-gray, 16-bit gray divided by 257 (of 16-bit colour Pillow keeps the
    high byte, at most one level off), EXIF orientation applied. An animation gives its first frame.

    Args:
        path: file in one of the formats of `IMAGE_SUFFIXES`, told by content.
        max_pixels: refuse larger pictures before anything is decoded.
        reduction: 1, 2, 4 or 8: JPEGs may be decoded at that fraction of their size, rounded up, by means of pixels.

    Shape: (H, W, 3).

    Raises:
        DataError: the file is missing, no picture, damaged or too large; or its transparency is another channel.
    """
    with opened(path, max_pixels) as image:
        if reduction > 1 and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
        return picture_to_rgb(upright(image), path)


def picture_to_rgb(image: Image.Image, path: Path | None = None) -> Array8:
    """8-bit RGB (H, W, 3) of an open picture by the rules of `read_image`, but as it lies, without its EXIF.

    Raises:
        DataError: of a kind that has no such rule.
    """
    name = str(path) if path else str(getattr(image, "filename", "") or "image")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise DataError(f"{name}: 32-bit values {values.min()} to {values.max()}; save the picture with 16 bits")
        return np.repeat(eight_of_16_bits(values)[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError(f"{name}: floating-point pixels; save the picture with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        if image.format == "TIFF":
            check_alpha(rgba[..., 3], name)
        return over_mid_gray(rgba)
    return np.ascontiguousarray(image if image.mode == "RGB" else image.convert("RGB"))


def eight_of_16_bits(values: npt.NDArray[np.integer]) -> Array8:
    """Values of 0 to 65535 divided by 257, to the nearest of 0 to 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def over_mid_gray(rgba: Array8) -> Array8:
    """Colours over mid-gray, as much of each as its alpha says. Shape: (H, W, 4) to (H, W, 3)."""
    image = Image.fromarray(rgba)
    background = Image.new("RGBA", image.size, (MID_GRAY, MID_GRAY, MID_GRAY, 255))
    return np.array(Image.alpha_composite(background, image).convert("RGB"))


def check_alpha(alpha: npt.NDArray[np.integer], name: str) -> None:
    """Refuse a TIFF's channel that is marked as transparency and holds something else.

    GDAL marks the last of four channels so unless it is told not to: near infrared, for one. Transparency is all or
    nothing but for soft edges; a picture with more of these is rather one with four channels.
    """
    between = np.count_nonzero((alpha > 0) & (alpha < np.iinfo(alpha.dtype).max))
    if 2 * between > alpha.size:
        raise DataError(
            f"{name}: its last channel is marked as transparency, but most of it is neither clear nor opaque; if it is "
            "one such as near infrared, say so: data.channels=4 (beside gray: 2); else save the picture without it"
        )


def read_bands(path: Path, max_pixels: int = MAX_PIXELS) -> Numbers:
    """Read a picture's channels upright and as they are stored: alpha is one of them, palettes become colours.

    Shape: (H, W, C).

    Raises:
        DataError: the file is missing, no picture, damaged, too large, or of a kind that Pillow would change.
    """
    with opened(path, max_pixels) as image:
        if _is_changed(image):
            return _deep_bands(image, path)
        shown = upright(image)
        if shown.mode in {"P", "PA"}:
            shown = shown.convert("RGBA" if shown.has_transparency_data else "RGB")
        elif shown.mode == "1":
            shown = shown.convert("L")
        bands = np.array(shown)
        return bands[..., None] if bands.ndim == 2 else bands


def _is_changed(image: Image.Image) -> bool:
    """Whether Pillow gives other numbers than are stored: 16-bit colours as 8 bits, those of 12 as if they had 16."""
    if image.format == "PPM":
        return image.mode == "I" or largest_value(image) > 255
    if image.format == "JPEG2000":
        return _bits_of_jpeg2000(image) > 8
    return ";16" in raw_mode(image) and not image.mode.startswith("I")


def _deep_bands(image: Image.Image, path: Path) -> Numbers:
    """The channels of a picture whose numbers Pillow would change."""
    if image.format not in _DEEP_FORMATS:
        raise DataError(f"{path}: Pillow changes the numbers of a 16-bit {image.format}; save it as PNG, TIFF or .npy")
    gray_with_alpha = raw_mode(image).startswith("LA")
    image.load()  # OpenCV says nothing of what is cut off
    bands = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if bands is None:
        raise DataError(f"{path}: damaged or unreadable")
    if bands.ndim == 2:
        bands = bands[..., None]
    else:
        bands = bands[..., [2, 3] if gray_with_alpha else [2, 1, 0, 3][: bands.shape[2]]]
    return upright_array(bands, _orientation(image))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as displayed, from its header; `DataError` where there is no picture."""
    with opened(path) as image:
        return displayed_size(image)


def image_kind(path: Path) -> ImageKind:
    """How a picture is stored, from its header; `DataError` where there is no picture."""
    with opened(path) as image:
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


def _pixels_in_words(image: Image.Image) -> str:
    deep = "16-bit " if _is_16_bit(image) else ""
    if image.has_transparency_data:
        return f"{deep}with alpha"
    if image.mode.startswith("I"):
        return "16-bit gray"
    words = {"1": "black and white", "L": "gray", "P": "palette", "F": "floating-point"}
    return deep + words.get(image.mode, image.mode)


def _is_16_bit(image: Image.Image) -> bool:
    deep = ";16" in raw_mode(image) or largest_value(image) > 255 or _bits_of_jpeg2000(image) > 8
    return deep or image.mode.startswith("I")


def raw_mode(image: Image.Image) -> str:
    """How samples lie in the file, such as "L;4"; known only before the pixels are decoded."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def largest_value(image: Image.Image) -> int:
    """Of a PPM, whose header says it; else 0."""
    tiles = image.tile if isinstance(image, PpmImagePlugin.PpmImageFile) else []
    arguments = tiles[0].args if tiles else None
    return int(arguments[1]) if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 0


def _bits_of_jpeg2000(image: Image.Image) -> int:
    """Of a channel of a JPEG 2000, of which Pillow says nothing; 0 of any other picture."""
    if not isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) or image.fp is None:
        return 0
    with _place_kept(image.fp):
        image.fp.seek(0)
        head = image.fp.read(_J2K_HEAD)
    depth = head.find(_J2K_START) + _J2K_FIRST_DEPTH
    return 1 + (head[depth] & 127) if depth < len(head) else 0  # the highest bit says whether there are negative ones


@contextmanager
def opened(path: Path, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """A picture whose header is read; what goes wrong with it becomes a `DataError`.

    With `max_pixels`, for whoever decodes it, what is too large or has a wrong checksum is refused before that.
    """
    with reading(path), path.open("rb") as file, _header(file, path) as image:
        if max_pixels is not None:
            _check(image, file, path, max_pixels)
        yield image


def _header(file: io.BufferedReader, path: Path) -> Image.Image:
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


def _check(image: Image.Image, file: io.BufferedReader, path: Path, max_pixels: int) -> None:
    if image.format == "TIFF":
        check_tiff(path, max_pixels)
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(f"{path}: {width}x{height} pixels are more than the limit of {max_pixels}")
    if image.format == "PNG":
        # Decoding alone never looks at checksums, and after Pillow's `verify` a file has to be opened again.
        with _place_kept(file):
            for kind, length in _png_chunks(file):
                content = file.read(length + 4)
                whole = len(content) == length + 4
                if not whole or zlib.crc32(content[:-4], zlib.crc32(kind)) != int.from_bytes(content[-4:]):
                    raise OSError(f"wrong checksum in chunk {kind.decode('latin-1')}")


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, in which the file then stands.

    Raises:
        struct.error: the file ends before its last chunk.
    """
    place, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield kind, length
        place += 8 + length + 4


@contextmanager
def _place_kept(file: IO[bytes]) -> Iterator[None]:
    """Leave an open file where it stands, for Pillow reads on from there."""
    place = file.tell()
    yield
    file.seek(place)


def upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation has it shown, decoded."""
    image.load()
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as displayed, before the pixels are decoded."""
    width, height = image.size
    # TIFF headers are turned by Pillow itself.
    turned = image.format != "TIFF" and _orientation_in_header(image) in _EXIF_TURNED
    return (width, height) if turned else (height, width)


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
    if image.fp is None:
        return False
    with _place_kept(image.fp), suppress(struct.error):  # of a file that ends too early
        return any(kind == b"eXIf" for kind, _ in _png_chunks(image.fp))
    return False


def write_image(path: Path, image: Array8) -> None:
    """Write an RGB (H, W, 3) or gray (H, W) picture, whole or not at all; the suffix says the format.

    Raises:
        DataError: the suffix names no format we write.
    """
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format not in _FORMATS:
        raise DataError(f"{path}: cannot write {path.suffix or 'a name without suffix'}; use .png or .jpg")
    write_picture(path, Image.fromarray(image), file_format)


def write_picture(path: Path, picture: Image.Image, file_format: str) -> None:
    """Write a picture in one of Pillow's formats. Whole or not at all."""
    encoded = io.BytesIO()
    # Photographs as PNG hardly get smaller by trying harder, which takes three times as long.
    level = {"compress_level": 1} if file_format == "PNG" and picture.mode == "RGB" else {}
    picture.save(encoded, format=file_format, **level)
    write_atomically(path, encoded.getvalue())
