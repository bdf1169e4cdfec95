"""What masks hold, as numbers, and what those of many masks say together: palettes that differ, smoothed borders."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.data.class_balance import mask_pixels
from segzoo.data.reading.labels import IGNORED, LabelSpace, shown_color
from segzoo.errors import DataError

_MOST_BLENDS = 0.5  # of all pixels, in masks that are smoothed and still masks
_FEWEST_BLENDS = 0.12  # for each pixel of the borders; smoothed ones have 0.17 (halved) to 1 (doubled)
_FEWEST_VALUES = 2  # a single one may well be a line that somebody drew
_NAMED = 8  # values in a message
_SPELT_OUT = 24  # at most, where each has to be stated
GRAY = 0x010101
"""What a level of gray is times to be a colour as a number."""


@dataclass(frozen=True)
class MaskFacts:
    """A mask in numbers.

    Args:
        pixels: of each value; of the number of each class where a pixel may have several.
        blends: pixels of each value that lie between a neighbour of a lower and one of a higher value, or of lower and
            higher levels of each colour, as smoothing puts them along borders.
        edges: pixels of each value with another value beside them.
        colors: of each value in the file's palette, as one number; empty without a palette.
    """

    pixels: Mapping[int, int]
    blends: Mapping[int, int] = field(default_factory=dict)
    edges: Mapping[int, int] = field(default_factory=dict)
    colors: Mapping[int, int] = field(default_factory=dict)


def mask_facts(mask: npt.NDArray[np.integer], palette: tuple[int, ...] = (), *, colored: bool = False) -> MaskFacts:
    """The numbers of a mask.

    Args:
        mask: its values, or a mask for each class.
        palette: the colours of the file's palette as numbers.
        colored: the values are colours as numbers.

    Shape: (H, W) or (K, H, W).
    """
    if mask.ndim == 3:
        counts = mask_pixels(mask.astype(np.uint8))
        return MaskFacts({value: int(counts[value]) for value in np.flatnonzero(counts).tolist()})
    if mask.dtype in (np.uint8, np.uint16):  # counting is much faster than the sorting of np.unique
        histogram = np.bincount(mask.ravel())
        found = np.flatnonzero(histogram)
        ranks = np.zeros(len(histogram), np.uint16)
        ranks[found] = np.arange(len(found))
        ranked, counts = ranks[mask], histogram[found]
    else:
        found, inverse, counts = np.unique(mask, return_inverse=True, return_counts=True)
        ranked = inverse.reshape(mask.shape)
    values = found.tolist()
    blends, edges = (
        np.bincount(ranked[where], minlength=len(values)).tolist()
        for where in _neighbours(_levels(mask) if colored else ranked)
    )
    return MaskFacts(
        dict(zip(values, counts.tolist(), strict=True)),
        dict(zip(values, blends, strict=True)),
        dict(zip(values, edges, strict=True)),
        {value: palette[value] if value < len(palette) else 0 for value in values} if palette else {},
    )


def total_pixels(masks: Iterable[MaskFacts]) -> Counter[int]:
    """Pixels of each value in all masks."""
    total: Counter[int] = Counter()
    for mask in masks:
        total.update(mask.pixels)
    return total


def pixels_of_classes(pixels: Mapping[int, int], labels: LabelSpace) -> npt.NDArray[np.int64]:
    """Pixels of each class, and of `labels.ignore_index`, from those of each value.

    Args:
        pixels: as in `MaskFacts`.
        labels: what the values in the files mean; where each class has a file, the values are the classes themselves.

    Shape: (256,).

    Raises:
        DataError: a value means nothing.
    """
    labels = labels if labels.coding.exclusive else LabelSpace(labels.names, labels.palette)
    values = np.array(sorted(pixels), np.int64)
    counts = np.array([pixels[value] for value in values.tolist()], np.int64)
    if refusal := labels.refusal(values, counts):
        raise DataError(refusal)
    total = np.zeros(256, np.int64)
    np.add.at(total, labels.encode(values), counts)
    return total


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

    Masks without a palette count as gray levels where the palettes hold no other colours than these levels: a program
    stored some masks as indices into what they hold.

    Args:
        masks: each with its file's name.
    """
    masks = list(masks)
    indexed = [(name, facts.colors) for name, facts in masks if facts.colors]
    grays = [(name, {value: value * GRAY for value in facts.pixels}) for name, facts in masks if not facts.colors]
    levels = {gray for _, own in grays for gray in own.values()}
    if all(levels.issuperset(colors.values()) for _, colors in indexed):
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
        areas: the values that fill an area in some mask.
        pixels: of every value.
    """

    blends: frozenset[int]
    areas: frozenset[int]
    pixels: Counter[int]

    def line(self, where: str, blends: Collection[int], *, colored: bool) -> str:
        """The line that says which values are smoothed borders, and what to do.

        Args:
            where: the masks in words.
            blends: the values to name.
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

    Blends lie between their neighbours nearly everywhere, fill no area in any mask, and stand along many of the borders
    of those that do. A single such value may be a line that somebody drew around a higher class.
    """
    masks = list(masks)
    pixels, between, edges = total_pixels(masks), Counter[int](), Counter[int]()
    for facts in masks:
        between.update(facts.blends)
        edges.update(facts.edges)
    areas = frozenset(value for value in pixels if edges[value] < pixels[value])
    blends = frozenset(value for value in pixels if value not in areas and 2 * between[value] > pixels[value])
    thin = sum(pixels[value] for value in blends)
    borders = sum(count for value, count in edges.items() if value not in blends)
    enough = _FEWEST_BLENDS * borders <= thin < _MOST_BLENDS * pixels.total()
    return Smoothing(blends, areas, pixels) if len(blends) >= _FEWEST_VALUES and len(areas) >= 2 and enough else None
