"""Pooling to a fixed number of bins, in steps that every graph format knows."""

import torch
from torch import Tensor, nn


class BinPooling(nn.Module):
    """What `nn.AdaptiveAvgPool2d` computes, as two matrix products whose sizes may be unknown beforehand.

    ONNX has no adaptive pooling: its exporter writes it for sizes that are known and divide evenly.

    Args:
        bins: rows and columns of the result.

    >>> x = torch.rand(2, 3, 7, 11)
    >>> torch.allclose(BinPooling((3, 6))(x), nn.AdaptiveAvgPool2d((3, 6))(x))
    True
    """

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Average over bins.

        Shape:
            x: (N, C, H, W). Returns (N, C, *bins).
        """
        rows, columns = (
            _shares(size, count, x) for size, count in zip((x.shape[2], x.shape[3]), self.bins, strict=True)
        )
        return rows @ (x @ columns.transpose(0, 1))


def _shares(size: int, bins: int, like: Tensor) -> Tensor:
    """The share of each of `size` pixels in each bin; neighbouring bins overlap where they do not divide evenly.

    Shape: (bins, size).
    """
    pixel = torch.arange(size, device=like.device)
    index = torch.arange(bins, device=like.device)[:, None]
    start = index * size // bins
    end = ((index + 1) * size + bins - 1) // bins
    inside = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def with_bin_pooling(network: nn.Module) -> nn.Module:
    """Replace every adaptive pooling to more than one bin, in place.

    Args:
        network: one of your own; it is changed.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            bins = _pair(module.output_size)
            if bins is not None and bins != (1, 1):
                network.set_submodule(name, BinPooling(bins))
    return network


def _pair(size: int | tuple[int | None, ...] | None) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if size is None or len(size) != 2 or size[0] is None or size[1] is None:
        return None
    return size[0], size[1]
