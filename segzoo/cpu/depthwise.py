"""Depthwise 3×3 convolutions that oneDNN, torch's library on CPUs, has no fast kernel for, by way of those it has.

Measured with oneDNN 3.13 on two cores, forward and backward, bf16: a stride of 2 on 728 channels of 33×33 pixels goes
backwards in 178 ms, and in 9 ms with its gradient spread out for a stride of 1; rate 6 on 2048 channels of 17×17 in 136
and 9 ms. Forward, rate 12 takes 20 and 5 ms, rate 18 takes 38 and 2 ms.

A convolution of rate d sees every d-th pixel. Each of the d² sets of such pixels, a phase, is an image of its own, and
on these the rate is 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FAR = 6
"""Above this rate oneDNN has no fast kernel forward either: its padding is wider than what it computes at once."""


def is_depthwise(weight: Tensor, padding: tuple[int, ...] | str, dilation: tuple[int, ...], groups: int) -> bool:
    """Whether it is 3×3, one filter a channel, and keeps the size at stride 1."""
    return groups == len(weight) > 1 and weight.shape[1:] == (1, 3, 3) and padding == dilation == dilation[:1] * 2


def has_bf16_kernels() -> bool:
    """Whether oneDNN computes bf16 on this processor: elsewhere sums over phases are rounded to bf16 one by one."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_far(weight: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> bool:
    """Whether phases are the fast way to compute a convolution on a CPU."""
    return dilation[0] > FAR and is_depthwise(weight, padding, dilation, groups)


def far_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, rate: int) -> Tensor:
    """A depthwise convolution of a rate, at stride 1, by phases.

    Shape:
        x: (N, C, H, W). weight: (C, 1, 3, 3). Returns as x.
    """
    near = F.conv2d(phases(x, rate), weight, bias, padding=1, groups=len(weight))
    return from_phases(near, rate, x)


def strided_back(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of input and weights at stride 2: those at stride 1, where the pixels left out have none."""
    spread = torch.zeros_like(x)
    spread[:, :, ::2, ::2] = gradient
    return _back(spread, x, weight)


def dilated_back(gradient: Tensor, x: Tensor, weight: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Gradients of input and weights at a rate. Far taps overlap little, and are summed one by one."""
    if rate > FAR:
        return far_convolution(gradient, weight.flip((2, 3)), None, rate), _taps(gradient, x, rate)
    of_x, of_weight = _back(phases(gradient, rate), phases(x, rate), weight)
    return from_phases(of_x, rate, x), of_weight


def phases(x: Tensor, rate: int) -> Tensor:
    """Every `rate`-th pixel as an image, zeros behind the last.

    Shape:
        x: (N, C, H, W). Returns (N · rate², C, ceil(H / rate), ceil(W / rate)) in channels-last order.

    >>> phases(torch.arange(4.0).view(1, 1, 1, 4), 2).flatten(1)
    tensor([[0., 2.],
            [1., 3.],
            [0., 0.],
            [0., 0.]])
    """
    x = F.pad(x, (0, -x.shape[3] % rate, 0, -x.shape[2] % rate))
    n, c, h, w = x.shape
    sets = x.permute(0, 2, 3, 1).reshape(n, h // rate, rate, w // rate, rate, c).permute(0, 2, 4, 1, 3, 5)
    return sets.reshape(n * rate**2, h // rate, w // rate, c).permute(0, 3, 1, 2)


def from_phases(x: Tensor, rate: int, like: Tensor) -> Tensor:
    """The inverse of `phases`, of the height, width and number of images of `like`."""
    n, c, h, w = len(like), *x.shape[1:]
    rows = x.permute(0, 2, 3, 1).reshape(n, rate, rate, h, w, c).permute(0, 3, 1, 4, 2, 5)
    whole = rows.reshape(n, h * rate, w * rate, c)[:, : like.shape[2], : like.shape[3]]
    return whole.contiguous().permute(0, 3, 1, 2)


def _back(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    ones = (1, 1)
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, ones, ones, ones, False, (0, 0), len(weight), [True, True, False]
    )
    return of_x, of_weight


def _taps(gradient: Tensor, x: Tensor, rate: int) -> Tensor:
    """Gradient of the weights: for each of the nine, the sum over the pixels where it sees the image."""
    sums = []
    wide = torch.promote_types(x.dtype, torch.float32)
    for row in (-rate, 0, rate):
        for column in (-rate, 0, rate):
            seen = _inside(gradient, -row, -column).to(wide) * _inside(x, row, column)
            sums.append(seen.sum((0, 2, 3)))
    return torch.stack(sums, 1).view(-1, 1, 3, 3).to(x.dtype)


def _inside(x: Tensor, row: int, column: int) -> Tensor:
    """The part of an image that lies inside of itself when moved."""
    height, width = x.shape[2:]
    rows = slice(max(row, 0), max(height + min(row, 0), 0))
    columns = slice(max(column, 0), max(width + min(column, 0), 0))
    return x[:, :, rows, columns]
