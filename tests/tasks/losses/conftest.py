"""Configurations of every loss, and batches with ignored pixels."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from segzoo.config.schema import LossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.tasks.losses import build_loss

CLASSES = 5
LABELS = LabelSpace.from_names([f"class_{index}" for index in range(CLASSES)])


@pytest.fixture(scope="session")
def make_loss() -> Callable[..., nn.Module]:
    return lambda **options: build_loss(LossConfig.model_validate(options), LABELS)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and a target without class 1, a quarter of it ignored."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, CLASSES, 6, 7, generator=generator)
    target = torch.randint(0, CLASSES, (2, 6, 7), generator=generator)
    target[target == 1] = 2
    target[torch.rand(target.shape, generator=generator) < 0.25] = 255
    return logits, target
