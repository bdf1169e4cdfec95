"""Many pictures and masks on one page, with a legend of the classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segzoo.data.reading.images import Array8
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import mask_extent

_CELL = 256  # pixels of the longer side of a picture
_GAP = 8
_LINE = 18  # height of a line of text
_FONT_SIZE = 13
_SWATCH = 12
_PAPER = (250, 250, 250)
_INK = (30, 30, 30)
_HATCH = ((200, 200, 200), (90, 90, 90))  # light and dark stripes of ignored pixels
_STRIPE = 6


@dataclass(frozen=True)
class Cell:
    """A picture, a mask, or a mask over its picture.

    Args:
        caption: the line below it.
        image: 8-bit RGB; None shows the mask in its colours.
        mask: class indices; None shows the picture alone.

    Shape: image (H, W, 3), mask (H, W) or (K, H, W).
    """

    caption: str
    image: Array8 | None = None
    mask: npt.NDArray[np.uint8] | None = None


def draw_sheet(rows: Sequence[Sequence[Cell]], labels: LabelSpace, title: str) -> Array8:
    """Rows of cells below a title and above a legend; pixels that are ignored are hatched.

    Args:
        rows: cells from left to right; rows may differ in length.
        labels: names and colours.
        title: one line.

    Shape: (H, W, 3).
    """
    columns = max(len(row) for row in rows)
    width = _GAP + columns * (_CELL + _GAP)
    pictures = [[_painted(cell, labels) for cell in row] for row in rows]
    heights = [max(picture.height for picture in row) + _LINE + _GAP for row in pictures]
    legend = _legend_lines(labels, width, with_ignored=any(_ignored(cell.mask, labels) for row in rows for cell in row))
    page = Image.new("RGB", (width, _LINE + _GAP + sum(heights) + _LINE * len(legend) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    _write(draw, (_GAP, _GAP // 2), title, width - 2 * _GAP)
    top = _LINE + _GAP
    for row, painted, height in zip(rows, pictures, heights, strict=True):
        for column, (cell, picture) in enumerate(zip(row, painted, strict=True)):
            left = _GAP + column * (_CELL + _GAP)
            page.paste(picture, (left, top))
            _write(draw, (left, top + picture.height + 1), cell.caption, _CELL)
        top += height
    for line in legend:
        _draw_legend(draw, line, top)
        top += _LINE
    return np.asarray(page)


def _painted(cell: Cell, labels: LabelSpace) -> Image.Image:
    """The cell at the size at which it is shown, so that stripes and borders stay sharp."""
    shape = cell.image.shape[:2] if cell.image is not None else (1, 1) if cell.mask is None else mask_extent(cell.mask)
    scale = _CELL / max(shape)
    size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
    canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    if cell.image is not None:
        smooth = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
        canvas = np.asarray(Image.fromarray(cell.image).resize(size, smooth))
    if cell.mask is not None:
        mask = resized_mask(cell.mask, size)
        canvas = _hatched(labels.coding.overlay(canvas, mask, alpha=1.0 if cell.image is None else 0.5), mask, labels)
    return Image.fromarray(canvas)


def resized_mask(mask: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A mask of (width, height), each pixel that of the nearest. Shape: (..., H, W)."""
    layers = [Image.fromarray(layer) for layer in mask.reshape(-1, *mask_extent(mask))]
    small = np.stack([np.asarray(layer.resize(size, Image.Resampling.NEAREST)) for layer in layers])
    return small.reshape(*mask.shape[:-2], *size[::-1])


def _hatched(picture: Array8, mask: npt.NDArray[np.uint8], labels: LabelSpace) -> Array8:
    """Diagonal stripes over ignored pixels; in a picture of both, every other stripe lets the image through."""
    rows, columns = np.indices(mask_extent(mask))
    dark = (rows + columns) // _STRIPE % 2 == 1
    ignored = (mask == labels.ignore_index).reshape(-1, *mask_extent(mask)).any(0)
    hatched = picture.copy()
    hatched[ignored & dark] = _HATCH[1]
    hatched[ignored & ~dark & (picture == 0).all(axis=2)] = _HATCH[0]
    return hatched


def _ignored(mask: npt.NDArray[np.uint8] | None, labels: LabelSpace) -> bool:
    return mask is not None and bool((mask == labels.ignore_index).any())


def _legend_lines(
    labels: LabelSpace, width: int, *, with_ignored: bool
) -> list[list[tuple[int, str, tuple[int, int, int] | None]]]:
    """(left edge, name, colour) of every class, broken into lines; None as colour is the hatching."""
    entries: list[tuple[str, tuple[int, int, int] | None]] = list(zip(labels.names, labels.palette, strict=True))
    lines: list[list[tuple[int, str, tuple[int, int, int] | None]]] = [[]]
    left = _GAP
    for name, color in [*entries, *([("ignored", None)] if with_ignored else [])]:
        needed = _SWATCH + _GAP + round(_font().getlength(name)) + 2 * _GAP
        if left + needed > width and lines[-1]:
            lines.append([])
            left = _GAP
        lines[-1].append((left, name, color))
        left += needed
    return lines


def _draw_legend(
    draw: ImageDraw.ImageDraw, line: Sequence[tuple[int, str, tuple[int, int, int] | None]], top: int
) -> None:
    for left, name, color in line:
        box = (left, top + 2, left + _SWATCH, top + 2 + _SWATCH)
        draw.rectangle(box, fill=color or _HATCH[0], outline=_INK)
        if color is None:
            draw.line((left, top + 2 + _SWATCH, left + _SWATCH, top + 2), fill=_HATCH[1], width=3)
        draw.text((left + _SWATCH + _GAP // 2, top), name, fill=_INK, font=_font())


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """One line of text, its beginning cut off where it is too long: names differ at the end."""
    length = _font().getlength(text)
    if length > width:
        text = f"..{text[-int(0.9 * len(text) * width / length) :]}"
    draw.text(place, text, fill=_INK, font=_font())


@cache  # parsed from the package's own data each time
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_FONT_SIZE)
