"""A trained network made cheaper without changing what it computes: norms inside convolutions, ReLUs in place."""

import copy
import logging
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.fusion import fuse_conv_bn_weights

from segzoo.backbones.layers import Convolution, FrozenBatchNorm, pad_same
from segzoo.backbones.network import Network
from segzoo.models.deeplabv3plus import PooledBatchNorm
from segzoo.models.segmenter import pad_to_multiple

_logger = logging.getLogger(__name__)

_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm, PooledBatchNorm)
_RELUS: tuple[Any, ...] = (torch.relu, F.relu, "relu")
_PROBE_SIZES = ((33, 47), (64, 64))
_TOLERANCE = 1e-3
"""Of the range of logits, between the folded network and the one it was made of."""


class FoldedConvolution(nn.Module):
    """A convolution with the BatchNorm behind it multiplied into its weights, and the ReLU behind that in place.

    Args:
        convolution: what it is made of; its weights are not changed.
        norm: the BatchNorm behind it; None for none.
        relu: whether a ReLU ends it.
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
        """Convolve, normalise, cut off.

        Shape:
            x: (N, in_channels, H, W). Returns what convolution, norm and ReLU returned, in the weights' type.
        """
        x = x.to(self.weight.dtype)
        if self.pads_same:
            x = pad_same(x, self.weight.shape[2], self.stride[0], 0.0)
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return out.relu_() if self.relu else out  # nobody else has seen it yet


def folded(network: Network) -> nn.Module:
    """The network in evaluation with BatchNorms folded into the convolutions before them, and ReLUs in place.

    It is traced, so that what follows what is known of every backbone and decoder. A part that cannot be traced, such
    as a decoder that looks at sizes, stays as it is. The result is compared with the network before it is returned.

    Args:
        network: in evaluation mode, on the CPU. It stays as it is.

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
            _logger.debug("not traced: %s", error)
    _logger.info("the network cannot be traced: it is computed as it was trained, without folding")
    return copy.deepcopy(network).requires_grad_(False)


def _folded_graph(network: Network, untraced: Collection[str]) -> fx.GraphModule:
    leaves = [network.get_submodule(name) for name in untraced]
    graph = fx.GraphModule(network, _Tracer(leaves).trace(network))
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and _foldable(modules[node.target]):
            _fold(graph, modules, node)
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


class _Tracer(fx.Tracer):
    """Stops at convolutions and norms of ours too, and at `leaves`; padding to the decoder's size is one step."""

    def __init__(self, leaves: Collection[nn.Module]) -> None:
        super().__init__(autowrap_functions=(pad_to_multiple,))
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = isinstance(m, nn.Conv2d | _NormBase) or any(m is leaf for leaf in self.leaves)
        return own or super().is_leaf_module(m, module_qualified_name)


def _foldable(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros"


def _fold(graph: fx.GraphModule, modules: dict[str, nn.Module], node: fx.Node) -> None:
    """Put the norm and the ReLU that alone follow a convolution into it."""
    last, norm = node, None
    follower = _only_user(last)
    if follower is not None and follower.op == "call_module" and _is_batch_norm(modules[str(follower.target)]):
        last, norm = follower, modules[str(follower.target)]
        follower = _only_user(last)
    relu = follower is not None and _is_relu(follower, modules)
    if relu and follower is not None:
        last = follower
    convolution = modules[str(node.target)]
    if not isinstance(convolution, nn.Conv2d) or not (norm is None or isinstance(norm, _NormBase)):
        return
    graph.add_submodule(str(node.target), FoldedConvolution(convolution, norm, relu=relu))
    last.replace_all_uses_with(node)
    while last is not node:
        before = last.all_input_nodes[0]
        graph.graph.erase_node(last)
        last = before


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_batch_norm(module: nn.Module) -> bool:
    """Whether it does what BatchNorm does and no more: timm's subclass activates, too."""
    return type(module) in _BATCH_NORMS and module.running_mean is not None


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.op in ("call_function", "call_method") and node.target in _RELUS


def _folded_weights(convolution: nn.Conv2d, norm: _NormBase | None) -> tuple[Tensor, Tensor | None]:
    if norm is None or norm.running_mean is None or norm.running_var is None:
        return convolution.weight, convolution.bias
    return fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


@torch.inference_mode()
def _agrees(graph: nn.Module, network: Network) -> bool:
    """Whether both compute the same at sizes that need padding and sizes that need none."""
    for height, width in _PROBE_SIZES:
        generator = torch.Generator().manual_seed(0)
        image = torch.rand((1, network.backbone.in_channels, height, width), generator=generator) * 2 - 1
        expected, found = network(image), graph(image)
        span = float(expected.max() - expected.min())
        if not float((expected - found).abs().max()) <= _TOLERANCE * span:
            return False
    return True
