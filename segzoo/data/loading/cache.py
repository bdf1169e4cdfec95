"""A data set whose images and masks are decoded once and then read from `data.cache`.

Each sample is a `.npy` file of one record with its image and its mask, mapped into memory where it is read, and moved
into its place when it is written, so that any number of processes may do both. Its name follows from the names, sizes
and times of change of the files that it was made of: a changed file is another sample, and whoever still reads the old
one is left in peace.
"""

import hashlib
import io
import logging
import math
import os
import shutil
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.listing import FileDataset, Pair
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import Sample, SegmentationDataset, mask_extent
from segzoo.errors import ConfigError, DataError, first_line
from segzoo.files import open_own, write_atomically

logger = logging.getLogger(__name__)

_READING = 3  # one more whenever the same files are read as other pixels, so that older caches are left alone


def cached(dataset: SegmentationDataset, config: DataConfig, split: str) -> SegmentationDataset:
    """A split behind `data.cache`, or the split itself where nothing is to be cached or the disk is too small.

    Raises:
        ConfigError: the folder cannot be made or written.
    """
    if config.cache is None:
        return dataset
    if not isinstance(dataset, FileDataset):
        logger.warning("data.cache: data set %s is not read from pairs of files; going on without", config.name)
        return dataset
    top = Path(config.cache).expanduser()
    # Masks are kept as class indices, so that another label space is another cache.
    kind = _fingerprint(dataset.labels.to_dict(), dataset.pixels, _READING)
    found = CachedDataset(dataset, top / f"{config.name}-{split.replace('/', '-')}-{kind}")
    try:
        found.folder.mkdir(parents=True, exist_ok=True)
        needed, free = found.missing_bytes(), shutil.disk_usage(top).free
    except OSError as error:
        raise ConfigError(f"data.cache: '{top}' cannot be used ({first_line(error)})") from None
    if needed > free:
        logger.warning(
            "data.cache: '%s' needs %.1f GB and has %.1f GB; going on without", top, needed / 1e9, free / 1e9
        )
        return dataset
    return found


class CachedDataset:
    """Samples of a file data set, decoded once and then read from a cache.

    Arrays are views of the cache and cannot be written to. A sample of more than 2 GiB, of which NumPy has no records,
    is decoded each time.

    Args:
        dataset: the files.
        folder: of this cache alone.
    """

    def __init__(self, dataset: FileDataset, folder: Path) -> None:
        self.dataset = dataset
        self.folder = folder
        self.labels: LabelSpace = dataset.labels
        self.ids = dataset.ids
        self._paths = [self._path(pair) for pair in dataset.pairs]
        self._writable = True
        # Of files found whole: their records, and where they begin.
        self._whole: dict[Path, tuple[np.dtype[Any], int]] = {}
        self._last: tuple[int, Sample] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        """Without pixels."""
        return {**self.__dict__, "_last": None}

    def __getitem__(self, index: int) -> Sample:
        """Read a sample from the cache, or from its files and into the cache.

        Raises:
            DataError: a file is damaged, the sizes differ, or a value in the mask has no class.
        """
        if self._last is None or self._last[0] != index:  # mask and image are asked for one after the other
            self._last = index, self._sample(index)
        return self._last[1]

    def _sample(self, index: int) -> Sample:
        path = self._paths[index]
        arrays = None if path is None else self._read(path)
        if arrays is not None:
            return Sample(*arrays, self.ids[index])
        sample = self.dataset[index]
        if path is not None:
            self._write(path, sample)
        return sample

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files of a sample."""
        return self.dataset.files_of(index)

    def read_mask(self, index: int) -> npt.NDArray[np.uint8]:
        """The mask of a sample."""
        return self[index].mask

    def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> npt.NDArray[Any]:
        """The image of a sample, always at full size."""
        return self[index].image

    def missing_bytes(self) -> int:
        """How much the samples take that are not in the cache yet."""
        channels, dtype, axes = self._format()
        pixels = 0
        for pair, path in zip(self.dataset.pairs, self._paths, strict=True):
            if path is not None and not path.exists():
                with suppress(DataError):  # said with its reason when the sample is read
                    pixels += math.prod(self.dataset.pixels.size(pair.image))
        return pixels * (channels * dtype.itemsize + math.prod(axes))

    def _path(self, pair: Pair) -> Path | None:
        """Where a sample lies, by the versions of its files; None where one of them is missing."""
        try:
            stats = [(str(path.absolute()), path.stat()) for path in pair.files]
        except OSError:
            return None
        # A copy can keep its time of change; the time at which it came to stand there, it cannot.
        name = _fingerprint([(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats])
        return self.folder / f"{name}.npy"

    def _format(self) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
        """Channels of an image and the type of their numbers; the axes of a mask before its height and width."""
        pixels = self.dataset.pixels
        return pixels.channels, np.dtype(np.uint8 if pixels.is_rgb8 else np.float32), self.labels.coding.axes

    def _read(self, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]] | None:
        """Image and mask; None where there is no such file, or it is not as it was written."""
        try:
            with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
                kind, offset = self._whole.get(path) or self._header(file)
                record = np.memmap(file, kind, "r", offset, (1,)).view(np.ndarray)
        except Exception:  # NumPy lets nearly every type through on damaged files
            return None
        image, mask = record["image"][0], record["mask"][0]
        if path not in self._whole:  # the checksum is computed once in every process
            if _checksum(path, image, mask) != record["checksum"][0]:
                return None
            self._whole[path] = kind, offset
        return image, mask

    def _header(self, file: BinaryIO) -> tuple[np.dtype[Any], int]:
        """The record in a file, and where it begins; raises nearly anything for a file of another kind."""
        np.lib.format.read_magic(file)
        shape, _, found = np.lib.format.read_array_header_1_0(file)
        kind = _record(*found["image"].shape[:2], *self._format())
        if shape != (1,) or found != kind:
            raise ValueError("no sample of this cache")
        return kind, file.tell()

    def _write(self, path: Path, sample: Sample) -> None:
        """Keep a sample, if there is room for it."""
        if not self._writable:
            return
        try:
            record = np.empty(1, _record(*mask_extent(sample.mask), *self._format()))
        except ValueError:  # larger than any record
            return
        record["image"][0], record["mask"][0] = sample.image, sample.mask
        record["checksum"] = _checksum(path, record["image"][0], record["mask"][0])
        content = io.BytesIO()
        np.save(content, record)
        try:
            write_atomically(path, content.getbuffer(), flush=False)  # the checksum tells what a power cut broke
        except OSError as error:
            self._writable = False
            logger.warning("data.cache: %s; going on without writing more", first_line(error))


@lru_cache(maxsize=10_000)  # images of one size share one
def _record(height: int, width: int, channels: int, dtype: np.dtype[Any], axes: tuple[int, ...]) -> np.dtype[Any]:
    image, mask = (height, width, channels), (*axes, height, width)
    return np.dtype([("image", dtype, image), ("mask", np.uint8, mask), ("checksum", np.uint32)])


def _checksum(path: Path, image: npt.NDArray[Any], mask: npt.NDArray[np.uint8]) -> int:
    """Of a sample and its name, so that a file that is put in the place of another is found out."""
    return zlib.crc32(mask.data, zlib.crc32(image.data, zlib.crc32(path.name.encode())))


def _fingerprint(*values: object) -> str:
    """A short name for values that have a repr of their own."""
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
