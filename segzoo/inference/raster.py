"""Rasters larger than memory: segmented a tile at a time, from file to file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from segzoo.config.evaluation import TILE_OVERLAP
from segzoo.data.reading.pixels import dark_line
from segzoo.errors import printable
from segzoo.inference.raster_file import RasterSource, created_mask, opened_raster
from segzoo.inference.tile_plan import Span
from segzoo.inference.tiles import Compute, Read, count_tiles, score_blocks
from segzoo.progress import item_bar

if TYPE_CHECKING:
    from segzoo.inference.predictor import Predictor

logger = logging.getLogger(__name__)


def segment_raster(
    predictor: "Predictor", source: Path, target: Path, *, tile: int | None, overlap: float = TILE_OVERLAP
) -> tuple[int, ...]:
    """Segment a raster of any size, in the memory of a few tiles.

    What is written is what `tiled` gives for the raster in memory. Pixels without data become the ignored
    value, which is the mask's nodata.

    Args:
        predictor: the network; its own tiles do not count here.
        source: what rasterio can read, with the network's channels.
        target: a `.tif`; whole or not there at all.
        tile: pixels a side; None takes what fits into memory.
        overlap: context that neighbouring tiles share, as a share of the tile.

    Returns:
        How many pixels each class has.

    Raises:
        ConfigError: rasterio is not installed, or a tile too small.
        DataError: the raster is damaged, has other channels, or its mask cannot be written.
    """
    tiling = predictor.tiling(tile, overlap)
    with opened_raster(source, predictor.pixels) as raster, created_mask(target, raster, predictor.labels) as mask:
        compute = _once_for_nothing(predictor.whole_scores, raster.gray)
        with _counted(raster, f"segmenting {source.name}", count_tiles(raster.size, tiling)) as read:
            for block in score_blocks(compute, read, raster.size, tiling):
                classes = predictor.labels.coding.predict_mask(block.scores)[0].cpu().numpy()
                mask.write(block.top, block.left, classes, raster.lost(block.top, block.left, *classes.shape[-2:]))
        if line := dark_line([printable(source)], raster.highest):
            logger.warning("%s", line)
        return tuple(mask.pixels.tolist())


@contextmanager
def _counted(raster: RasterSource, what: str, total: int) -> Iterator[Read]:
    """Reads tiles, and shows how many have been read."""
    done = 0

    def read(rows: Span, columns: Span) -> Tensor:
        nonlocal done
        move_to(done)
        done += 1
        return raster.tile(rows, columns)

    with item_bar(what, total) as move_to:
        yield read


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
