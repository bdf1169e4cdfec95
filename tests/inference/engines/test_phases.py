"""Depthwise convolutions by phases are torch's own."""

import pytest
import torch
from torch.nn import functional as F

from segzoo.inference.engines.phases import from_phases, is_far, phases


@pytest.mark.parametrize("rate", [1, 2, 7, 12, 18, 36])
@pytest.mark.parametrize("size", [(17, 17), (33, 20), (5, 40), (1, 1)])
def test_rates(rate, size):
    x, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(3, 1, 3, 3, dtype=torch.float64)
    found = from_phases(F.conv2d(phases(x, rate), weight, padding=1, groups=3), rate, x)
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=rate, dilation=rate, groups=3))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_which_are_far():
    weight = torch.empty(8, 1, 3, 3)
    assert is_far(weight, (18, 18), (18, 18), 8)
    assert not is_far(weight, (6, 6), (6, 6), 8), "oneDNN is fast at it"
    assert not is_far(weight, (18, 9), (18, 9), 8)
    assert not is_far(weight, (0, 0), (18, 18), 8), "it shrinks"
    assert not is_far(torch.empty(8, 8, 3, 3), (18, 18), (18, 18), 1)
