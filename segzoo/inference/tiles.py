"""Images too large for one forward pass, computed by tiles whose scores are blended where they overlap."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segzoo.config.evaluation import LARGEST_OVERLAP, SMALLEST_TILE, TILE_OVERLAP
from segzoo.errors import ConfigError

GRID = 32
"""Tiles begin at multiples of the deepest map's stride, so that each of its cells sees what it would see in the whole
image."""

Compute = Callable[[Tensor], Tensor]
"""Scores (N, K, h, w) of images (N, C, h, w)."""

Weights = npt.NDArray[np.float32]

_PANEL_TILES = 8
_PANEL_STEP = 512


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels of the image.

    Args:
        start: first pixel that the network sees.
        stop: one behind the last.
        first: first pixel that counts: those before it lack what is beyond the tile's border.
        last: one behind the last that counts.
        weights: what each pixel that counts counts, above 0; over all tiles the sum is 1 at every pixel.
    """

    start: int
    stop: int
    first: int
    last: int
    weights: Weights = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Pixels that the network sees."""
        return self.stop - self.start

    @property
    def counting(self) -> slice:
        """The pixels that count, as the tile numbers them."""
        return slice(self.first - self.start, self.last - self.start)

    def clipped(self, first: int, last: int) -> "Span":
        """The same tile, of which only pixels from `first` to before `last` count."""
        first, last = max(first, self.first), min(last, self.last)
        return replace(self, first=first, last=last, weights=self.weights[first - self.first : last - self.first])


Read = Callable[[Span, Span], Tensor]
"""The image's pixels (N, C, h, w) in rows from `start` to `stop`, and columns likewise."""


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
        problems = []
        if self.tile < SMALLEST_TILE:
            least = f"tiles have at least {SMALLEST_TILE} a side, better 512 or more."
            problems.append(f"tile: {self.tile} pixels; {least}")
        if not 0 <= self.overlap <= LARGEST_OVERLAP:
            allowed = f"a share of the tile from 0 to {LARGEST_OVERLAP} belongs there."
            problems.append(f"tile_overlap: {self.overlap}; {allowed}")
        if problems:
            raise ConfigError(problems)


def plan_axis(length: int, tiling: Tiling) -> tuple[Span, ...]:
    """Tiles along one axis of an image, from its first pixel to its last, at distances as even as the grid allows.

    Neighbours share one and a half times the overlap or more. Of that the outer thirds count in one tile only, and in
    the middle third the weight goes over from one tile to the other, linearly. So a pixel that counts has at least half
    of the overlap around it: where the network's receptive field is at most as wide as the overlap, it has all that the
    network looks at.

    A last tile is up to `grid - 1` pixels smaller than the others, because the image seldom ends on the grid. Where
    tiles are too small for the grid they begin at multiples of a half, a quarter, ... of it, and see other cells then
    than the whole image has.

    >>> plan_axis(800, Tiling(512, 0.25))
    (Span(start=0, stop=512, first=0, last=438), Span(start=288, stop=800, first=362, last=800))
    """
    tile, context, grid = tiling.tile, math.ceil(tiling.overlap * tiling.tile), tiling.grid
    starts = list(_starts(length, tile, context, grid))
    stops = [min(start + tile, length) for start in starts]
    cuts = [(stop - start) // 3 for start, stop in zip(starts[1:], stops[:-1], strict=True)]
    firsts = [0, *(start + cut for start, cut in zip(starts[1:], cuts, strict=True))]
    lasts = [*(stop - cut for stop, cut in zip(stops[:-1], cuts, strict=True)), length]
    return tuple(map(Span, starts, stops, firsts, lasts, _weights(firsts, lasts)))


def plan_panels(width: int, widest: int, step: int) -> Iterator[tuple[int, int]]:
    """Columns of an image in runs of about equal width: (first, one behind the last).

    Args:
        width: pixels of the image.
        widest: about so many pixels a panel has at most.
        step: panels begin at its multiples.

    >>> list(plan_panels(2000, 8192, 512)), list(plan_panels(20000, 8192, 512))
    ([(0, 2000)], [(0, 6656), (6656, 13312), (13312, 20000)])
    """
    count = math.ceil(width / widest)
    inner = {round(width * number / count / step) * step for number in range(1, count)}
    yield from pairwise(sorted({0, width, *(edge for edge in inner if 0 < edge < width)}))


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
    size, whole = (image.shape[-2], image.shape[-1]), torch.empty(0)
    for top, left, scores in score_blocks(compute, reader(image), size, tiling):
        block = scores if predict_mask is None else predict_mask(scores).cpu()
        if not len(whole):
            whole = block.new_empty((*block.shape[:-2], *size))
        height, width = block.shape[-2:]
        whole[..., top : top + height, left : left + width] = block
    return whole


def reader(image: Tensor) -> Read:
    """Cuts tiles from an image in memory."""
    return lambda rows, columns: image[..., rows.start : rows.stop, columns.start : columns.stop]


def score_blocks(
    compute: Compute, read: Read, size: tuple[int, int], tiling: Tiling
) -> Iterator[tuple[int, int, Tensor]]:
    """Blended scores of an image in rectangles that cover it once, each as soon as it is final.

    Images are cut into panels, at most eight tiles wide, each from top to bottom. Memory is that of computing one batch
    of tiles, plus the scores of the rows where a panel's tiles go over into those below: together those of a few tiles,
    however large the image is. Tiles at a panel's border are computed for both.

    Args:
        compute: the network, or what `augmented_scores` makes of it.
        read: gives the pixels of a tile.
        size: height and width of the image.
        tiling: how it is cut.

    Yields:
        The row and the column of the image where a rectangle begins, and its scores (N, K, h, w).
    """
    rows = plan_axis(size[0], tiling)
    for first_column, columns in _panels(size[1], tiling):
        above: Tensor | None = None
        for row, final in _with_final(rows):
            below = []
            for left, scores in _blended_row(compute, read, row, columns, tiling.batch):
                if above is not None:
                    start = left - first_column
                    scores[..., : above.shape[-2], :] += above[..., start : start + scores.shape[-1]]
                below.append(scores[..., final:, :].clone())
                yield row.first, left, scores[..., :final, :]
            above = torch.cat(below, -1)


def count_tiles(size: tuple[int, int], tiling: Tiling) -> int:
    """How many tiles `score_blocks` computes for an image of that height and width."""
    return len(plan_axis(size[0], tiling)) * sum(len(columns) for _, columns in _panels(size[1], tiling))


def _panels(width: int, tiling: Tiling) -> Iterator[tuple[int, list[Span]]]:
    """The first column of each panel, and the tiles that count in it, as far as they do."""
    columns = plan_axis(width, tiling)
    for left, right in plan_panels(width, _PANEL_TILES * tiling.tile, _PANEL_STEP):
        yield left, [span.clipped(left, right) for span in columns if span.first < right and span.last > left]


def _blended_row(
    compute: Compute, read: Read, row: Span, columns: Sequence[Span], batch: int
) -> Iterator[tuple[int, Tensor]]:
    """Weighted scores of a row of tiles, all rows that count, blended with those left and right; and their columns."""
    beside: Tensor | None = None
    scores_of_tiles = _row_scores(compute, read, row, columns, batch)
    for (column, final), scores in zip(_with_final(columns), scores_of_tiles, strict=True):
        weights = torch.from_numpy(row.weights[:, None] * column.weights).to(scores.device)
        blended = scores[..., row.counting, column.counting] * weights
        if beside is not None:
            blended[..., : beside.shape[-1]] += beside
        beside = blended[..., final:].clone()
        yield column.first, blended[..., :final]


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


def _starts(length: int, tile: int, context: int, grid: int) -> Iterator[int]:
    if length <= tile:
        yield 0
        return
    step = tile - math.ceil(1.5 * context)
    while grid > step:
        grid = max(1, grid // 2)
    end = math.ceil((length - tile) / grid) * grid
    gaps = math.ceil(end / (step - step % grid))
    for number in range(gaps + 1):
        yield number * end // gaps // grid * grid


def _weights(firsts: list[int], lasts: list[int]) -> list[Weights]:
    raw = []
    for number, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        positions = np.arange(first, last)
        weights = np.ones(len(positions))
        if number > 0:
            weights = np.minimum(weights, (positions - first + 1) / (lasts[number - 1] - first + 1))
        if number < len(firsts) - 1:
            weights = np.minimum(weights, (last - positions) / (last - firsts[number + 1] + 1))
        raw.append(weights)
    total = np.zeros(lasts[-1])
    for first, last, weights in zip(firsts, lasts, raw, strict=True):
        total[first:last] += weights
    return [
        (weights / total[first:last]).astype(np.float32)
        for first, last, weights in zip(firsts, lasts, raw, strict=True)
    ]
