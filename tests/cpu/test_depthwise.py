"""Depthwise convolutions by phases, and their gradients, are torch's own."""

import pytest
import torch
from torch.nn import functional as F

from segzoo.cpu.depthwise import dilated_back, far_convolution, has_bf16_kernels, is_far, strided_back


def tensors(channels, height, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(channels, 1, 3, 3, dtype=torch.float64, generator=generator)
    x = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    return x, weight.to(dtype).requires_grad_()


@pytest.mark.parametrize("rate", [1, 2, 7, 12, 18, 36])
@pytest.mark.parametrize("size", [(17, 17), (33, 20), (5, 40), (1, 1)])
def test_rates(rate, size):
    x, weight = tensors(3, *size)
    bias = torch.randn(3, dtype=torch.float64)
    expected = F.conv2d(x, weight, bias, 1, rate, rate, 3)
    found = far_convolution(x, weight, bias, rate)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(expected)
    own = dilated_back(gradient, x.detach(), weight.detach(), rate)
    for one, other in zip(own, torch.autograd.grad(expected, (x, weight), gradient), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [(17, 17), (16, 21), (1, 2)])
def test_strides(size):
    x, weight = tensors(3, *size)
    expected = F.conv2d(x, weight, None, 2, 1, 1, 3)
    gradient = torch.randn_like(expected)
    own = strided_back(gradient, x.detach(), weight.detach())
    for one, other in zip(own, torch.autograd.grad(expected, (x, weight), gradient), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(not has_bf16_kernels(), reason="oneDNN has no bf16 with this processor's instructions")
@pytest.mark.parametrize("rate", [6, 18])
def test_bf16_is_rounded_once(rate):
    """Sums of nine numbers that nearly cancel keep the error of the numbers, so it is measured by the largest value."""
    x, weight = tensors(8, 33, 33, torch.bfloat16)
    exact = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    output = F.conv2d(*exact, None, 1, rate, rate, 8)
    gradient = torch.randn_like(output).to(torch.bfloat16)
    found = dilated_back(gradient, x.detach(), weight.detach(), rate)
    for own, right in zip(found, torch.autograd.grad(output, exact, gradient.double()), strict=True):
        error = (own.double() - right).abs().max() / right.abs().max()
        assert error < 2**-8


def test_which_are_far():
    weight = torch.empty(8, 1, 3, 3)
    assert is_far(weight, (18, 18), (18, 18), 8)
    assert not is_far(weight, (6, 6), (6, 6), 8), "oneDNN is fast at it"
    assert not is_far(weight, (18, 9), (18, 9), 8)
    assert not is_far(weight, (0, 0), (18, 18), 8), "it shrinks"
    assert not is_far(torch.empty(8, 8, 3, 3), (18, 18), (18, 18), 1)
