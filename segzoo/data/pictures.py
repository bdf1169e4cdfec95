"""Pictures for people to look at: grids of images and masks with a legend of the classes, and curves over steps."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segzoo.data.reading.arrays import Array8
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import mask_extent
from segzoo.files import atomic_write, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES = 24
"""Images in a grid of predictions."""

_COLUMNS = 6  # of such a grid
_SIDE = 256  # pixels of the longer side of a picture
_GAP = 8
_LINE = 18  # height of a line of text
_FONT_SIZE = 13
_SWATCH = 12
_PAPER = (250, 250, 250)
_INK = (30, 30, 30)
IGNORED_STRIPES = ((200, 200, 200), (90, 90, 90))  # light and dark stripes of ignored pixels
_STRIPE = 6
IGNORED_GRAY = (128, 128, 128)  # where a small picture has no room for stripes; no palette of ours has it for a class
_SMALL_WIDTH = 320
_SMALL_GAP = 4
_DPI = 120
_FEW_POINTS = 50  # of a curve, each of which is marked


@dataclass(frozen=True)
class GridImage:
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


def image_grid(rows: Sequence[Sequence[GridImage]], labels: LabelSpace, title: str) -> Array8:
    """Rows of images, which may differ in length, below a title and above a legend; ignored pixels are hatched.

    Shape: (H, W, 3).
    """
    columns = max(len(row) for row in rows)
    width = _GAP + columns * (_SIDE + _GAP)
    pictures = [[_painted(image, labels) for image in row] for row in rows]
    heights = [max(picture.height for picture in row) + _LINE + _GAP for row in pictures]
    legend = _legend_lines(
        labels, width, with_ignored=any(_ignored(image.mask, labels) for row in rows for image in row)
    )
    page = Image.new("RGB", (width, _LINE + _GAP + sum(heights) + _LINE * len(legend) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    _write(draw, (_GAP, _GAP // 2), title, width - 2 * _GAP)
    top = _LINE + _GAP
    for row, painted, height in zip(rows, pictures, heights, strict=True):
        for column, (image, picture) in enumerate(zip(row, painted, strict=True)):
            left = _GAP + column * (_SIDE + _GAP)
            page.paste(picture, (left, top))
            _write(draw, (left, top + picture.height + 1), image.caption, _SIDE)
        top += height
    for line in legend:
        _draw_legend(draw, line, top)
        top += _LINE
    return np.asarray(page)


def _painted(one: GridImage, labels: LabelSpace) -> Image.Image:
    """The image at the size at which it is shown, so that stripes and borders stay sharp."""
    shape = one.image.shape[:2] if one.image is not None else (1, 1) if one.mask is None else mask_extent(one.mask)
    size = _size_within(_SIDE, shape)
    canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    if one.image is not None:
        smooth = Image.Resampling.BOX if max(shape) > _SIDE else Image.Resampling.NEAREST
        canvas = np.asarray(Image.fromarray(one.image).resize(size, smooth))
    if one.mask is not None:
        mask = _resized_mask(one.mask, size)
        canvas = _hatched(labels.coding.overlay(canvas, mask, alpha=1.0 if one.image is None else 0.5), mask, labels)
    return Image.fromarray(canvas)


def _size_within(side: int, shape: Sequence[int]) -> tuple[int, int]:
    """(width, height) of a picture of this (height, width) whose longer side is `side`."""
    scale = side / max(shape)
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _resized_mask(mask: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
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
    hatched[ignored & dark] = IGNORED_STRIPES[1]
    hatched[ignored & ~dark & (picture == 0).all(axis=2)] = IGNORED_STRIPES[0]
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
        draw.rectangle(box, fill=color or IGNORED_STRIPES[0], outline=_INK)
        if color is None:
            draw.line((left, top + 2 + _SWATCH, left + _SWATCH, top + 2), fill=IGNORED_STRIPES[1], width=3)
        draw.text((left + _SWATCH + _GAP // 2, top), name, fill=_INK, font=_font())


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, width: int) -> None:
    """One line of text, its beginning cut off where it is too long: names differ at the end."""
    length = _font().getlength(text)
    if length > width:
        text = f"..{text[-int(0.9 * len(text) * width / length) :]}"
    draw.text(corner, text, fill=_INK, font=_font())


@cache  # parsed from the package's own data each time
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_FONT_SIZE)


def spread(count: int, chosen: int = MOST_IMAGES) -> list[int]:
    """Which of `count` images a grid shows: as many as fit, evenly over all.

    >>> spread(5, chosen=3), spread(2, chosen=3)
    ([0, 2, 4], [0, 1])
    """
    if count <= chosen:
        return list(range(count))
    return [index * (count - 1) // (chosen - 1) for index in range(chosen)]


def thumbnail(caption: str, image: Array8, mask: Array8) -> GridImage:
    """An image that keeps no more than a grid shows of it, whatever its size.

    Shape: image (H, W, 3), mask (H, W) or (K, H, W).
    """
    size = _size_within(min(_SIDE, max(image.shape[:2])), image.shape[:2])
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return GridImage(caption, np.asarray(small), _resized_mask(mask, size))


def write_image_grid(path: Path, images: Sequence[GridImage], labels: LabelSpace, title: str) -> None:
    """Write an `image_grid` of overlays with their names as JPEG: no mask has such a name."""
    rows = [images[start : start + _COLUMNS] for start in range(0, len(images), _COLUMNS)]
    encoded = io.BytesIO()
    Image.fromarray(image_grid(rows, labels, title)).save(encoded, format="JPEG", quality=90, subsampling=0)
    write_atomically(path, encoded.getvalue())


def compared_masks(rows: Sequence[tuple[npt.NDArray[np.generic], Array8, Array8]], labels: LabelSpace) -> Array8:
    """Rows of image, truth and prediction at a small size, without words; ignored pixels are gray.

    Shape: image (H, W, C), truth and prediction (H, W) or (K, H, W); the result (H, W, 3).
    """
    painted = [_small_row(image, (truth, prediction), labels) for image, truth, prediction in rows]
    return _joined(painted, axis=0)


def _small_row(image: npt.NDArray[np.generic], masks: Sequence[Array8], labels: LabelSpace) -> Array8:
    size = (_SMALL_WIDTH, max(1, round(_SMALL_WIDTH * image.shape[0] / image.shape[1])))
    photograph = Image.fromarray(_visible(image)).resize(size, Image.Resampling.BOX)
    painted = [Image.fromarray(labels.coding.paint(mask, IGNORED_GRAY)) for mask in masks]
    small = [picture.resize(size, Image.Resampling.NEAREST) for picture in painted]
    return _joined([np.asarray(picture) for picture in (photograph, *small)], axis=1)


def _joined(parts: Sequence[Array8], axis: int) -> Array8:
    """Pictures side by side, or one below the other, with white between them."""
    shape = list(parts[0].shape)
    shape[axis] = _SMALL_GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for each in parts for part in (each, gap)][:-1], axis=axis)


def _visible(image: npt.NDArray[np.generic]) -> Array8:
    """8-bit RGB as it is; of every other kind the first channel, stretched over its range."""
    if image.dtype == np.uint8 and image.shape[-1] >= 3:
        return np.asarray(image[..., :3], np.uint8)
    channel = image[..., 0].astype(np.float32)
    low, high = float(channel.min()), float(channel.max())
    scaled = (255 * (channel - low) / max(high - low, 1e-12)).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2)


def draw_curves(curves: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> "Figure":
    """Curves over the steps of a run side by side, each a title, steps and values."""
    from matplotlib.figure import Figure  # takes a second to import, and few commands draw

    figure = Figure(figsize=(4 * len(curves), 3.5), layout="constrained")
    for axes, (title, steps, values) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        if steps:
            axes.plot(steps, values, marker="." if len(steps) < _FEW_POINTS else "")
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    return figure


def save_figure(figure: "Figure", path: Path, kind: str = "png") -> None:
    """Write a figure of matplotlib, whole or not at all."""
    with atomic_write(path) as part:
        figure.savefig(part, format=kind, dpi=_DPI)
