"""Training augmentation: from an image, a mask and a seed to one crop."""

from fractions import Fraction

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.reading.labels import IGNORED
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.sample import mask_extent, mask_pixels, rarity
from segzoo.data.transforms.augmentation import build_steps, run_steps
from segzoo.data.transforms.geometry import (
    REDUCTIONS,
    Extent,
    Fill,
    Mask,
    Pixels,
    View,
    cut_image,
    cut_mask,
    scaled_size,
    source_indices,
)

_ANY_STEP = 1 / 32  # between factors, where none is asked for
_LARGEST_DENOMINATOR = 32


class TrainTransform:
    """Scale by a random factor, pad at the bottom and right, crop, flip; and what `data.augmentation` adds.

    Args:
        config: the run's `data` section. Padding takes the mean colour of its preprocessing.
        ignore_index: what the mask holds where the image has no pixel.

    Raises:
        ConfigError: `data.augmentation.extra` is wrong; one line per problem.

    Source: DeepLabV3+ (arXiv:1802.02611v3) section 4 and TensorFlow `research/deeplab` (input_preprocess.py,
    preprocess_utils.py): factors all equally likely; the scaled size rounded down; bilinear images without smoothing,
    nearest masks; padding with the mean colour at the bottom and right; every place of the crop equally likely; flip
    last. Departures: pixel centres are aligned when resizing where TensorFlow aligns the corners' centres, so that
    image and mask stay in place; the mean colour 127.5 is 128 in 8 bits; factors are fractions with denominators of 32
    at most.
    """

    def __init__(self, config: DataConfig, ignore_index: int) -> None:
        self._crop: Extent = config.crop_size
        self._factors = _factors(config)
        self._flip = config.flip_probability
        self._strengths = config.augmentation.strengths
        self._reduced = config.reduced_decoding
        self._ignore_index = ignore_index
        self._mean = config.preprocessing.mean
        is_rgb8 = PixelFormat.of(config).is_rgb8
        self._steps = build_steps(config, self._fill(np.dtype(np.uint8 if is_rgb8 else np.float32)), ignore_index)

    def __call__(self, image: Pixels, mask: Mask, seed: int) -> tuple[Pixels, Mask]:
        """Augment one sample; the result depends on the arguments alone.

        Args:
            image: 8-bit RGB, or float32 in units of the full range.
            mask: class indices and the ignored value.
            seed: the only source of chance.

        Shape: image (H, W, C) and mask (H, W), or (K, H, W), to crop size.
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
        """The crop that `view` shows, after all other steps; new memory.

        Args:
            image: at full size, or shrunk while decoding by one of `geometry.REDUCTIONS`.
            mask: at full size.
            view: which part.
            seed: decides the other steps.
        """
        crop_image = cut_image(image, mask_extent(mask), view, self._crop, self._fill(image.dtype))
        crop_mask = cut_mask(mask, view, self._crop, self._ignore_index)
        return run_steps(self._steps, crop_image, crop_mask, seed) if self._steps else (crop_image, crop_mask)

    def _fill(self, dtype: np.dtype[np.generic]) -> Fill:
        """The mean colour, in the pixels' units."""
        return tuple(float(round(255 * mean)) for mean in self._mean) if dtype == np.uint8 else self._mean


def train_transform(config: DataConfig, ignore_index: int = IGNORED) -> TrainTransform:
    """The augmentation that `config` describes: `(image, mask, seed) -> (image, mask)`."""
    return TrainTransform(config, ignore_index)


def scale_factors(low: float, high: float, step: float) -> list[float]:
    """`low`, `low + step`, ... up to and with `high`.

    >>> scale_factors(0.5, 2.0, 0.5)
    [0.5, 1.0, 1.5, 2.0]
    """
    # The small share lets 0.5 + 6 * 0.25 reach 2.0 whatever the rounding.
    count = int((high - low) / step + 1e-6) + 1
    return [low + index * step for index in range(count)]


def rare_pixel(mask: Mask, factor: Fraction, ignore_index: int, random: np.random.Generator) -> Extent | None:
    """A pixel of the scaled mask whose class is drawn first, the rarer in this mask the likelier; then the pixel.

    A class with the share p of the pixels is drawn with a probability in proportion to 1 / ln(1.02 + p), the weight
    that `loss.class_weights: balanced` gives it.

    Args:
        mask: at full size.
        factor: scale.
        ignore_index: no class.
        random: what draws.

    Returns:
        Row and column in the scaled mask; None where no pixel has a class.
    """
    size = mask_extent(mask)
    height, width = scaled_size(size, factor)
    rows = source_indices(0, height, factor, size[0])
    columns = source_indices(0, width, factor, size[1])
    seen = mask[..., rows, :][..., columns] if factor < 1 else mask  # what scaling down leaves out is no target
    pixels = mask_pixels(seen)
    pixels[ignore_index] = 0
    present = np.flatnonzero(pixels)
    if not present.size:
        return None
    weights = rarity(pixels)[present]
    chosen = random.choice(present, p=weights / weights.sum())
    places = np.flatnonzero(seen[chosen] == 1 if seen.ndim == 3 else seen == chosen)
    row, column = divmod(int(random.choice(places)), seen.shape[-1])
    if factor < 1:
        return row, column
    return int(np.searchsorted(rows, row)), int(np.searchsorted(columns, column))


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
