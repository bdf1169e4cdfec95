"""Training augmentation; the only module that knows albumentations."""

import os
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from segzoo.config.schema import DataConfig

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network for its newest version when imported
import albumentations as A

# Loader processes are the parallelism here, and OpenCV's thread pool does not survive a fork.
cv2.setNumThreads(0)

Array8 = npt.NDArray[np.uint8]
Transform = Callable[[Array8, Array8, int], tuple[Array8, Array8]]

_IGNORED = 255


class TrainTransform:
    """The DeepLab recipe: scale by a random factor, pad at the bottom and right, crop, flip.

    Args:
        config: factors, crop size, flip probability; padding takes the mean colour of its preprocessing.

    Source: DeepLabV3+ (arXiv:1802.02611v3) section 4 and TensorFlow `research/deeplab` input_preprocess.py:
    bilinear images without smoothing, nearest masks. Departure: pixel centres are aligned when resizing, so
    that image and mask stay in place.
    """

    def __init__(self, config: DataConfig) -> None:
        height, width = config.crop_size
        mean_color = tuple(round(255 * mean) for mean in config.preprocessing.mean)
        self._steps = A.Compose(
            [
                _random_scale(config),
                A.PadIfNeeded(height, width, position="top_left", fill=mean_color, fill_mask=_IGNORED),
                A.RandomCrop(height, width),
                A.HorizontalFlip(p=config.flip_probability),
            ]
        )

    def __call__(self, image: Array8, mask: Array8, seed: int) -> tuple[Array8, Array8]:
        """Augment one sample; the result depends on the arguments alone.

        Args:
            image: 8-bit RGB.
            mask: class indices, 255 ignored.
            seed: the only source of chance.

        Shape: image (H, W, 3) and mask (H, W) to crop size.
        """
        # Compose hands one seed to all its steps, which would tie the flip to the place of the crop.
        seeds = np.random.SeedSequence(seed).generate_state(len(self._steps.transforms))
        for step, step_seed in zip(self._steps.transforms, seeds.tolist(), strict=True):
            step.set_random_seed(step_seed)
        result = self._steps(image=image, mask=mask)
        return result["image"], result["mask"]


def train_transform(config: DataConfig) -> Transform:
    """The augmentation that `config` describes: `(image, mask, seed) -> (image, mask)`, 8 bits in and out."""
    return TrainTransform(config)


def scale_factors(low: float, high: float, step: float) -> list[float]:
    """`low`, `low + step`, ... up to and with `high`.

    >>> scale_factors(0.5, 2.0, 0.5)
    [0.5, 1.0, 1.5, 2.0]
    """
    # The small share lets 0.5 + 6 * 0.25 reach 2.0 whatever the rounding.
    count = int((high - low) / step + 1e-6) + 1
    return [low + index * step for index in range(count)]


def _random_scale(config: DataConfig) -> A.BasicTransform | A.OneOf:
    low, high = config.scale_range
    if config.scale_step == 0:
        return _scale(low, high)
    return A.OneOf([_scale(factor, factor) for factor in scale_factors(low, high, config.scale_step)], p=1)


def _scale(low: float, high: float) -> A.BasicTransform:
    return A.RandomScale(
        scale_limit=(low - 1, high - 1),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST_EXACT,  # INTER_NEAREST moves the mask by up to half a pixel
        p=1,
    )
