"""Pixels to network input, the same in training, evaluation and prediction."""

from collections.abc import Sequence

import torch

from segzoo.config.schema import Preprocessing
from segzoo.errors import ConfigError


def normalize(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """`(pixel - mean) / std` for each channel, in units of the full range, on the device the images are on.

    Shape: (N, C, H, W), 8-bit, or floating-point from 0 to 1; to float32.

    Raises:
        ConfigError: images have another number of channels than `preprocessing`.

    >>> normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), Preprocessing()).flatten()
    tensor([1.0000, 1.0000, 1.0000])
    """
    if images.shape[1] != len(preprocessing.mean):
        raise ConfigError(
            f"data.preprocessing.mean: {len(preprocessing.mean)} numbers, "
            f"but the images have {images.shape[1]} channels"
        )
    full_range = 1.0 if images.is_floating_point() else 255.0
    scale = _per_channel([1 / (full_range * std) for std in preprocessing.std], images.device)
    shift = _per_channel(
        [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)], images.device
    )
    return torch.addcmul(shift, images.float(), scale)


def _per_channel(values: list[float], device: torch.device) -> torch.Tensor:
    """Numbers that broadcast over (N, C, H, W); one number where all are equal.

    With channels last, a row of three numbers is too short for vector instructions: one number is twice as fast.
    """
    shown = values[:1] if len(set(values)) == 1 else values
    # Filled on the device: a copy from here would wait for it.
    return torch.stack([torch.full((), value, device=device) for value in shown]).view(1, -1, 1, 1)


def mean_color(mean: Sequence[float], *, eight_bits: bool) -> tuple[float, ...]:
    """What fills places from outside of an image, in the pixels' units."""
    return tuple(float(round(255 * value)) for value in mean) if eight_bits else tuple(mean)
