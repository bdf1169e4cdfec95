"""What the network sees of an image: a random crop in training, the centre elsewhere; all that knows torchvision."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from segzoo.config.classification import ClassificationDataConfig
from segzoo.data.reading.pixels import Pixels
from segzoo.data.transforms.preprocessing import mean_color

_BILINEAR = InterpolationMode.BILINEAR


class Window(NamedTuple):
    """A rectangle of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


class TrainView:
    """A random crop of random proportions, scaled to `image_size`; flipped, and what `augmentation` adds.

    Source: crops of random area and proportions are GoogLeNet's (arXiv:1409.4842, section 6), as torchvision has them;
    RandAugment is arXiv:1909.13719, as torchvision has it: 14 operations and 31 magnitudes.
    """

    def __init__(self, config: ClassificationDataConfig) -> None:
        augmentation = config.augmentation
        fill = list(mean_color(config.preprocessing.mean, eight_bits=config.is_rgb8))
        steps: list[torch.nn.Module] = [
            v2.RandomResizedCrop(
                config.image_size, config.crop_area, config.crop_ratio, interpolation=_BILINEAR, antialias=True
            ),
            v2.RandomHorizontalFlip(augmentation.horizontal_flip),
            v2.RandomVerticalFlip(augmentation.vertical_flip),
        ]
        if augmentation.rotation or augmentation.shear or augmentation.zoom:
            shear, zoom = augmentation.shear, augmentation.zoom
            steps.append(
                v2.RandomAffine(
                    augmentation.rotation,
                    scale=(1 - zoom, 1 + zoom) if zoom else None,
                    shear=(-shear, shear, -shear, shear) if shear else None,
                    interpolation=_BILINEAR,
                    fill=fill,
                )
            )
        if augmentation.rand_augment is not None:
            count, magnitude = augmentation.rand_augment_operations, augmentation.rand_augment
            steps.append(v2.RandAugment(count, magnitude, interpolation=_BILINEAR, fill=fill))
        if augmentation.color:
            strength = augmentation.color
            steps.append(v2.ColorJitter(strength, strength, strength, strength / 4))
        self._steps = steps

    def __call__(self, image: Pixels, seed: int) -> Tensor:
        """Augment an image; the result depends on the arguments alone.

        Args:
            image: 8-bit RGB, or float32 in units of the full range.
            seed: the only source of chance.

        Shape: (H, W, C) to (C, *image_size), of the same type.
        """
        seen = _as_tensor(image)
        # torchvision draws from the global generator, which is put back as it was.
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPU's, too
            for step in self._steps:
                seen = step(seen)
        return seen


class CenterView:
    """The central window of `image_size`'s proportions, scaled to it.

    Source: TensorFlow's Inception preprocessing (research/slim, inception_preprocessing.py) cuts the central 87.5 % of
    each side out and scales it to 299×299. Departures: the window has the proportions of what the network sees, so that
    pictures are not squashed; scaling down averages (antialias), as in training.
    """

    def __init__(self, config: ClassificationDataConfig) -> None:
        self._size = config.image_size
        self._share = config.center_crop

    def window(self, height: int, width: int) -> Window:
        """Which part of an image of this size is seen.

        >>> CenterView(ClassificationDataConfig(name="csv")).window(480, 640)
        Window(top=30, left=110, height=420, width=420)
        """
        pixels_per_pixel = self._share * min(height / self._size[0], width / self._size[1])
        seen_height, seen_width = (max(1, round(side * pixels_per_pixel)) for side in self._size)
        return Window((height - seen_height) // 2, (width - seen_width) // 2, seen_height, seen_width)

    def __call__(self, image: Pixels) -> Tensor:
        """The centre of an image. Shape: (H, W, C) to (C, *image_size), of the same type."""
        window = self.window(*image.shape[:2])
        return functional.resized_crop(_as_tensor(image), *window, list(self._size), _BILINEAR, antialias=True)


def _as_tensor(image: Pixels) -> Tensor:
    return torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)
