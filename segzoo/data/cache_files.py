"""The files of a cache of decoded samples: where each sample lies, and reading and writing them from many processes.

A split has three files: the pixels of all samples one after the other (`.pixels`), which of them are written, with a
checksum (`.done`), and the place of each (`.json`). Whoever reads a sample first writes it; several writers of one
sample write the same bytes. A place belongs to files of one name, size and time of change: another version of a file
gets another place, so that a process that still reads the old one is left in peace. The checksum is of the version and
the pixels, so that a place that is said to hold one sample and holds another is found out.
"""

import hashlib
import json
import logging
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.data.dataset import Sample
from segzoo.data.pairs import FileDataset, Pair
from segzoo.data.pixels import PixelFormat
from segzoo.data.sample import mask_extent
from segzoo.errors import DataError, first_line
from segzoo.files import locked, open_own, read_json, write_atomically

logger = logging.getLogger(__name__)

_RECORD = np.dtype([("written", np.uint8), ("checksum", np.uint32)])
_ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Where a sample lies in the cache.

    Args:
        version: names, sizes and times of change of its files, hashed.
        slot: number of its record in `.done`.
        offset: first byte of the image in `.pixels`; the mask follows.
        height: of image and mask, in pixels.
        width: of both.
    """

    version: str
    slot: int
    offset: int
    height: int
    width: int


@dataclass(frozen=True)
class SampleFormat:
    """What the samples of a cache are made of, beside their sizes.

    Args:
        pixels: what images are made of.
        planes: of a mask.
        multi_label: whether masks have an axis of planes.
    """

    pixels: PixelFormat
    planes: int = 1
    multi_label: bool = False

    @classmethod
    def of(cls, dataset: FileDataset) -> "SampleFormat":
        """That of a data set."""
        labels = dataset.labels
        return cls(dataset.pixels, labels.num_classes if labels.multi_label else 1, labels.multi_label)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an image."""
        return np.dtype(np.uint8 if self.pixels.is_rgb8 else np.float32)

    @property
    def image_bytes(self) -> int:
        """Of a pixel in an image."""
        return self.pixels.channels * self.dtype.itemsize

    def length(self, height: int, width: int) -> int:
        """Bytes of an image and its mask."""
        return height * width * (self.image_bytes + self.planes)


class CacheFiles:
    """The open files of one cache: read through a memory map, written through calls that may fail.

    A write into a map would end the process where the disk is full.

    Args:
        stem: the files, without their suffixes.
        shape: of what a sample's image and mask are made.
    """

    def __init__(self, stem: Path, shape: SampleFormat) -> None:
        self._stem = stem
        self._format = shape
        self._pixels = _mapped(_file(stem, "pixels"), np.dtype(np.uint8))
        self._done = _mapped(_file(stem, "done"), _RECORD)
        self._writable = True

    def is_whole(self, place: Place) -> bool:
        """Whether a sample is there, as it was written."""
        record = self._done[place.slot : place.slot + 1]  # none where the cache was made anew meanwhile
        return bool(record["written"].any()) and _checksum(place, self._bytes(place).data) == record["checksum"][0]

    def read(self, place: Place) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Image and mask, as views that cannot be written to."""
        content, size = self._bytes(place), (place.height, place.width)
        end = place.height * place.width * self._format.image_bytes
        image = content[:end].view(self._format.dtype).reshape(*size, self._format.pixels.channels)
        return image, content[end:].reshape((self._format.planes, *size) if self._format.multi_label else size)

    def write(self, place: Place, sample: Sample) -> None:
        """Keep a sample, if there is room for it."""
        if not self._writable or mask_extent(sample.mask) != (place.height, place.width):
            return
        content = sample.image.tobytes() + sample.mask.tobytes()
        record = np.array([(1, _checksum(place, content))], _RECORD).tobytes()
        try:
            _write_at(_file(self._stem, "pixels"), content, place.offset)
            _write_at(_file(self._stem, "done"), record, place.slot * _RECORD.itemsize)
        except OSError as error:
            self._writable = False
            logger.warning("data.cache: %s; going on without writing more", first_line(error))

    def _bytes(self, place: Place) -> npt.NDArray[np.uint8]:
        return self._pixels[place.offset : place.offset + self._format.length(place.height, place.width)]


def place_samples(dataset: FileDataset, stem: Path) -> list[Place | None]:
    """Give every sample a place in the cache; those that have one keep it. None for files without a readable header.

    Args:
        dataset: one split.
        stem: the cache's files, without their suffixes.

    Raises:
        OSError: the files cannot be written.
    """
    shape = SampleFormat.of(dataset)
    with locked(_file(stem, "lock"), wait=True):
        slots, end = _sizes(stem)
        index = _read_index(_file(stem, "json"))
        known = {sample_id: place for sample_id, place in index.items() if _is_within(place, shape, slots, end)}
        places: list[Place | None] = []
        for sample_id, pair in zip(dataset.ids, dataset.pairs, strict=True):
            place = _kept(known.get(sample_id), pair) or _new(pair, shape, slots, end)
            places.append(place)
            if place is not None and place.slot == slots:
                slots, end = slots + 1, end + _aligned(shape.length(place.height, place.width))
        _grow(_file(stem, "pixels"), max(end, 1))
        _grow(_file(stem, "done"), max(slots, 1) * _RECORD.itemsize)
        named = {sample_id: place for sample_id, place in zip(dataset.ids, places, strict=True) if place is not None}
        written = json.dumps({sample_id: asdict(place) for sample_id, place in (known | named).items()})
        write_atomically(_file(stem, "json"), written.encode())
    return places


def bytes_to_write(places: list[Place | None], stem: Path, shape: SampleFormat) -> int:
    """How many bytes the samples take that are not in the cache yet."""
    done = _mapped(_file(stem, "done"), _RECORD)
    missing = [place for place in places if place is not None and not done[place.slot]["written"]]
    return sum(shape.length(place.height, place.width) for place in missing)


def _file(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}.{suffix}")


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT


def _kept(place: Place | None, pair: Pair) -> Place | None:
    """The place, if it holds these very files."""
    return place if place is not None and place.version == _version(pair) else None


def _new(pair: Pair, shape: SampleFormat, slot: int, offset: int) -> Place | None:
    version = _version(pair)
    if version is None:
        return None
    try:
        height, width = shape.pixels.size(pair.image)
    except DataError:  # said with its reason when the sample is read
        return None
    return Place(version, slot, offset, height, width)


def _version(pair: Pair) -> str | None:
    """What changes when one of the files does; None where one is missing."""
    try:
        stats = [(str(path.absolute()), path.stat()) for path in (pair.image, *pair.mask_files)]
    except OSError:
        return None
    # A copy can keep its time of change; the time at which it came to stand there, it cannot.
    return fingerprint([(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats])


def fingerprint(*values: object) -> str:
    """A short name for values that have a repr of their own."""
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _sizes(stem: Path) -> tuple[int, int]:
    """Records and bytes that the files hold: what was given away once is not given away again."""
    done, pixels = _file(stem, "done"), _file(stem, "pixels")
    if not (done.exists() and pixels.exists()):
        return 0, 0
    return done.stat().st_size // _RECORD.itemsize, _aligned(pixels.stat().st_size)


def _is_within(place: Place, shape: SampleFormat, slots: int, end: int) -> bool:
    """Whether a place that an index names lies in the files; the index may be damaged, or somebody's invention."""
    numbers = (place.slot, place.offset, place.height, place.width)
    if not all(type(number) is int and number >= 0 for number in numbers) or place.offset % _ALIGNMENT:
        return False
    return place.slot < slots and place.offset + shape.length(place.height, place.width) <= end


def _read_index(path: Path) -> dict[str, Place]:
    """The places by sample; none where the file is missing or is none of ours."""
    try:
        return {sample_id: Place(**values) for sample_id, values in read_json(path).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _checksum(place: Place, content: bytes | memoryview) -> int:
    return zlib.crc32(content, zlib.crc32(place.version.encode()))


def _grow(path: Path, size: int) -> None:
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        if file.seek(0, os.SEEK_END) < size:
            file.truncate(size)


def _write_at(path: Path, content: bytes, offset: int) -> None:
    with os.fdopen(open_own(path, os.O_WRONLY), "wb") as file:
        file.seek(offset)
        file.write(content)


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return np.memmap(file, dtype, mode="r").view(np.ndarray)
