"""What a TIFF's header says, read without any package: how large it is, and whether it lies somewhere on Earth."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
_WIDTH, _HEIGHT = 256, 257
_PLACES = frozenset({33550, 33922, 34264, 34735, 50844})  # pixel scale, tie points, matrix, projection, RPC
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the kinds of number a size may be
_MOST_ENTRIES = 4096


class TiffHeader(NamedTuple):
    """The first image of a TIFF.

    Args:
        height: in pixels.
        width: in pixels.
        has_place: whether tags say where on Earth it lies.
    """

    height: int
    width: int
    has_place: bool


def read_tiff_header(path: Path) -> TiffHeader | None:
    """The header of a TIFF or BigTIFF; None where the file is none, or damaged before its first pixel."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return None
        with path.open("rb") as file:
            tags = dict(_entries(file))
    except (OSError, OverflowError, ValueError, struct.error, KeyError):
        return None
    if not tags.get(_WIDTH) or not tags.get(_HEIGHT):
        return None
    return TiffHeader(tags[_HEIGHT], tags[_WIDTH], not _PLACES.isdisjoint(tags))


def _entries(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Tags of the first image with their values, which mean something only where a value is one number."""
    order = _ORDERS[file.read(2)]
    (version,) = struct.unpack(order + "H", file.read(2))
    if version not in (_CLASSIC, _BIG):
        raise KeyError(version)
    offset_format, count_format = ("I", "H") if version == _CLASSIC else ("Q", "Q")
    if version == _BIG:
        file.read(4)
    place = struct.calcsize(order + offset_format)
    (offset,) = struct.unpack(order + offset_format, file.read(place))
    file.seek(offset)
    (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(order + count_format)))
    for _ in range(min(count, _MOST_ENTRIES)):
        tag, kind, _ = struct.unpack(f"{order}HH{offset_format}", file.read(4 + place))
        value = file.read(place)
        number = _FORMATS.get(kind)
        yield tag, struct.unpack_from(order + number, value)[0] if number and len(value) == place else 0
