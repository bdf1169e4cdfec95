"""Depthwise 3×3 convolutions of large rates by phases, where oneDNN, torch's library on CPUs, has no fast kernel.

A convolution of rate d sees every d-th pixel. Each of the d² sets of such pixels, a phase, is an image of its own, and
on these the rate is 1.
"""

from torch import Tensor
from torch.nn import functional as F

FAR = 6
"""Above this rate oneDNN has no fast kernel: its padding is wider than what it computes at once."""


def is_far(weight: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> bool:
    """Whether phases are the fast way to compute a convolution on a CPU: far, depthwise, 3×3, of unchanged size."""
    is_depthwise = groups == len(weight) > 1 and weight.shape[1:] == (1, 3, 3)
    return is_depthwise and padding == dilation == dilation[:1] * 2 and dilation[0] > FAR


def phases(x: Tensor, rate: int) -> Tensor:
    """Every `rate`-th pixel as an image, zeros behind the last.

    Shape:
        x: (N, C, H, W). Returns (N · rate², C, ceil(H / rate), ceil(W / rate)) in channels-last order.

    >>> import torch
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
