"""Training's augmentation of a segmenter's samples: from an image, its mask and a seed to one crop.

`TrainTransform.view` draws which part of the image is seen, and `cut_image` and `cut_mask` fetch that part alone. A
scaled image is the grid that `cv2.resize(image, None, fx=factor, fy=factor)` samples, anchored at the top left corner.
Factors are fractions p/q, so that every p-th pixel of the scaled image lies on a whole pixel of the stored one, and a
window that starts there samples the same points.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig
from segzoo.data.class_balance import mask_pixels, rarity
from segzoo.data.reading.labels import IGNORED
from segzoo.data.sample import mask_extent
from segzoo.data.transforms.augmentation import build_steps, run_steps
from segzoo.data.transforms.preprocessing import mean_color
from segzoo.errors import DataError

# Loader processes are the parallelism here, and OpenCV's thread pool does not survive a fork.
cv2.setNumThreads(0)

Pixels = npt.NDArray[np.generic]
Mask = npt.NDArray[np.uint8]
Extent = tuple[int, int]
Fill = tuple[float, ...]

REDUCTIONS = (1, 2, 4, 8)
"""By which sizes a decoder may shrink an image while it decodes it."""
_ANY_STEP = 1 / 32  # between factors, where none is asked for
_LARGEST_DENOMINATOR = 32
_FILLED_CHANNELS = 4  # the most that OpenCV fills a border of


@dataclass(frozen=True)
class View:
    """The part of an image that a sample shows: where, how large, how turned."""

    factor: Fraction  # size of the scaled image over that of the stored one
    top: int  # first row of the crop in the scaled image
    left: int
    flip: bool = False  # whether left and right change places, last of all
    vertical_flip: bool = False
    angle: float = 0.0  # degrees by which the content turns clockwise
    pivot: tuple[float, float] = (0.0, 0.0)  # row and column in the scaled image that stay in place when it turns


class TrainTransform:
    """Scale by a random factor, pad at the bottom and right, crop, flip; and what `data.augmentation` adds.

    Padding has the mean colour of the preprocessing, and `ignore_index` in the mask.

    Raises:
        ConfigError: `data.augmentation.extra` is wrong; one line per problem.

    Source: DeepLabV3+ (arXiv:1802.02611v3) section 4 and TensorFlow `research/deeplab` (input_preprocess.py,
    preprocess_utils.py): factors all equally likely; the scaled size rounded down; bilinear images without smoothing,
    nearest masks; padding with the mean colour at the bottom and right; every place of the crop equally likely; flip
    last. Departures: pixel centres are aligned when resizing where TensorFlow aligns the corners' centres, so that
    image and mask stay in place; the mean colour 127.5 is 128 in 8 bits; factors are fractions with denominators of 32
    at most.
    """

    def __init__(self, config: DataConfig, ignore_index: int = IGNORED) -> None:
        self._crop: Extent = config.crop_size
        self._factors = _factors(config)
        self._flip = config.flip_probability
        self._strengths = config.augmentation.strengths
        self._reduced = config.reduced_decoding
        self._ignore_index = ignore_index
        self._mean = config.preprocessing.mean
        fill = mean_color(self._mean, eight_bits=config.is_rgb8)
        # Albumentations takes a number for each channel as far as OpenCV does, which gives one to the first alone.
        self._steps = build_steps(config, fill if 2 <= len(fill) <= _FILLED_CHANNELS else fill[0], ignore_index)

    def __call__(self, image: Pixels, mask: Mask, seed: int) -> tuple[Pixels, Mask]:
        """Augment one sample; the result depends on the arguments alone.

        Shape: image (H, W, C), 8-bit RGB or float32, and mask (H, W), or (K, H, W), to crop size.
        """
        return self.cut(image, mask, self.view(mask, seed), seed)

    def view(self, mask: Mask, seed: int) -> View:
        """Which part of the image the seed shows; known before the image is decoded."""
        random = np.random.default_rng(seed)
        # All drawn at once, so that one key of the configuration does not move what another decides.
        factor_at, top_at, left_at, flip_at, vertical_at, angle_at, rare_at = random.random(7).tolist()
        factor = self._factors[int(factor_at * len(self._factors))]
        height, width = scaled_size(mask_extent(mask), factor)
        target = None
        if rare_at < self._strengths.rare_class_crops:
            target = rare_pixel(mask, factor, self._ignore_index, random)
        top = _start(top_at, height, self._crop[0], target and target[0])
        left = _start(left_at, width, self._crop[1], target and target[1])
        row, column = target or (top + (self._crop[0] - 1) / 2, left + (self._crop[1] - 1) / 2)
        return View(
            factor,
            top,
            left,
            flip=flip_at < self._flip,
            vertical_flip=vertical_at < self._strengths.vertical_flip,
            angle=(2 * angle_at - 1) * self._strengths.rotation,
            pivot=(row + 0.5, column + 0.5),
        )

    def reduction(self, view: View) -> int:
        """By how much a decoder may shrink the image for this view."""
        if not self._reduced:
            return 1
        return max(reduction for reduction in REDUCTIONS if reduction * view.factor <= 1 or reduction == 1)

    def cut(self, image: Pixels, mask: Mask, view: View, seed: int) -> tuple[Pixels, Mask]:
        """The crop that `view` shows, after all other steps, which the seed decides; new memory.

        The image may have been shrunk by one of `REDUCTIONS` while it was decoded.
        """
        fill = mean_color(self._mean, eight_bits=image.dtype == np.uint8)
        crop_image = cut_image(image, mask_extent(mask), view, self._crop, fill)
        crop_mask = cut_mask(mask, view, self._crop, self._ignore_index)
        return run_steps(self._steps, crop_image, crop_mask, seed) if self._steps else (crop_image, crop_mask)


def scale_factors(low: float, high: float, step: float) -> list[float]:
    """`low`, `low + step`, ... up to and with `high`.

    >>> scale_factors(0.5, 2.0, 0.5)
    [0.5, 1.0, 1.5, 2.0]
    """
    # The small share lets 0.5 + 6 * 0.25 reach 2.0 whatever the rounding.
    count = int((high - low) / step + 1e-6) + 1
    return [low + index * step for index in range(count)]


def _factors(config: DataConfig) -> list[Fraction]:
    factors = scale_factors(*config.scale_range, config.scale_step or _ANY_STEP)
    return [
        Fraction(factor).limit_denominator(_LARGEST_DENOMINATOR) or Fraction(1, round(1 / factor)) for factor in factors
    ]


def _start(chance: float, length: int, crop: int, target: int | None) -> int:
    """Where a crop begins, every place equally likely among those that show the target."""
    first, last = 0, max(0, length - crop)
    if target is not None:
        first, last = max(first, target - crop + 1), min(last, target)
    return first + int(chance * (last - first + 1))


def rare_pixel(mask: Mask, factor: Fraction, ignore_index: int, random: np.random.Generator) -> Extent | None:
    """Row and column in the scaled mask of a pixel whose class is drawn first, then the pixel; None of no class.

    A class with the share p of the pixels is drawn with a probability in proportion to 1 / ln(1.02 + p), the weight
    that `loss.class_weights: balanced` gives it.
    """
    size = mask_extent(mask)
    height, width = scaled_size(size, factor)
    rows = source_indices(0, height, factor, size[0])
    columns = source_indices(0, width, factor, size[1])
    seen = mask[..., rows, :][..., columns] if factor < 1 else mask  # what scaling down leaves out cannot be a target
    pixels = mask_pixels(seen)
    pixels[ignore_index] = 0
    present = np.flatnonzero(pixels)
    if not present.size:
        return None
    weights = rarity(pixels)[present]
    chosen = random.choice(present, p=weights / weights.sum())
    pixels_of_class = np.flatnonzero(seen[chosen] == 1 if seen.ndim == 3 else seen == chosen)
    row, column = divmod(int(random.choice(pixels_of_class)), seen.shape[-1])
    if factor < 1:
        return row, column
    return int(np.searchsorted(rows, row)), int(np.searchsorted(columns, column))


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

    The image is the stored one of `size`, or what its decoder shrank by one of `REDUCTIONS`.

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
    return _by_channels(image, inverse, crop, fill, interpolation | cv2.WARP_INVERSE_MAP)


def _by_channels(image: Pixels, inverse: npt.NDArray[np.float64], crop: Extent, fill: Fill, flags: int) -> Pixels:
    """OpenCV's warp for any number of channels."""
    if image.ndim == 3 and image.shape[2] > _FILLED_CHANNELS:
        starts = range(0, image.shape[2], _FILLED_CHANNELS)
        groups = [slice(start, start + _FILLED_CHANNELS) for start in starts]
        return np.dstack([_by_channels(image[..., group], inverse, crop, fill[group], flags) for group in groups])
    image = np.ascontiguousarray(image)
    return cv2.warpAffine(image, inverse, crop[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)


def _padded(window: Pixels, crop: Extent, fill: Fill) -> Pixels:
    """`window` at the top left of an array of its own."""
    height, width = window.shape[:2]
    if (height, width) == crop:
        return window.copy()
    if window.ndim == 2 or window.shape[2] <= _FILLED_CHANNELS:
        missing = (0, crop[0] - height, 0, crop[1] - width)
        return cv2.copyMakeBorder(window, *missing, cv2.BORDER_CONSTANT, value=fill)
    padded = np.empty((*crop, window.shape[2]), window.dtype)
    padded[:] = fill
    padded[:height, :width] = window
    return padded


def _flipped(pixels: Pixels, view: View) -> Pixels:
    if not (view.flip or view.vertical_flip):
        return pixels
    code = -1 if view.flip and view.vertical_flip else int(view.flip)
    return cv2.flip(pixels, code)
