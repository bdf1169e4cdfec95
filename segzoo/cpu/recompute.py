"""A convolution with the BatchNorm and the ReLU in front of it, keeping one tensor for the backward pass.

autograd keeps what goes into every layer: a convolution's result for the BatchNorm behind it, and what that and a ReLU
make of it for the next convolution. Here only the first is kept. What norm and ReLU make of it is computed a second
time in the backward pass, which costs little beside the convolution: activation recomputation, as
`torch.utils.checkpoint` does it with whole blocks, convolutions included.

The numbers are those of the plain layers, up to rounding. Weights, names and statistics are the layers' own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segzoo.cpu.depthwise import (
    dilated_back,
    far_convolution,
    has_bf16_kernels,
    is_depthwise,
    is_far,
    strided_back,
)

_aten = torch.ops.aten
_EXACT = (torch.float32, torch.float64)


class RecomputingConvolution(nn.Module):
    """The layers as one, where that can be; else one by one. For training on a CPU: it was measured nowhere else.

    Args:
        norm: in front of the ReLU, or of the convolution; None for none.
        relu: whether a ReLU stands in front of the convolution.
        convolution: padded with zeros by itself, by numbers.
    """

    def __init__(self, norm: nn.BatchNorm2d | None, convolution: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.norm = norm
        self.relu = relu
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, cut off, convolve.

        Shape:
            x: (N, in_channels, H, W). Returns what the convolution returned.
        """
        norm, layer = self.norm, self.convolution
        if not _stays_in_type(x, layer) or not (norm is None or _takes_statistics(norm, x)):
            x = x if norm is None else norm(x)
            return layer(torch.relu(x) if self.relu else x)
        tensors = x, layer.weight, layer.bias
        geometry = _Geometry(layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[arg-type]
        if norm is None:
            return _Convolution.apply(*tensors, None, None, None, None, 0.0, self.relu, geometry)
        taken = norm.weight, norm.bias, *_statistics(x, norm), norm.eps
        return _Convolution.apply(*tensors, *taken, self.relu, geometry)


def _stays_in_type(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether autocast would leave `x` as it is."""
    device = x.device.type
    return x.dtype == (torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype)


def _takes_statistics(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether BatchNorm learns from more than one pixel, which it refuses, with a fixed momentum."""
    moves = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
    return moves and norm.weight.dtype in _EXACT and x.numel() > x.shape[1]


@torch.no_grad()
def _statistics(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and variance of the batch; the running ones follow."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, variance = torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, norm.momentum)  # type: ignore[arg-type]
    return mean, variance


class _Geometry(NamedTuple):
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class _Convolution(Function):
    """BatchNorm or none, ReLU or none, and any convolution; norm and ReLU are computed twice."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        offset: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        eps: float,
        relu: bool,
        geometry: _Geometry,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, scale, offset, mean, variance)
        ctx.eps, ctx.relu, ctx.geometry = eps, relu, geometry
        active = _activated(x, (scale, offset, mean, variance), eps, relu)
        bias = None if bias is None else bias.to(x.dtype)
        if geometry.stride == (1, 1) and is_far(weight, *geometry[1:]):
            return far_convolution(active, weight.to(x.dtype), bias, geometry.dilation[0])
        return F.conv2d(active, weight.to(x.dtype), bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *norm = ctx.saved_tensors
        scale, _, mean, variance = norm
        active = _activated(x, norm, ctx.eps, ctx.relu)
        wanted = (ctx.needs_input_grad[0] or scale is not None, *ctx.needs_input_grad[1:3])
        of_x, of_weight, of_bias = _convolved_back(gradient, active, weight, ctx.geometry, wanted)
        if ctx.relu and of_x is not None:
            of_x = _aten.threshold_backward(of_x, active, 0)
        of_scale = of_offset = None
        if scale is not None:
            inverse_deviation = torch.rsqrt(variance + ctx.eps)
            of_x, of_scale, of_offset = _aten.native_batch_norm_backward(
                of_x, x, scale, None, None, mean, inverse_deviation, True, ctx.eps, [True, True, True]
            )
        return of_x, of_weight, of_bias, of_scale, of_offset, None, None, None, None, None


def _activated(x: Tensor, norm: Sequence[Tensor | None], eps: float, relu: bool) -> Tensor:
    scale, offset, mean, variance = norm
    if scale is None:
        return torch.relu(x) if relu else x
    out = torch.batch_norm(x, scale, offset, mean, variance, False, 0.0, eps, False)
    return out.relu_() if relu else out


def _convolved_back(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients of a convolution's input, weights and bias."""
    stride, padding, dilation, groups = geometry
    cast, near = weight.to(x.dtype), dilation == (1, 1)
    by_phases = stride == (1, 1) and not near
    spread = stride == (2, 2) and near and x.dtype == torch.bfloat16  # in float32 torch's own is fast
    exact = x.dtype != torch.bfloat16 or has_bf16_kernels()
    if (by_phases or spread) and exact and is_depthwise(weight, padding, dilation, groups):
        of_x, of_weight = dilated_back(gradient, x, cast, dilation[0]) if by_phases else strided_back(gradient, x, cast)
        of_bias = gradient.sum((0, 2, 3))
    else:
        of_x, of_weight, of_bias = _aten.convolution_backward(
            gradient, x, cast, [len(weight)], stride, padding, dilation, False, (0, 0), groups, list(wanted)
        )
    gradients = (of_x, *(None if tensor is None else tensor.to(weight.dtype) for tensor in (of_weight, of_bias)))
    return tuple(tensor if is_wanted else None for tensor, is_wanted in zip(gradients, wanted, strict=True))
