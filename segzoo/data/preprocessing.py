"""Pixels to network input, the same in training, evaluation and prediction."""

import torch

from segzoo.config.schema import Preprocessing
from segzoo.errors import ConfigError


def normalize(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """`(pixel / 255 - mean) / std` for each channel, on the device the images are on.

    Args:
        images: 8-bit RGB.
        preprocessing: mean and std in units of the full range.

    Shape: (N, 3, H, W) uint8 to (N, 3, H, W) float32.

    Raises:
        ConfigError: images have another number of channels than `preprocessing`.

    >>> normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), Preprocessing()).flatten().tolist()
    [1.0, 1.0, 1.0]
    """
    if images.shape[1] != len(preprocessing.mean):
        raise ConfigError(
            f"data.preprocessing.mean: {len(preprocessing.mean)} numbers, "
            f"but the images have {images.shape[1]} channels"
        )
    shape = (1, -1, 1, 1)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=images.device).view(shape)
    std = torch.tensor(preprocessing.std, dtype=torch.float32, device=images.device).view(shape)
    return (images / 255 - mean) / std
