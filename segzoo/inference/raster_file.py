"""Georeferenced rasters as rasterio reads and writes them, a window at a time."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segzoo.data.images import MID_GRAY, Array8
from segzoo.data.labels import LabelSpace
from segzoo.data.pixels import PixelFormat
from segzoo.data.whole_file import written_whole
from segzoo.errors import ConfigError, DataError, first_line
from segzoo.inference.tile_plan import Span

_BLOCK = 512
_CACHE_MB = 128


class RasterSource:
    """A raster that is read by windows.

    Alpha is no channel where the network has as many without it; it says where there is nothing, as nodata and masks
    do. A pixel is lost where no channel has a value; the network sees mid-gray there.

    Args:
        file: what rasterio opened.
        path: its file, for messages.
        pixels: what the network takes.

    Raises:
        DataError: it has other channels than the network takes.
    """

    def __init__(self, file: Any, path: Path, pixels: PixelFormat) -> None:
        self.file = file
        self.size: tuple[int, int] = (file.height, file.width)
        self._path = path
        self._pixels = pixels
        self._bands = self._choose_bands()
        self._colors = self._palette()
        self._all_valid = all("all_valid" in {flag.name for flag in flags} for flags in file.mask_flag_enums)

    def tile(self, rows: Span, columns: Span) -> Tensor:
        """Pixels (1, C, h, w) that the network sees.

        Raises:
            DataError: damaged there, or values that the network does not take.
        """
        top, left, height, width = rows.start, columns.start, rows.size, columns.size
        with self._reading():
            stored = self.file.read(self._bands, window=_window(top, left, height, width))
        lost = self.lost(top, left, height, width)
        if lost is not None and stored.dtype.kind == "f":
            stored[~np.isfinite(stored) & self._without_value(top, left, height, width)] = 0  # seen as gray, or cut off
        bands = stored if self._colors is None else self._colors[stored[0]].transpose(2, 0, 1)
        seen = self._pixels.from_bands(bands.transpose(1, 2, 0), str(self._path))
        if lost is not None:
            seen[lost] = self.gray
        return torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)[None]))

    def lost(self, top: int, left: int, height: int, width: int) -> npt.NDArray[np.bool_] | None:
        """Where there is nothing to see (h, w); None where the whole raster is there."""
        if self._all_valid:
            return None
        return np.asarray(self._without_value(top, left, height, width).all(0))

    @property
    def gray(self) -> float:
        """What the network sees where there is nothing."""
        return MID_GRAY if self._pixels.is_rgb8 else 0.5

    def _without_value(self, top: int, left: int, height: int, width: int) -> npt.NDArray[np.bool_]:
        with self._reading():
            valid: npt.NDArray[np.uint8] = self.file.read_masks(self._bands, window=_window(top, left, height, width))
        return valid == 0

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: damaged or unreadable ({first_line(error)})") from error

    def _choose_bands(self) -> list[int]:
        every = list(self.file.indexes)
        colors = [band for band, kind in zip(every, self.file.colorinterp, strict=True) if kind.name != "alpha"]
        wanted = self._pixels.channels
        for bands in (every, colors):
            if len(bands) == wanted:
                return bands
        if len(colors) == 1 and wanted == 3:
            return colors
        raise DataError(f"{self._path}: {len(every)} channels where {wanted} belong (data.channels)")

    def _palette(self) -> Array8 | None:
        """Colours of an indexed picture, (256, 3), where the network takes colours."""
        if not (self._pixels.is_rgb8 and len(self._bands) == 1):
            return None
        if self.file.colorinterp[self._bands[0] - 1].name != "palette" or self.file.dtypes[0] != "uint8":
            return None
        colors = np.zeros((256, 3), np.uint8)
        for index, color in self.file.colormap(self._bands[0]).items():
            colors[index] = color[:3]
        return colors


@contextmanager
def opened_raster(path: Path, pixels: PixelFormat) -> Iterator[RasterSource]:
    """A raster to read.

    Raises:
        ConfigError: rasterio is not installed.
        DataError: missing, damaged, or of other channels than the network takes.
    """
    rasterio = _rasterio(path)
    with _quiet(rasterio):
        try:
            file = rasterio.open(path)
        except OSError as error:
            raise DataError(f"{path}: damaged or unreadable ({first_line(error)})") from error
        with file:
            yield RasterSource(file, path, pixels)


class RasterMask:
    """A mask that is written by windows.

    Args:
        file: what rasterio opened.
        labels: the classes.
    """

    def __init__(self, file: Any, labels: LabelSpace) -> None:
        self._file = file
        self._ignored = labels.ignore_index

    def write(self, top: int, left: int, mask: Array8, lost: npt.NDArray[np.bool_] | None) -> None:
        """Write a window.

        Args:
            top: its first row.
            left: its first column.
            mask: (1, h, w) of class indices; or (K, h, w) of 0 and 1.
            lost: where there was nothing to see, (h, w); None for nowhere.
        """
        if lost is not None:
            mask = np.where(lost, np.uint8(self._ignored), mask)
        self._file.write(mask, window=_window(top, left, *mask.shape[1:]))


@contextmanager
def created_mask(path: Path, source: RasterSource, labels: LabelSpace) -> Iterator[RasterMask]:
    """A GeoTIFF of class indices where the source lies on Earth: in compressed blocks, with palette and class names.

    Whole or not at all. Classes that are decided each on its own get a channel each. `nodata` is the ignored value.

    Raises:
        DataError: it could not be written to the end.
    """
    rasterio = _rasterio(path)
    place = {"crs": source.file.crs}
    if not source.file.transform.is_identity:
        place["transform"] = source.file.transform
    try:
        with _quiet(rasterio), written_whole(path) as temporary:
            with rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                height=source.size[0],
                width=source.size[1],
                count=labels.num_classes if labels.multi_label else 1,
                dtype="uint8",
                nodata=labels.ignore_index,
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                compress="deflate",
                interleave="band",
                bigtiff="if_safer",
                **place,
            ) as file:
                _describe(file, source.file, labels)
                yield RasterMask(file, labels)
            _check_blocks(rasterio, temporary)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise DataError(f"{path}: cannot be written ({first_line(error)})") from error


def _describe(file: Any, source: Any, labels: LabelSpace) -> None:
    """Control points, names and colours."""
    points, projection = source.gcps
    if points:
        file.gcps = (points, projection)
    if source.rpcs is not None:
        file.rpcs = source.rpcs
    if labels.multi_label:
        for band, name in enumerate(labels.names, start=1):
            file.set_band_description(band, name)
        return
    colors = np.array(labels.flat_palette()).reshape(256, 3)
    file.write_colormap(1, {index: tuple(color) for index, color in enumerate(colors.tolist())})
    file.set_band_description(1, "class")
    file.update_tags(1, **{f"class_{index}": name for index, name in enumerate(labels.names)})


def _check_blocks(rasterio: Any, path: Path) -> None:
    """Read all that was written: what a full disk took shows in no other way, for it is written when the file closes.

    Raises:
        OSError: a block is missing or damaged.
        RasterBlockError: the same.
    """
    with rasterio.open(path) as file:
        for band in file.indexes:
            for (row, column), window in file.block_windows(band):
                file.block_size(band, row, column)  # a block that is not there reads as nodata
                file.read(band, window=window)


def _window(top: int, left: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (top, top + height), (left, left + width)


@contextmanager
def _quiet(rasterio: Any) -> Iterator[None]:
    """Bounded memory, no side files, and no word about pictures that lie nowhere on Earth, which are welcome too."""
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_PAM_ENABLED=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def _rasterio(path: Path) -> Any:
    """The reader of rasters, which is optional.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("rasterio")
    except ImportError:
        raise ConfigError(f"{path}: a raster; to read and write it by windows: pip install rasterio") from None
