"""Images too large for one forward pass, computed by tiles whose scores are blended where they overlap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from segzoo.config.evaluation import TILE_OVERLAP
from segzoo.inference.tile_plan import GRID, Span, check_tiling, plan_axis, plan_panels

Compute = Callable[[Tensor], Tensor]
"""Scores (N, K, h, w) of images (N, C, h, w)."""

Read = Callable[[Span, Span], Tensor]
"""The image's pixels (N, C, h, w) in rows from `start` to `stop`, and columns likewise."""

_PANEL_TILES = 8
_PANEL_STEP = 512


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Args:
        tile: pixels a side; a smaller image is one tile and has exactly the scores of the network.
        overlap: context that neighbours share, as a share of the tile (`plan_axis`).
        grid: tiles begin at multiples of so many pixels.
        batch: tiles of one size that the network gets together.

    Raises:
        ConfigError: a tile or an overlap that makes no plan.
    """

    tile: int
    overlap: float = TILE_OVERLAP
    grid: int = GRID
    batch: int = 1

    def __post_init__(self) -> None:
        check_tiling(self.tile, self.overlap)


@dataclass(frozen=True)
class Block:
    """Scores that no later tile changes.

    Args:
        top: row of the image where they begin.
        left: column.
        scores: (N, K, h, w).
    """

    top: int
    left: int
    scores: Tensor


def tiled(
    compute: Compute, image: Tensor, tiling: Tiling, predict_mask: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Scores of an image, computed by tiles; those of the whole where the network looks no further than the overlap.

    Args:
        compute: the network, or what `augmented_scores` makes of it.
        image: of any type; `compute` gets tiles of it.
        tiling: how it is cut.
        predict_mask: makes uint8 masks of scores. Then these are the result, on the CPU, and the scores of the whole
            image are never in memory: beside the image and the result there is what `score_blocks` takes.

    Shape: (N, C, H, W) to (N, K, H, W), or to what `predict_mask` gives.
    """
    size = (image.shape[-2], image.shape[-1])
    blocks = score_blocks(compute, reader(image), size, tiling)
    if predict_mask is not None:
        blocks = (replace(block, scores=predict_mask(block.scores).cpu()) for block in blocks)
    return _assembled(blocks, size)


def reader(image: Tensor) -> Read:
    """Cuts tiles from an image in memory."""
    return lambda rows, columns: image[..., rows.start : rows.stop, columns.start : columns.stop]


def score_blocks(compute: Compute, read: Read, size: tuple[int, int], tiling: Tiling) -> Iterator[Block]:
    """Blended scores of an image in rectangles that cover it once, each as soon as it is final.

    Images are cut into panels, at most eight tiles wide, each from top to bottom. Memory is that of computing one batch
    of tiles, plus the scores of the rows where a panel's tiles go over into those below: together those of a few tiles,
    however large the image is. Tiles at a panel's border are computed for both.

    Args:
        compute: the network, or what `augmented_scores` makes of it.
        read: gives the pixels of a tile.
        size: height and width of the image.
        tiling: how it is cut.
    """
    rows = plan_axis(size[0], tiling.tile, tiling.overlap, tiling.grid)
    columns = plan_axis(size[1], tiling.tile, tiling.overlap, tiling.grid)
    for left, right in plan_panels(size[1], _PANEL_TILES * tiling.tile, _PANEL_STEP):
        inside = _inside(columns, left, right)
        above: Tensor | None = None
        for row, final in _with_final(rows):
            below = []
            for block in _blended_row(compute, read, row, inside, tiling.batch):
                if above is not None:
                    start = block.left - left
                    block.scores[..., : above.shape[-2], :] += above[..., start : start + block.scores.shape[-1]]
                below.append(block.scores[..., final:, :].clone())
                yield Block(block.top, block.left, block.scores[..., :final, :])
            above = torch.cat(below, -1)


def count_tiles(size: tuple[int, int], tiling: Tiling) -> int:
    """How many tiles `score_blocks` computes for an image of that height and width."""
    rows = plan_axis(size[0], tiling.tile, tiling.overlap, tiling.grid)
    columns = plan_axis(size[1], tiling.tile, tiling.overlap, tiling.grid)
    panels = plan_panels(size[1], _PANEL_TILES * tiling.tile, _PANEL_STEP)
    return len(rows) * sum(len(_inside(columns, left, right)) for left, right in panels)


def _inside(columns: Sequence[Span], left: int, right: int) -> list[Span]:
    """The tiles that count between two columns of the image, as far as they do."""
    return [column.clipped(left, right) for column in columns if column.first < right and column.last > left]


def _blended_row(compute: Compute, read: Read, row: Span, columns: Sequence[Span], batch: int) -> Iterator[Block]:
    """Weighted scores of a row of tiles, all rows that count, blended with those left and right."""
    beside: Tensor | None = None
    scores_of_tiles = _row_scores(compute, read, row, columns, batch)
    for (column, final), scores in zip(_with_final(columns), scores_of_tiles, strict=True):
        weights = torch.from_numpy(row.weights[:, None] * column.weights).to(scores.device)
        blended = scores[..., row.counting, column.counting] * weights
        if beside is not None:
            blended[..., : beside.shape[-1]] += beside
        beside = blended[..., final:].clone()
        yield Block(row.first, column.first, blended[..., :final])


def _with_final(spans: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """Spans, and how many of their pixels that count no later span changes."""
    for number, span in enumerate(spans):
        final = spans[number + 1].first if number + 1 < len(spans) else span.last
        yield span, final - span.first


def _row_scores(compute: Compute, read: Read, row: Span, columns: Sequence[Span], batch: int) -> Iterator[Tensor]:
    """Scores of each tile in a row; neighbours of one size are computed together."""
    for _, same in groupby(columns, key=lambda column: column.size):
        group = list(same)
        for first in range(0, len(group), batch):
            tiles = [read(row, column) for column in group[first : first + batch]]
            yield from torch.split(compute(torch.cat(tiles)), len(tiles[0]))


def _assembled(blocks: Iterator[Block], size: tuple[int, int]) -> Tensor:
    whole = torch.empty(0)
    for block in blocks:
        if not len(whole):
            whole = block.scores.new_empty((*block.scores.shape[:-2], *size))
        height, width = block.scores.shape[-2:]
        whole[..., block.top : block.top + height, block.left : block.left + width] = block.scores
    return whole
