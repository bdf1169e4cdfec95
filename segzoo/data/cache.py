"""A data set whose images and masks are decoded once and then read from `data.cache`."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.cache_files import CacheFiles, Place, SampleFormat, bytes_to_write, fingerprint, place_samples
from segzoo.data.dataset import Sample, SegmentationDataset
from segzoo.data.labels import LabelSpace
from segzoo.data.pairs import FileDataset
from segzoo.errors import ConfigError, first_line

logger = logging.getLogger(__name__)

_READING = 2  # one more whenever the same files are read as other pixels: older caches are no longer read then


def cached(dataset: SegmentationDataset, config: DataConfig, split: str) -> SegmentationDataset:
    """The data set behind `data.cache`, or itself where nothing is to be cached or the disk is too small.

    Args:
        dataset: one split.
        config: the run's `data` section.
        split: name of the split.

    Raises:
        ConfigError: the folder cannot be made or written.
    """
    if config.cache is None:
        return dataset
    if not isinstance(dataset, FileDataset):
        logger.warning("data.cache: data set %s is not read from pairs of files; going on without", config.name)
        return dataset
    folder = Path(config.cache).expanduser()
    # Masks are kept as class indices, so that another label space is another cache.
    stem = (
        folder
        / f"{config.name}-{split.replace('/', '-')}-{fingerprint(dataset.labels.to_dict(), dataset.pixels, _READING)}"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        places = place_samples(dataset, stem)
        needed, free = bytes_to_write(places, stem, SampleFormat.of(dataset)), shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigError(f"data.cache: '{folder}' cannot be used ({first_line(error)})") from None
    if needed > free:
        logger.warning(
            "data.cache: '%s' needs %.1f GB and has %.1f GB; going on without", folder, needed / 1e9, free / 1e9
        )
        return dataset
    return CachedDataset(dataset, places, stem)


class CachedDataset:
    """Samples of a file data set, decoded once and then read from a cache.

    Arrays are views of the cache and cannot be written to.

    Args:
        dataset: the files.
        places: where each sample lies; None for those that are always read from their files.
        stem: the cache's files, without their suffixes.
    """

    def __init__(self, dataset: FileDataset, places: Sequence[Place | None], stem: Path) -> None:
        self.dataset = dataset
        self.labels: LabelSpace = dataset.labels
        self.ids = dataset.ids
        self._places = tuple(places)
        self._stem = stem
        self._files: CacheFiles | None = None
        self._gone = False
        self._whole: set[int] = set()
        self._decoded: tuple[int, Sample] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: another process opens them for itself."""
        return {**self.__dict__, "_files": None, "_decoded": None}

    def __getitem__(self, index: int) -> Sample:
        """Read a sample from the cache, or from its files and into the cache.

        Raises:
            DataError: a file is damaged, the sizes differ, or the mask holds a value that is no class.
        """
        place = self._places[index]
        files = self._open()
        if files is None or place is None or not self._is_whole(index, place, files):
            return self._decode(index, place, files)
        return Sample(*files.read(place), self.ids[index])

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files that a sample is read from."""
        return self.dataset.files_of(index)

    def read_mask(self, index: int) -> npt.NDArray[np.uint8]:
        """The mask of a sample; errors as above."""
        return self[index].mask

    def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> npt.NDArray[Any]:
        """The image of a sample, always at full size; errors as above."""
        return self[index].image

    def _open(self) -> CacheFiles | None:
        """The cache's files; None where they went away, so that samples come from the data set's own."""
        if self._files is None and not self._gone:
            try:
                self._files = CacheFiles(self._stem, SampleFormat.of(self.dataset))
            except (OSError, ValueError) as error:  # the second of an empty file
                self._gone = True
                logger.warning("data.cache: %s; going on without", first_line(error))
        return self._files

    def _is_whole(self, index: int, place: Place, files: CacheFiles) -> bool:
        """Whether the cache has the sample; its checksum is computed once in every process."""
        if index not in self._whole and files.is_whole(place):
            self._whole.add(index)
        return index in self._whole

    def _decode(self, index: int, place: Place | None, files: CacheFiles | None) -> Sample:
        if self._decoded is None or self._decoded[0] != index:  # mask and image are asked for one after the other
            self._decoded = index, self.dataset[index]
            if place is not None and files is not None:
                files.write(place, self._decoded[1])
        return self._decoded[1]
