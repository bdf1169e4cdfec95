"""What masks hold, as numbers, and what those of many masks say together: palettes that differ, smoothed borders."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.data.reading.labels import IGNORED, shown_color
from segzoo.data.sample import mask_pixels

_MOST_BLENDS = 0.5  # of all pixels, in masks that are smoothed and still masks
_FEWEST_BLENDS = 0.12  # for each pixel of the borders; smoothed ones have 0.17 (halved) to 1 (doubled)
_FEWEST_VALUES = 2  # a single one may well be a line that somebody drew
_NAMED = 8  # values in a message
_SPELT_OUT = 24  # at most, where each has to be stated
_GRAY = 0x010101  # times a level


@dataclass(frozen=True)
class MaskFacts:
    """A mask in numbers.

    Args:
        values: the values it holds; the numbers of the classes it shows where a pixel may have several.
        counts: pixels of each.
        blends: pixels of each that lie between a neighbour of a lower and one of a higher value, or of lower and
            higher levels of each colour, as smoothing puts them along borders.
        edges: pixels of each with another value beside them.
        colors: of each value in the file's palette, as one number; empty where it has none.
    """

    values: tuple[int, ...]
    counts: tuple[int, ...]
    blends: tuple[int, ...] = ()
    edges: tuple[int, ...] = ()
    colors: tuple[int, ...] = ()

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Values and counts."""
        return np.array(self.values, np.int64), np.array(self.counts, np.int64)


def mask_facts(mask: npt.NDArray[np.integer], palette: tuple[int, ...] = (), *, colored: bool = False) -> MaskFacts:
    """The numbers of a mask.

    Args:
        mask: its values.
        palette: of its file.
        colored: its values are colours as numbers.

    Shape: (H, W), or (K, H, W) with a mask for each class.
    """
    if mask.ndim == 3:
        pixels = mask_pixels(mask.astype(np.uint8))
        present = np.flatnonzero(pixels)
        return MaskFacts(tuple(present.tolist()), tuple(pixels[present].tolist()))
    if mask.dtype in (np.uint8, np.uint16):  # counting is much faster than the sorting of np.unique
        pixels = np.bincount(mask.ravel())
        values = np.flatnonzero(pixels)
        ranks = np.zeros(len(pixels), np.uint16)
        ranks[values] = np.arange(len(values))
        ranked, counts = ranks[mask], pixels[values]
    else:
        values, inverse, counts = np.unique(mask, return_inverse=True, return_counts=True)
        ranked = inverse.reshape(mask.shape)
    blend, edge = _neighbours(_levels(mask) if colored else ranked)
    blends, edges = (np.bincount(ranked[where], minlength=len(values)) for where in (blend, edge))
    colors = tuple(palette[value] if value < len(palette) else 0 for value in values.tolist()) if palette else ()
    return MaskFacts(
        tuple(values.tolist()),
        tuple(counts.tolist()),
        tuple(blends.tolist()),
        tuple(edges.tolist()),
        colors,
    )


def _levels(colors: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Red, green and blue of colours as numbers."""
    return np.stack([colors >> 16 & 255, colors >> 8 & 255, colors & 255], axis=-1).astype(np.uint8)


def _neighbours(levels: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pixels lie between their neighbours, and which have others than their like beside them.

    Shape: (H, W) or (H, W, 3), to (H, W) twice.
    """
    around = np.ones((3, 3), np.uint8)
    levels = levels if levels.dtype in (np.uint8, np.uint16) else levels.astype(np.float32)  # as OpenCV takes them
    low, high = cv2.erode(levels, around), cv2.dilate(levels, around)
    between, other = (low < levels) & (levels < high), low < high
    if levels.ndim == 2:
        return between, other
    return (between | ~other).all(axis=-1) & between.any(axis=-1), other.any(axis=-1)


def palette_conflict(masks: Iterable[tuple[str, MaskFacts]]) -> str | None:
    """A line that names two files whose palettes give one index two colours; None: the numbers mean the same in all.

    A mask without a palette counts as one of gray levels where all palettes have such levels as masks without have: a
    program stored some of them as indices into what they hold.

    Args:
        masks: each with its file's name.
    """
    masks = list(masks)
    indexed = [(name, dict(zip(facts.values, facts.colors, strict=True))) for name, facts in masks if facts.colors]
    grays = [(name, {value: value * _GRAY for value in facts.values}) for name, facts in masks if not facts.colors]
    if {color for _, colors in indexed for color in colors.values()} <= {
        gray for _, own in grays for gray in own.values()
    }:
        indexed += grays
    first: dict[int, tuple[int, str]] = {}
    for name, colors in indexed:
        for value, color in colors.items():
            known, other = first.setdefault(value, (color, name))
            if color != known and value != IGNORED:  # that has many colours, and one meaning
                return (
                    f"{name}: index {value} is the colour {shown_color(color)}, but {shown_color(known)} in {other}: "
                    "palettes differ, and with them what the numbers mean. Say what the colours stand for: "
                    f"data.folder.colors={{NAME: {shown_color(known)}, ...}}, or save all masks with one palette"
                )
    return None


@dataclass(frozen=True)
class Smoothing:
    """What smoothed masks hold.

    Args:
        blends: the values that only smoothing can have made.
        areas: those that fill an area in some mask.
        pixels: of every value.
    """

    blends: frozenset[int]
    areas: frozenset[int]
    pixels: Counter[int]

    def line(self, where: str, blends: Collection[int], *, colored: bool) -> str:
        """The line that says which values are smoothed borders, and what to do.

        Args:
            where: the masks in words.
            blends: those that matter.
            colored: values are colours as numbers.
        """

        def shown(values: Collection[int]) -> str:
            more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
            return ", ".join(shown_color(value) if colored else str(value) for value in sorted(values)[:_NAMED]) + more

        share = 100 * sum(self.pixels[value] for value in blends) / self.pixels.total()
        key = "data.folder.colors" if colored else f"data.folder.mask_values{self._nearest()}"
        return (
            f"{where}: {len(blends)} values ({shown(blends)}; {share:.2g} % of the pixels) stand only on borders, "
            "between higher and lower ones: masks were smoothed, by a resize or a lossy format. Make them again from "
            f"the originals, with nearest-neighbour resizing, as PNG, so that {shown(self.areas)} are left; or say "
            f"what each value means: {key}"
        )

    def _nearest(self) -> str:
        """Of two classes, what counts every value to the nearer one; nothing where it would be long, or not known."""
        if len(self.areas) != 2 or len(self.pixels) > _SPELT_OUT:
            return ""
        low, high = sorted(self.areas)
        near_low = [value for value in sorted(self.pixels) if 2 * value < low + high]
        near_high = [value for value in sorted(self.pixels) if 2 * value >= low + high]
        return f"={{background: {near_low}, object: {near_high}}}"


def find_smoothing(masks: Iterable[MaskFacts]) -> Smoothing | None:
    """What smoothing made of masks; None where they look sound.

    Blends lie between their neighbours nearly everywhere, have no area of their own in any mask, and stand along many
    of the borders of those that have. A single such value may be a line that somebody drew around a higher class.

    Args:
        masks: of one class a pixel.
    """
    pixels: Counter[int] = Counter()
    between: Counter[int] = Counter()
    edges: Counter[int] = Counter()
    for facts in masks:
        pixels.update(dict(zip(facts.values, facts.counts, strict=True)))
        between.update(dict(zip(facts.values, facts.blends, strict=True)))
        edges.update(dict(zip(facts.values, facts.edges, strict=True)))
    areas = frozenset(value for value in pixels if edges[value] < pixels[value])
    blends = frozenset(value for value in pixels if value not in areas and 2 * between[value] > pixels[value])
    thin = sum(pixels[value] for value in blends)
    borders = sum(count for value, count in edges.items() if value not in blends)
    enough = _FEWEST_BLENDS * borders <= thin < _MOST_BLENDS * pixels.total()
    return Smoothing(blends, areas, pixels) if len(blends) >= _FEWEST_VALUES and len(areas) >= 2 and enough else None
