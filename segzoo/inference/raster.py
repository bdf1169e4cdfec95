"""Rasters larger than memory: segmented a tile at a time, from file to file, as rasterio reads and writes windows."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import Tensor

from segzoo.data.reading.arrays import Array8, Stored
from segzoo.data.reading.images import ImageKind
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, dark_line
from segzoo.data.reading.tiff import check_windows
from segzoo.errors import DataError, first_line, printable
from segzoo.files import atomic_write
from segzoo.inference.tiles import Compute, Span, count_tiles, score_blocks
from segzoo.progress import item_bar

if TYPE_CHECKING:
    from segzoo.inference.predictor import Predictor

logger = logging.getLogger(__name__)

_BLOCK = 512
CACHE_MB = 128


def segment_raster(predictor: "Predictor", source: Path, target: Path) -> tuple[int, ...]:
    """Segment a raster of any size, in the memory of a few of the predictor's tiles, or of those that fit into memory.

    What is written is what `tiled` gives for the raster in memory. Pixels without data become the ignored
    value, which is the mask's nodata.

    Args:
        predictor: the network, and how it cuts images.
        source: a TIFF with the network's channels.
        target: a `.tif`; whole or not there at all. Its folder is made.

    Returns:
        How many pixels each class has.

    Raises:
        ConfigError: a tile too small.
        DataError: the raster is damaged, has other channels, or its mask cannot be written.
    """
    tiling = predictor.tiling(predictor.tile, predictor.overlap)
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened_raster(source, predictor.pixels) as raster, _created_mask(target, raster, predictor.labels) as mask:
        with item_bar(f"segmenting {source.name}", count_tiles(raster.size, tiling)) as move_to:
            tiles_read = count()

            def read(rows: Span, columns: Span) -> Tensor:
                move_to(next(tiles_read))
                return raster.tile(rows, columns)

            compute = _once_for_nothing(predictor.whole_scores, predictor.pixels.gray)
            for top, left, scores in score_blocks(compute, read, raster.size, tiling):
                classes = predictor.labels.coding.predict_mask(scores)[0].cpu().numpy()
                mask.write(top, left, classes, raster.lost(top, left, *classes.shape[-2:]))
        if line := dark_line([printable(source)], raster.highest):
            logger.warning("%s", line)
        return tuple(mask.pixels.tolist())


def _once_for_nothing(compute: Compute, gray: float) -> Compute:
    """Tiles without any data, of which large rasters have many, all have the same scores: they are computed once."""
    known: dict[tuple[int, ...], Tensor] = {}

    def scores(tiles: Tensor) -> Tensor:
        if not bool((tiles == gray).all()):
            return compute(tiles)
        if tiles.shape not in known:
            known.clear()
            known[tiles.shape] = compute(tiles)
        return known[tiles.shape]

    return scores


@contextmanager
def opened_raster(path: Path, pixels: PixelFormat) -> Iterator["_RasterSource"]:
    """A raster to read.

    Raises:
        DataError: missing, damaged, or of other channels than the network takes.
    """
    header = check_windows(path)
    if header is not None and header.orientation not in (0, 1):
        raise DataError(f"{path}: stored turned or mirrored (orientation {header.orientation}); write it upright")
    with _quiet():
        with _named_when_damaged(path):
            file = rasterio.open(path, driver="GTiff")
        with file:
            yield _RasterSource(file, path, pixels)


class _RasterSource:
    """A raster that is read by windows, by the rules of `PixelFormat.read`.

    Alpha is no channel where the network has as many without it. A pixel is lost where no channel has a value, or it is
    transparent; the network sees mid-gray there.
    """

    def __init__(self, file: Any, path: Path, pixels: PixelFormat) -> None:
        self.size: tuple[int, int] = (file.height, file.width)
        self.highest = 0
        """About the largest number seen, where the numbers have 16 bits whose range nobody stated."""
        self.file = file
        self._path = path
        self._pixels = pixels
        self._bands, self._alpha = self._choose_bands()
        self._colors = self._palette()
        # Alpha, which rasterio takes for every channel's mask, is looked at here.
        flags = [{flag.name for flag in file.mask_flag_enums[band - 1]} for band in self._bands]
        self._all_valid = all(not found.isdisjoint({"all_valid", "alpha"}) for found in flags)
        floats = any(np.dtype(kind).kind == "f" for kind in file.dtypes)
        self._all_there = self._all_valid and self._alpha is None and not floats

    def tile(self, rows: Span, columns: Span) -> Tensor:
        """Pixels (1, C, h, w) that the network sees.

        Raises:
            DataError: damaged there, or values that the network does not take.
        """
        stored = self._stored(rows.start, columns.start, rows.size, columns.size)
        seen = self._pixels.from_stored(stored, str(self._path))
        kind = ImageKind("raster", is_16_bit=stored.values.dtype == np.uint16)
        self.highest = max(self.highest, self._pixels.highest_of_16_bits(seen, kind) or 0)
        return torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)[None]))

    def lost(self, top: int, left: int, height: int, width: int) -> npt.NDArray[np.bool_] | None:
        """Where there is nothing to see (h, w); None for nowhere."""
        return None if self._all_there else self._stored(top, left, height, width).lost

    def _stored(self, top: int, left: int, height: int, width: int) -> Stored:
        window = _window(top, left, height, width)
        with _named_when_damaged(self._path):
            values = self.file.read(self._bands, window=window)
            alpha = None if self._alpha is None else self.file.read(self._alpha, window=window)
            missing = None if self._all_valid else self.file.read_masks(self._bands, window=window) == 0
        if self._colors is not None:
            values = self._colors[values[0]].transpose(2, 0, 1)
            missing = None if missing is None else np.broadcast_to(missing, values.shape)
        return Stored(values.transpose(1, 2, 0), None if missing is None else missing.transpose(1, 2, 0), alpha)

    def _choose_bands(self) -> tuple[list[int], int | None]:
        """The channels that the network takes, and the one that says how much there is of each pixel."""
        bands = list(self.file.indexes)
        kinds = [kind.name for kind in self.file.colorinterp]
        alpha = bands[-1] if self._pixels.takes_alpha_apart(len(bands), has_alpha=kinds[-1] == "alpha") else None
        colors = bands if alpha is None else bands[:-1]
        self._pixels.check_channels(len(colors), str(self._path))
        return colors, alpha

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
def _created_mask(path: Path, source: _RasterSource, labels: LabelSpace) -> Iterator["_RasterMask"]:
    """A GeoTIFF of class indices where the source lies on Earth: in compressed blocks, with palette and class names.

    Whole or not at all. Classes that are decided each on its own get a channel each. `nodata` is the ignored value.

    Raises:
        DataError: it could not be written to the end.
    """
    place = {"crs": source.file.crs}
    if not source.file.transform.is_identity:
        place["transform"] = source.file.transform
    try:
        with _quiet(), atomic_write(path) as temporary:
            with rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                height=source.size[0],
                width=source.size[1],
                count=prod(labels.coding.axes),
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
                yield _RasterMask(file, labels)
            _check_blocks(temporary)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise DataError(f"{path}: cannot be written ({first_line(error)})") from error


class _RasterMask:
    """A mask that is written by windows, and how many pixels of each class were written so far."""

    def __init__(self, file: Any, labels: LabelSpace) -> None:
        self.pixels = np.zeros(labels.num_classes, np.int64)
        self._file = file
        self._labels = labels

    def write(self, top: int, left: int, mask: Array8, lost: npt.NDArray[np.bool_] | None) -> None:
        """Write a window, ignored where there was nothing to see."""
        if lost is not None:
            mask = np.where(lost, np.uint8(self._labels.ignore_index), mask)
        self.pixels += self._labels.coding.pixels(mask)
        size = mask.shape[-2:]
        self._file.write(mask.reshape(-1, *size), window=_window(top, left, *size))


def _describe(file: Any, source: Any, labels: LabelSpace) -> None:
    """Control points, names and colours."""
    points, projection = source.gcps
    if points:
        file.gcps = (points, projection)
    if source.rpcs is not None:
        file.rpcs = source.rpcs
    if not labels.coding.exclusive:
        for band, name in enumerate(labels.names, start=1):
            file.set_band_description(band, name)
        return
    colors = np.array(labels.flat_palette()).reshape(256, 3)
    file.write_colormap(1, {index: tuple(color) for index, color in enumerate(colors.tolist())})
    file.set_band_description(1, "class")
    file.update_tags(1, **{f"class_{index}": name for index, name in enumerate(labels.names)})


def _check_blocks(path: Path) -> None:
    """Read all that was written: what a full disk took shows in no other way, for it is written when the file closes.

    Raises:
        OSError, RasterBlockError: a block is missing or damaged.
    """
    with rasterio.open(path) as file:
        for band in file.indexes:
            for (row, column), window in file.block_windows(band):
                file.block_size(band, row, column)  # a block that is not there reads as nodata
                file.read(band, window=window)


def _window(top: int, left: int, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (top, top + height), (left, left + width)


@contextmanager
def _named_when_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: damaged or unreadable ({first_line(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Bounded memory, no side files, and no word about pictures that lie nowhere on Earth, which are welcome too."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield
