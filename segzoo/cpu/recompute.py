"""Training on CPUs in less memory: BatchNorm, ReLU and convolution as one step that keeps one tensor.

autograd keeps what goes into every layer: a convolution's result for the BatchNorm behind it, and what that and a ReLU
make of it for the next convolution. Here only the first is kept. What norm and ReLU make of it is computed a second
time in the backward pass, which costs little beside the convolution: activation recomputation, as
`torch.utils.checkpoint` does it with whole blocks, convolutions included.

The network is traced and stays what it is: the traced pass runs its very modules, on its very tensors, and belongs to
nobody's state. The numbers are those of the plain layers, up to rounding.

Measured on two cores: DeepLabV3+ on an Xception-65 keeps 0.58 of the activations in float32 and 0.51 in bf16, and a
step of Chollet's Xception takes 4.1 s of processor time instead of 5.4.
"""

import logging
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from segzoo.backbones.layers import Convolution, DropPath, Flow
from segzoo.cpu.depthwise import (
    dilated_back,
    far_convolution,
    has_bf16_kernels,
    is_depthwise,
    is_far,
    strided_back,
)
from segzoo.models.folding import NetworkTracer, is_relu, layer_of, only_user

_logger = logging.getLogger(__name__)

_aten = torch.ops.aten
_EXACT = (torch.float32, torch.float64)
_TRACED = ("segzoo", "segmentation_models_pytorch")
"""Packages whose modules do the same at each call. What others do beside computing, a trace would do once."""
_CHANGES: tuple[Any, ...] = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)


class TrainingPass:
    """What one of a network's methods computes in training, keeping less for the backward pass on a CPU.

    It is traced at the first call, and anew when a module of the network is exchanged or switched between training and
    evaluation. A network on another device, in evaluation, with hooks on its modules, or compiled, runs as it is; so
    does a part that cannot be traced, such as one with gradient checkpointing.

    Args:
        method: of the network, which takes a batch of images; `forward` is the call itself.
        recompute: False runs the network as it is.
    """

    def __init__(self, method: str, *, recompute: bool) -> None:
        self.method = method
        self.recompute = recompute
        self._modules: list[tuple[nn.Module, bool]] = []
        self._traced: fx.GraphModule | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what was traced, which a copy does anew."""
        return {**vars(self), "_modules": [], "_traced": None}

    def __call__(self, network: nn.Module, image: Tensor) -> Any:
        """Run the network on a batch of images."""
        traced = self.rewritten(network) if self.recompute and image.device.type == "cpu" else None
        if traced is not None:
            return traced.forward(image)  # the call itself would print what fx thinks of an error
        return network(image) if self.method == "forward" else getattr(network, self.method)(image)

    def rewritten(self, network: nn.Module) -> fx.GraphModule | None:
        """The traced pass with its recomputing convolutions; None where the network runs as it is."""
        modules = [(module, module.training) for module in network.modules()]
        plain = not network.training or torch.compiler.is_compiling() or bool(_has_any_global_hook())  # type: ignore[no-untyped-call]
        if plain or any(_is_touched(module) for module, _ in modules):
            return None
        if modules != self._modules:
            self._modules, self._traced = modules, _traced(network, self.method)
        return self._traced


def _is_touched(module: nn.Module) -> bool:
    """Whether calling it is more than its class's `forward`."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in vars(module) or module._compiled_call_impl is not None


def _traced(network: nn.Module, method: str) -> fx.GraphModule | None:
    """The method as a graph around the network's modules; None where the method itself cannot be traced."""
    untraced: set[type[nn.Module]] = set()
    while True:
        tracer = _Tracer(method, untraced)
        try:
            return _recomputing(tracer.trace(network), dict(network.named_modules()))
        except Exception as error:  # code that is run on stand-ins for tensors may raise anything
            kind = type(network if tracer.failed is None else tracer.failed)
            _logger.debug("%s runs as it is: %s", kind.__name__, error)
            if tracer.failed is None or kind in untraced:
                return None
            untraced.add(kind)


class _Tracer(NetworkTracer):
    """Looks into no foreign modules, nor into those of kinds that failed, and remembers the innermost that fails."""

    def __init__(self, method: str, untraced: set[type[nn.Module]]) -> None:
        super().__init__(lambda m: type(m) in untraced or _does_more(m), method)
        self.failed: nn.Module | None = None

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = m
            raise

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        if kind == "get_attr":
            raise TypeError("it uses tensors that its training may exchange")
        return super().create_node(kind, *args, **kwargs)


def _does_more(module: nn.Module) -> bool:
    """Whether a trace would lose something: the rate of a DropPath may change, and checkpointing is no step."""
    if isinstance(module, DropPath) or (isinstance(module, Flow) and module.checkpointed):
        return True
    kind = type(module)
    return kind.__module__.split(".")[0] not in _TRACED and kind not in (nn.Sequential, nn.Identity)


def _recomputing(graph: fx.Graph, modules: dict[str, nn.Module]) -> fx.GraphModule:
    for index, node in enumerate(list(graph.nodes)):
        layer = layer_of(node, modules)
        if isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, Convolution) and _pads_with_zeros(layer):
            _join(graph, modules, node, layer, f"recomputing_{index}")
    graph.lint()
    return fx.GraphModule(modules, graph)


def _join(graph: fx.Graph, modules: dict[str, nn.Module], node: fx.Node, layer: nn.Conv2d, name: str) -> None:
    """Run a convolution with the norm and the ReLU that alone feed it."""
    joined, source = [node], node.all_input_nodes[0]
    relu = _is_lasting_relu(source, modules)
    if relu:
        joined.append(source)
        source = source.all_input_nodes[0]
    norm = layer_of(source, modules) if only_user(source) is joined[-1] else None
    norm = norm if type(norm) is nn.BatchNorm2d else None
    if norm is not None:
        joined.append(source)
        source = source.all_input_nodes[0]
    if norm is None and not relu and not _is_slow(layer):
        return
    modules[name] = RecomputingConvolution(norm, layer, relu=relu)
    with graph.inserting_before(node):
        node.replace_all_uses_with(graph.call_module(name, (source,)))
    for former in joined:
        graph.erase_node(former)


def _is_lasting_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether it is a ReLU that one convolution sees, of what stays as it is until the backward pass."""
    if not is_relu(node, modules) or only_user(node) is None:
        return False
    (source,) = node.all_input_nodes
    if _in_place(node, modules):
        return layer_of(source, modules) is not None and only_user(source) is node
    return not any(_in_place(user, modules) for user in source.users)


def _in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    layer = layer_of(node, modules)
    if layer is not None:
        return getattr(layer, "inplace", False)
    name = getattr(node.target, "__name__", str(node.target))
    return bool(node.kwargs.get("inplace")) or name.endswith("_") or node.target in _CHANGES


def _pads_with_zeros(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and isinstance(layer.padding, tuple) and not getattr(layer, "pads_same", False)


def _is_slow(layer: nn.Conv2d) -> bool:
    """Whether torch's own backward pass is slow, so that it gains from ours with nothing in front of it, too."""
    strided_or_dilated = layer.stride != (1, 1) or layer.dilation != (1, 1)
    return strided_or_dilated and is_depthwise(layer.weight, layer.padding, layer.dilation, layer.groups)


class RecomputingConvolution(nn.Module):
    """The layers as one, where that can be; else one by one. Weights, names and statistics are the layers' own.

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
        """What the convolution returned."""
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
