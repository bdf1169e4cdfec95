"""Pixels to network input."""

import pytest
import torch

from segzoo.config.schema import Preprocessing
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError


def test_default_maps_the_full_range_to_minus_one_to_one() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    result = normalize(images, Preprocessing())
    assert result.dtype == torch.float32
    assert result.shape == images.shape
    torch.testing.assert_close(result, images.float() / 127.5 - 1)


def test_each_channel_has_its_own_mean_and_std() -> None:
    preprocessing = Preprocessing(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    result = normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), preprocessing)
    assert result.flatten().tolist() == pytest.approx([1.0, 1.0, 0.0], abs=1e-6)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 numbers, but the images have 4 channels"):
        normalize(torch.zeros((1, 4, 2, 2), dtype=torch.uint8), Preprocessing())
