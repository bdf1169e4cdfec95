"""TIFFs of any number of channels: their headers, read without any package, and their numbers.

A header is looked at before anything is decoded, and refused where a decoder would hang or take all memory.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segzoo.data.reading.arrays import Numbers, Stored, reading, upright_array
from segzoo.errors import ConfigError, DataError

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
_MOST_ENTRIES = 4096
_MOST_PAGES = 65_536
_MOST_VALUES = 64  # of a tag that are read: no tag that is asked for has more
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION = 254, 256, 257, 258, 262, 274
_SAMPLES, _STRIP_ROWS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _KIND = 277, 278, 284, 322, 323, 338, 339
_NODATA = 42113  # GDAL's
_PLACES = frozenset({33550, 33922, 34264, 34735, 50844})  # pixel scale, tie points, matrix, projection, RPC
_ASKED = frozenset(
    {
        _SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _STRIP_ROWS, _PLANES, _TILE_WIDTH,
        _TILE_HEIGHT, _EXTRA, _KIND, _NODATA, *_PLACES,
    }
)  # fmt: skip
# How Python unpacks a value of each type that whole numbers can be of; others stay bytes.
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_REDUCED, _MASK = 1, 4  # bits of the kind of page: a smaller copy; which pixels are there
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_COLORS = {_RGB: 3, 5: 4, 6: 3, 8: 3}  # RGB, CMYK, YCbCr, Lab: and their numbers of samples
_ALPHA = ((1,), (2,))  # associated and unassociated
_UNSIGNED, _FLOAT = 1, 3
_LARGEST_BLOCK = 512 * 2**20  # bytes that a decoder takes for one tile or strip
_SMALL = 64 * 2**20  # bytes that any file may claim
_MOST_PACKED = 10_000  # times as much as a file holds, beyond what compressors reach with pictures

Tags = dict[int, tuple[int, ...] | bytes]


@dataclass(frozen=True)
class TiffHeader:
    """The first image of a TIFF; sizes in pixels, as they are stored."""

    height: int
    width: int
    channels: int  # samples of a pixel; or pages of one size, where each has one sample
    bits: int  # of a sample
    sample_kind: int  # 1 unsigned, 2 signed, 3 floating-point
    photometric: int  # what the samples mean: 0 and 1 gray, 2 RGB, 3 indices of a palette, ...
    extra: tuple[int, ...]  # what the samples beyond those mean: 1 and 2 alpha, 0 anything
    orientation: int  # 1 to 8, as in EXIF
    pages: tuple[int, ...]  # numbers of the pages that are the image
    mask_page: int | None  # number of the page that says where there is something, if there is one
    nodata: float | None  # the value that stands for nothing, if there is one
    block: tuple[int, int]  # height and width of the tiles or strips it is stored in
    in_planes: bool  # whether each sample has blocks of its own
    has_place: bool  # whether tags say where on Earth it lies
    is_big_swapped: bool  # whether it is a BigTIFF with the highest byte first, which Pillow cannot read
    file_bytes: int

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is marked as transparency."""
        return self.extra in _ALPHA and self.channels == (4 if self.photometric == _RGB else 2)

    @property
    def has_palette(self) -> bool:
        """Whether pixels are indices of colours."""
        return self.photometric == _PALETTE

    @property
    def is_float(self) -> bool:
        """Whether samples are floating-point numbers."""
        return self.sample_kind == _FLOAT

    @property
    def is_picture(self) -> bool:
        """Whether Pillow reads it as 8-bit RGB without loss but for bits: gray or coloured, with or without alpha."""
        if self.bits > 16 or self.sample_kind != _UNSIGNED or len(self.pages) > 1:
            return False
        if self.is_big_swapped or (self.bits > 8 and self.in_planes):  # which Pillow cannot read
            return False
        gray = self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE)
        return self.channels - self.has_alpha == (1 if gray else _COLORS.get(self.photometric))

    @property
    def may_lack_values(self) -> bool:
        """Whether there may be pixels without a value."""
        return self.nodata is not None or self.mask_page is not None or self.is_float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as displayed."""
        return (self.width, self.height) if self.orientation in range(5, 9) else (self.height, self.width)

    @property
    def decoded_bytes(self) -> int:
        """What the decoded image takes."""
        return self.height * self.width * self.channels * math.ceil(self.bits / 8)

    @property
    def block_bytes(self) -> int:
        """What one decoded tile or strip takes."""
        samples = 1 if self.in_planes or len(self.pages) > 1 else self.channels
        return self.block[0] * self.block[1] * samples * math.ceil(self.bits / 8)


def read_tiff_header(path: Path) -> TiffHeader | None:
    """The header of a TIFF or BigTIFF; None of any other file, or where the header is damaged."""
    try:
        return _read(path)
    except (DataError, OSError, OverflowError, ValueError, struct.error):
        return None


def check_tiff(path: Path, max_pixels: int) -> TiffHeader | None:
    """The header of a TIFF that is to be read whole; None of a file whose content is of another kind.

    Raises:
        DataError: its pages form a circle, or what it claims is too large or cannot be in the file.
    """
    header = _checked(path)
    if header is None:
        return None
    if header.height * header.width > max_pixels:
        raise DataError(f"{path}: {header.width}x{header.height} pixels are more than the limit of {max_pixels}")
    _check_block(path, header, max(_LARGEST_BLOCK, header.decoded_bytes))
    if header.decoded_bytes > max(_SMALL, _MOST_PACKED * header.file_bytes):
        claimed = f"{header.decoded_bytes / 2**30:.1f} GiB"
        raise DataError(f"{path}: damaged or unreadable ({header.file_bytes} bytes that claim to hold {claimed})")
    return header


def check_windows(path: Path) -> TiffHeader | None:
    """The header of a TIFF that is to be read by windows: one tile or strip at a time is in memory then.

    Raises:
        DataError: its pages form a circle, or a tile or strip is too large.
    """
    header = _checked(path)
    if header is not None:
        _check_block(path, header, _LARGEST_BLOCK)
    return header


def read_tiff(path: Path, header: TiffHeader) -> Stored:
    """The numbers of a TIFF, upright. Pages of one size with a channel each are its channels; alpha is one of them.

    Raises:
        DataError: the file, whose header is checked already, is damaged.
        ConfigError: the package that reads it is not installed.
    """
    check_pages(path, header)
    tifffile = _tifffile(path)
    # Neither a series that its description makes of the pages, nor other files that it names.
    with reading(path), tifffile.TiffFile(path, is_ome=False, is_shaped=False) as file:
        pages = [_channels_last(file.pages[number]) for number in header.pages]
        values = np.stack(pages, axis=2).reshape(header.height, header.width, -1)
        there = None if header.mask_page is None else file.pages[header.mask_page].asarray()
    missing = None
    if header.nodata is not None:
        # Rounded as the file's numbers are.
        nodata = values.dtype.type(header.nodata) if values.dtype.kind == "f" else header.nodata
        missing = np.isnan(values) if np.isnan(header.nodata) else values == nodata
    if there is not None:
        nothing = np.broadcast_to((there == 0)[..., None], values.shape)
        missing = nothing if missing is None else missing | nothing
    if header.photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
        values = values.dtype.type(2**header.bits - 1) - values
    upright = upright_array(values, header.orientation)
    return Stored(upright, None if missing is None else upright_array(missing, header.orientation))


def check_pages(path: Path, header: TiffHeader) -> None:
    """Refuse several pages of several channels each, for they cannot be the channels of one image."""
    if len(header.pages) > 1 and header.channels != len(header.pages):
        raise DataError(f"{path}: {len(header.pages)} pages of {header.channels} channels each; save them as images")


def _channels_last(page: Any) -> Numbers:
    """The numbers of a page: (H, W, C), or (H, W) where there is one channel."""
    values: Numbers = page.asarray()
    return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


def _tifffile(path: Path) -> Any:
    """The TIFF reader, which is optional: most people have pictures."""
    try:
        return import_module("tifffile")
    except ImportError:
        raise ConfigError(
            f"{path}: TIFFs that are no 8-bit RGB pictures need a reader: pip install tifffile imagecodecs"
        ) from None


def _checked(path: Path) -> TiffHeader | None:
    try:
        return _read(path)
    except FileNotFoundError:
        return None  # said by what opens it next
    except (OSError, OverflowError, ValueError, struct.error) as error:
        reason = "cut off in its header" if isinstance(error, struct.error) else error
        raise DataError(f"{path}: damaged or unreadable ({reason})") from None


def _check_block(path: Path, header: TiffHeader, most_bytes: int) -> None:
    if header.block_bytes > most_bytes:
        raise DataError(
            f"{path}: stored in blocks of {header.block[1]}x{header.block[0]} pixels, which take "
            f"{header.block_bytes / 2**30:.1f} GiB each; write it in small tiles (gdal_translate -co TILED=YES)"
        )


def _read(path: Path) -> TiffHeader | None:
    """The header, after a walk over all pages.

    Raises:
        DataError: the pages form a circle.
        OSError, OverflowError, ValueError, struct.error: the file cannot be read, is damaged or ends in the header.
    """
    if not path.is_file():  # reading a pipe would wait for ever
        return None
    with path.open("rb") as file:
        order = _ORDERS.get(file.read(2))
        version = struct.unpack(f"{order}H", file.read(2))[0] if order else None
        if order is None or version not in (_CLASSIC, _BIG):
            return None
        pages = list(_pages(path, file, order, big=version == _BIG))
        return _header(pages, path.stat().st_size, is_big_swapped=version == _BIG and order == ">")


def _pages(path: Path, file: BinaryIO, order: str, *, big: bool) -> Iterator[Tags]:
    """The tags of each page, in order."""
    place, count = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
    if big:
        file.read(4)
    seen: set[int] = set()
    offset = _number(file, place)
    while offset:
        if offset in seen:
            raise DataError(f"{path}: damaged or unreadable (its pages form a circle)")
        if len(seen) == _MOST_PAGES:
            raise DataError(f"{path}: damaged or unreadable (more than {_MOST_PAGES} pages)")
        seen.add(offset)
        try:
            file.seek(offset)
            entries = _number(file, count)
            if entries > _MOST_ENTRIES:
                raise ValueError(f"a page with {entries} tags")
            tags, offset = _tags(file, entries, place), _number(file, place)
        except (OverflowError, ValueError, struct.error):
            if len(seen) == 1:
                raise
            return  # damage behind the first page does not spoil it
        yield tags


def _number(file: BinaryIO, kind: str) -> int:
    return int(struct.unpack(kind, file.read(struct.calcsize(kind)))[0])


def _tags(file: BinaryIO, entries: int, place: str) -> Tags:
    """The tags that are asked for; the file stands behind the page's last one afterwards."""
    order, inline = place[0], struct.calcsize(place)
    head = f"{order}HH{place[1]}"
    size = struct.calcsize(head)
    content = file.read(entries * (size + inline))
    after = file.tell()
    tags: Tags = {}
    for start in range(0, entries * (size + inline), size + inline):
        tag, kind, count = struct.unpack_from(head, content, start)
        if tag not in _ASKED:
            continue
        count = min(count, _MOST_VALUES)
        numbers = f"{order}{count}{_TYPES.get(kind, 's')}"
        value = content[start + size : start + size + inline]
        if struct.calcsize(numbers) > inline:
            file.seek(struct.unpack(place, value)[0])
            value = file.read(struct.calcsize(numbers))
        known = kind in _TYPES and len(value) >= struct.calcsize(numbers)
        tags[tag] = struct.unpack_from(numbers, value) if known else value
    file.seek(after)
    return tags


def _header(pages: list[Tags], file_bytes: int, *, is_big_swapped: bool) -> TiffHeader:
    if not pages:
        raise ValueError("no page")
    first = pages[0]
    height, width, samples = _one(first, _HEIGHT), _one(first, _WIDTH), _one(first, _SAMPLES, 1)
    if height < 1 or width < 1 or samples < 1:
        raise ValueError(f"a page of {width}x{height} pixels with {samples} channels")
    extra = first.get(_EXTRA, ())
    own, mask = [0], None
    for number, page in enumerate(pages[1:], start=1):
        if (_one(page, _HEIGHT), _one(page, _WIDTH)) != (height, width):
            continue
        if _one(page, _SUBFILE) & _MASK:
            mask = number
        elif not _one(page, _SUBFILE) & _REDUCED:
            own.append(number)
    tile = _one(first, _TILE_HEIGHT), _one(first, _TILE_WIDTH)
    return TiffHeader(
        height=height,
        width=width,
        channels=len(own) if samples == 1 else samples,
        bits=max(_several(first, _BITS, 1)),
        sample_kind=max(_several(first, _KIND, _UNSIGNED)),
        photometric=_one(first, _PHOTOMETRIC, _BLACK_IS_ZERO),
        extra=extra if isinstance(extra, tuple) else (),
        orientation=_one(first, _ORIENTATION, 1),
        pages=tuple(own),
        mask_page=mask,
        nodata=_nodata(first),
        block=tile if all(tile) else (min(_one(first, _STRIP_ROWS, height) or height, height), width),
        in_planes=_one(first, _PLANES, 1) == 2,
        has_place=not _PLACES.isdisjoint(first),
        is_big_swapped=is_big_swapped,
        file_bytes=file_bytes,
    )


def _several(page: Tags, tag: int, default: int) -> tuple[int, ...]:
    value = page.get(tag)
    return value if isinstance(value, tuple) and value else (default,)


def _one(page: Tags, tag: int, default: int = 0) -> int:
    return _several(page, tag, default)[0]


def _nodata(page: Tags) -> float | None:
    """GDAL writes the value as text."""
    text = page.get(_NODATA, b"")
    with suppress(ValueError):
        return float(text.split(b"\0")[0].decode("ascii", "replace")) if isinstance(text, bytes) and text else None
    return None
