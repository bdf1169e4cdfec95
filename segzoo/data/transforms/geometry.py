"""Which part of an image a training sample shows, and how its pixels are fetched.

A scaled image is the grid `cv2.resize(image, None, fx=factor, fy=factor)` samples, anchored at the top left corner.
Only the crop's part of it is ever computed: factors are fractions p/q, so that every p-th pixel of the scaled image
lies on a whole pixel of the stored one, and a window that starts there samples the same places.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.errors import DataError

# Loader processes are the parallelism here, and OpenCV's thread pool does not survive a fork.
cv2.setNumThreads(0)

Pixels = npt.NDArray[np.generic]
Mask = npt.NDArray[np.uint8]
Extent = tuple[int, int]
Fill = tuple[float, ...]

REDUCTIONS = (1, 2, 4, 8)
"""By which sizes a decoder may shrink an image while it decodes it."""
FILLED_CHANNELS = 4
"""The most that OpenCV fills a border of."""


@dataclass(frozen=True)
class View:
    """The part of an image that a sample shows: where, how large, how turned.

    Args:
        factor: size of the scaled image over that of the stored one.
        top: first row of the crop in the scaled image.
        left: first column.
        flip: left and right change places, last of all.
        vertical_flip: top and bottom do.
        angle: degrees by which the content turns clockwise.
        pivot: row and column in the scaled image, in pixels from its corner, that stay in place when it turns.
    """

    factor: Fraction
    top: int
    left: int
    flip: bool = False
    vertical_flip: bool = False
    angle: float = 0.0
    pivot: tuple[float, float] = (0.0, 0.0)


def scaled_size(size: tuple[int, ...], factor: Fraction) -> Extent:
    """Height and width after scaling: rounded down, as TensorFlow's recipe does, but never 0.

    >>> scaled_size((375, 500), Fraction(1, 2))
    (187, 250)
    """
    over, under = factor.numerator, factor.denominator
    return max(1, size[0] * over // under), max(1, size[1] * over // under)


def source_indices(start: int, count: int, factor: Fraction, length: int) -> npt.NDArray[np.int64]:
    """Which of `length` stored pixels hold the centres of `count` scaled pixels from `start` on.

    >>> source_indices(0, 4, Fraction(2), 9).tolist(), source_indices(2, 3, Fraction(1, 2), 99).tolist()
    ([0, 0, 1, 1], [5, 7, 9])
    """
    centers = 2 * np.arange(start, start + count, dtype=np.int64) + 1
    return np.minimum(centers * factor.denominator // (2 * factor.numerator), length - 1)


def cut_mask(mask: Mask, view: View, crop: Extent, ignore_index: int) -> Mask:
    """The mask of a crop: the nearest pixel's class, `ignore_index` outside the image.

    Shape: (H, W) to `crop`, or (K, H, W) to (K, *crop).
    """
    if mask.ndim == 3:
        return np.stack([cut_mask(own, view, crop, ignore_index) for own in mask])
    if view.angle:
        turned = _turned(mask, view.factor, view, crop, (ignore_index,), cv2.INTER_NEAREST)
        return np.asarray(_flipped(turned, view), np.uint8)
    height, width = _visible(mask.shape, view, crop)
    rows = source_indices(view.top, height, view.factor, mask.shape[0])
    columns = source_indices(view.left, width, view.factor, mask.shape[1])
    return np.asarray(_flipped(_padded(mask[rows][:, columns], crop, (ignore_index,)), view), np.uint8)


def cut_image(image: Pixels, size: Extent, view: View, crop: Extent, fill: Fill) -> Pixels:
    """The picture of a crop: bilinear, without smoothing, `fill` outside the image. New memory.

    Args:
        image: the stored image, or one that its decoder shrank by one of `REDUCTIONS`.
        size: height and width of the stored image.
        view: which part.
        crop: height and width of the crop.
        fill: value of each channel.

    Shape: (H, W, C) to (*crop, C).

    Raises:
        DataError: the image's size is not the stored one, nor a fraction of it.
    """
    factor = view.factor * _reduction(image.shape, size)
    if view.angle:
        pixels = _turned(image, factor, view, crop, fill, cv2.INTER_LINEAR)
    else:
        window = _resized_window(image, factor, (view.top, view.left), _visible(size, view, crop))
        pixels = _padded(window, crop, fill)
    return _flipped(pixels, view).reshape(*crop, image.shape[2])


def _reduction(shape: tuple[int, ...], size: Extent) -> int:
    """By how much the decoder shrank an image; sizes are rounded up then."""
    for reduction in REDUCTIONS:
        if shape[:2] == (-(-size[0] // reduction), -(-size[1] // reduction)):
            return reduction
    raise DataError(f"the image has {shape[:2]} pixels, but its mask {size}")


def _visible(size: tuple[int, ...], view: View, crop: Extent) -> Extent:
    """Height and width of the scaled image's part in the crop; the rest is padding."""
    height, width = scaled_size(size, view.factor)
    return min(crop[0], height - view.top), min(crop[1], width - view.left)


def _resized_window(image: Pixels, factor: Fraction, start: Extent, size: Extent) -> Pixels:
    """`size` pixels from `start` on of the scaled image, from the stored pixels that they need alone."""
    rows, skip_rows = _source_span(start[0], size[0], image.shape[0], factor)
    columns, skip_columns = _source_span(start[1], size[1], image.shape[1], factor)
    window = image[rows, columns]
    if factor != 1:
        window = _at_least(window, math.ceil(1 / factor))  # or OpenCV would round a size to 0
        window = cv2.resize(window, None, fx=float(factor), fy=float(factor), interpolation=cv2.INTER_LINEAR)
    return window[skip_rows : skip_rows + size[0], skip_columns : skip_columns + size[1]]


def _at_least(window: Pixels, length: int) -> Pixels:
    """Images of few pixels grow at the bottom and right by repeating the last ones."""
    missing = [(0, max(0, length - side)) for side in window.shape[:2]]
    return np.pad(window, [*missing, (0, 0)], mode="edge") if any(after for _, after in missing) else window


def _source_span(start: int, count: int, length: int, factor: Fraction) -> tuple[slice, int]:
    """Stored pixels that `count` scaled ones from `start` on need, and how many scaled pixels too early they begin."""
    # One period early: the first pixels of a window miss their neighbour before it.
    periods = max(0, start // factor.numerator - 1)
    first, skip = periods * factor.denominator, start - periods * factor.numerator
    end = -(-(start + count) * factor.denominator // factor.numerator) + 1
    return slice(first, min(length, end)), skip


def _turned(image: Pixels, factor: Fraction, view: View, crop: Extent, fill: Fill, interpolation: int) -> Pixels:
    """The crop of the scaled image, turned about the view's pivot."""
    cosine, sine = math.cos(math.radians(view.angle)), math.sin(math.radians(view.angle))
    pivot_y, pivot_x = view.pivot
    # Where the centre of the crop's first pixel lies, from the pivot.
    y, x = view.top + 0.5 - pivot_y, view.left + 0.5 - pivot_x
    scaled_to_stored = 1 / float(factor)
    inverse = scaled_to_stored * np.array(
        [[cosine, sine, cosine * x + sine * y + pivot_x], [-sine, cosine, cosine * y - sine * x + pivot_y]]
    )
    inverse[:, 2] -= 0.5
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return _by_channels(image, inverse, crop, fill, flags)


def _by_channels(image: Pixels, inverse: npt.NDArray[np.float64], crop: Extent, fill: Fill, flags: int) -> Pixels:
    """OpenCV's warp for any number of channels."""
    if image.ndim == 3 and image.shape[2] > FILLED_CHANNELS:
        starts = range(0, image.shape[2], FILLED_CHANNELS)
        groups = [slice(start, start + FILLED_CHANNELS) for start in starts]
        return np.dstack([_by_channels(image[..., group], inverse, crop, fill[group], flags) for group in groups])
    image = np.ascontiguousarray(image)
    return cv2.warpAffine(image, inverse, crop[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)


def _padded(window: Pixels, crop: Extent, fill: Fill) -> Pixels:
    """`window` at the top left of an array of its own."""
    height, width = window.shape[:2]
    if (height, width) == crop:
        return window.copy()
    if window.ndim == 2 or window.shape[2] <= FILLED_CHANNELS:
        missing = (0, crop[0] - height, 0, crop[1] - width)
        return cv2.copyMakeBorder(window, *missing, cv2.BORDER_CONSTANT, value=fill)
    padded = np.empty((*crop, window.shape[2]), window.dtype)
    padded[:height, :width] = window
    padded[height:] = fill
    padded[:height, width:] = fill
    return padded


def _flipped(pixels: Pixels, view: View) -> Pixels:
    if not (view.flip or view.vertical_flip):
        return pixels
    code = -1 if view.flip and view.vertical_flip else int(view.flip)
    return cv2.flip(pixels, code)
