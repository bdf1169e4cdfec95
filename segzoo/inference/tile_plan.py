"""Where tiles lie in an image and what each of their pixels counts: numbers only, before anything is computed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from segzoo.config.evaluation import LARGEST_OVERLAP, SMALLEST_TILE
from segzoo.errors import ConfigError

GRID = 32
"""Tiles begin at multiples of the deepest map's stride, so that each of its cells sees what it would see in the whole
image."""

Weights = npt.NDArray[np.float32]


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


def plan_axis(length: int, tile: int, overlap: float, grid: int = GRID) -> tuple[Span, ...]:
    """Tiles along one axis of an image, from its first pixel to its last, at distances as even as the grid allows.

    Neighbours share one and a half times `overlap` or more. Of that the outer thirds count in one tile only, and in
    the middle third the weight goes over from one tile to the other, linearly. So a pixel that counts has at least half
    of `overlap` around it: where the network's receptive field is at most as wide as `overlap`, it has all that the
    network looks at.

    A last tile is up to `grid - 1` pixels smaller than the others, because the image seldom ends on the grid.

    Args:
        length: pixels of the image.
        tile: pixels of a tile; an image of at most that many is one.
        overlap: share of the tile, 0 to 0.5.
        grid: tiles begin at its multiples; at those of a half, a quarter, ... of it where tiles are too small for that
            (they see other cells then than the whole image has).

    Raises:
        ConfigError: an overlap or a tile that makes no plan.

    >>> plan_axis(800, 512, 0.25)
    (Span(start=0, stop=512, first=0, last=438), Span(start=288, stop=800, first=362, last=800))
    """
    check_tiling(tile, overlap)
    starts = list(_starts(length, tile, math.ceil(overlap * tile), grid))
    stops = [min(start + tile, length) for start in starts]
    cuts = [(stop - start) // 3 for start, stop in zip(starts[1:], stops[:-1], strict=True)]
    firsts = [0, *(start + cut for start, cut in zip(starts[1:], cuts, strict=True))]
    lasts = [*(stop - cut for stop, cut in zip(stops[:-1], cuts, strict=True)), length]
    weights = _weights(firsts, lasts)
    return tuple(map(Span, starts, stops, firsts, lasts, weights))


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


def check_tiling(tile: int, overlap: float) -> None:
    """Refuse what `evaluation.tile` and `evaluation.tile_overlap` refuse, for callers in Python.

    Args:
        tile: pixels a side.
        overlap: share of that.

    Raises:
        ConfigError: all problems in one go.
    """
    problems = []
    if tile < SMALLEST_TILE:
        problems.append(f"tile: {tile} pixels; tiles have at least {SMALLEST_TILE} a side, better 512 or more.")
    if not 0 <= overlap <= LARGEST_OVERLAP:
        problems.append(f"tile_overlap: {overlap}; a share of the tile from 0 to {LARGEST_OVERLAP} belongs there.")
    if problems:
        raise ConfigError(problems)


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
