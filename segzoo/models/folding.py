"""A trained network made cheaper without changing what it computes: norms inside convolutions, ReLUs in place.

`NetworkTracer` and the questions behind it find chains of convolution, BatchNorm and ReLU for other rewrites, too.
"""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.fusion import fuse_conv_bn_weights

from segzoo.backbones.layers import Convolution, FrozenBatchNorm, pad_same
from segzoo.backbones.spec import Network
from segzoo.models.agreement import compare, normalized_probe
from segzoo.models.deeplabv3plus import PooledBatchNorm
from segzoo.models.segmenter import pad_to_multiple

logger = logging.getLogger(__name__)
_RELUS: tuple[Any, ...] = (torch.relu, F.relu, "relu")
_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm, PooledBatchNorm)
_PROBE_SIZES = ((33, 47), (64, 64))
"""The first size needs padding, the second mostly does not."""


class FoldedConvolution(nn.Module):
    """A convolution with the BatchNorm behind it multiplied into its weights, and the ReLU behind that in place.

    The convolution that it is made of is not changed.
    """

    def __init__(self, convolution: nn.Conv2d, norm: _NormBase | None, *, relu: bool) -> None:
        super().__init__()
        weight, bias = _folded_weights(convolution, norm)
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.stride, self.padding, self.dilation = convolution.stride, convolution.padding, convolution.dilation
        self.groups = convolution.groups
        self.pads_same = isinstance(convolution, Convolution) and convolution.pads_same
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """What convolution, norm and ReLU returned, in the weights' type."""
        x = x.to(self.weight.dtype)
        if self.pads_same:
            x = pad_same(x, self.weight.shape[2], self.stride[0], 0.0)
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return out.relu_() if self.relu else out  # nobody else has seen it yet


def folded(network: Network) -> nn.Module:
    """The network in evaluation with BatchNorms folded into the convolutions before them, and ReLUs in place.

    A part that cannot be traced, such as a decoder that looks at sizes, stays as it is. The result is compared with the
    network before it is returned.

    Args:
        network: a network in evaluation mode on the CPU, which stays as it is.

    Returns:
        A module that takes and returns what `network` does, with tensors of its own; a mere copy where it cannot be
        traced.

    Source: the arithmetic of torch.nn.utils.fusion.
    """
    parts = [name for name, child in network.named_children() if any(child is part for part in network.large_parts())]
    for untraced in ((), *((name,) for name in reversed(parts))):
        # Foreign code that is run on stand-ins for tensors may raise anything, keep them, or pass and compute nothing.
        try:
            graph = _folded_graph(copy.deepcopy(network), untraced)
            if _agrees(graph, network):
                return graph.requires_grad_(False)
        except Exception as error:
            logger.debug("not traced: %s", error)
    logger.info("the network cannot be traced: it is computed as it was trained, without folding")
    return copy.deepcopy(network).requires_grad_(False)


def _folded_graph(network: Network, untraced: Sequence[str]) -> fx.GraphModule:
    kept = [network.get_submodule(name) for name in untraced]
    usual = fx.Tracer()
    tracer = NetworkTracer(lambda m: any(m is part for part in kept) or usual.is_leaf_module(m, ""))
    graph = fx.GraphModule(network, tracer.trace(network))
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        convolution = layer_of(node, modules)
        if isinstance(convolution, nn.Conv2d) and convolution.padding_mode == "zeros":
            graph.add_submodule(str(node.target), _with_followers(node, convolution, modules))
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _with_followers(node: fx.Node, convolution: nn.Conv2d, modules: Mapping[str, nn.Module]) -> FoldedConvolution:
    """A convolution with the norm and the ReLU that alone follow it, which are taken out of the graph."""
    follower, norm = only_user(node), None
    if follower is not None and (layer := _batch_norm(follower, modules)) is not None:
        norm = layer
        follower = _taken_out(follower, node)
    relu = follower is not None and is_relu(follower, modules)
    if follower is not None and relu:
        _taken_out(follower, node)
    return FoldedConvolution(convolution, norm, relu=relu)


def _batch_norm(node: fx.Node, modules: Mapping[str, nn.Module]) -> _NormBase | None:
    """The norm of a step that does what BatchNorm does and no more: timm's subclass activates, too."""
    layer = layer_of(node, modules)
    if isinstance(layer, _NormBase) and type(layer) in _BATCH_NORMS and layer.running_mean is not None:
        return layer
    return None


def _taken_out(step: fx.Node, before: fx.Node) -> fx.Node | None:
    """Leave a step out; returns what alone follows in its place."""
    step.replace_all_uses_with(before)
    step.graph.erase_node(step)
    return only_user(before)


def _folded_weights(convolution: nn.Conv2d, norm: _NormBase | None) -> tuple[Tensor, Tensor | None]:
    if norm is None or norm.running_mean is None or norm.running_var is None:
        return convolution.weight, convolution.bias
    return fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


@torch.inference_mode()
def _agrees(graph: nn.Module, network: Network) -> bool:
    probes = [normalized_probe(network.backbone.in_channels, *size) for size in _PROBE_SIZES]
    return all(compare(network(probe), graph(probe)).is_close for probe in probes)


class NetworkTracer(fx.Tracer):
    """Records the steps of any network, so that a rewrite sees which step follows which.

    Convolutions and norms are one step each, and so is padding to the decoder's size.

    Args:
        is_step: whether a module is one step as well and is not looked into.
        method: the network's method that takes images.
    """

    def __init__(self, is_step: Callable[[nn.Module], bool], method: str = "forward") -> None:
        super().__init__(autowrap_functions=(pad_to_multiple,))
        self.traced_func_name = method
        self._is_step = is_step

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether torch records this module as one step."""
        return isinstance(m, nn.Conv2d | _NormBase) or self._is_step(m)


def layer_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """The module that a step calls; None where it is a function or a method."""
    return modules[str(node.target)] if node.op == "call_module" else None


def is_relu(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a step is a ReLU, in whichever way it is written."""
    layer = layer_of(node, modules)
    return type(layer) is nn.ReLU if layer is not None else node.op.startswith("call") and node.target in _RELUS


def only_user(node: fx.Node) -> fx.Node | None:
    """The step that reads a step's result, if exactly one does."""
    return next(iter(node.users)) if len(node.users) == 1 else None
