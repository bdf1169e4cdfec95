"""A network's training pass with `RecomputingConvolution` where BatchNorm, ReLU and convolution follow each other.

The network is traced, so that what follows what is known of every backbone and decoder, and stays what it is: the
traced pass runs its very modules, on its very tensors, and belongs to nobody's state.
"""

import logging
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import _has_any_global_hook

from segzoo.backbones.layers import Convolution, DropPath, Flow
from segzoo.cpu.depthwise import is_depthwise
from segzoo.cpu.recompute import RecomputingConvolution
from segzoo.models.segmenter import pad_to_multiple

_logger = logging.getLogger(__name__)

_TRACED = ("segzoo", "segmentation_models_pytorch")
"""Packages whose modules do the same at each call. What others do beside computing, a trace would do once."""
_CHANGES: tuple[Any, ...] = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)
_RELUS: tuple[Any, ...] = (torch.relu, F.relu, "relu")


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


class _Tracer(fx.Tracer):
    """Stops at convolutions, norms, foreign modules, and where tensors are used that are no module's result."""

    def __init__(self, method: str, untraced: set[type[nn.Module]]) -> None:
        super().__init__(autowrap_functions=(pad_to_multiple,))
        self.traced_func_name = method
        self.untraced = untraced
        self.failed: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kind = type(m)
        # The rate of a DropPath may change; inside of a Flow, checkpointing would be traced away.
        if isinstance(m, nn.Conv2d | _NormBase | DropPath) or (isinstance(m, Flow) and m.checkpointed):
            return True
        return kind in self.untraced or (
            kind.__module__.split(".")[0] not in _TRACED and kind not in (nn.Sequential, nn.Identity)
        )

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


def _recomputing(graph: fx.Graph, modules: dict[str, nn.Module]) -> fx.GraphModule:
    for index, node in enumerate(list(graph.nodes)):
        layer = _module(node, modules)
        if type(layer) in (nn.Conv2d, Convolution) and _pads_with_zeros(layer):
            _join(graph, modules, node, layer, f"recomputing_{index}")
    graph.lint()
    return fx.GraphModule(modules, graph)


def _join(graph: fx.Graph, modules: dict[str, nn.Module], node: fx.Node, layer: nn.Conv2d, name: str) -> None:
    """Run a convolution with the norm and the ReLU that alone feed it."""
    joined, source = [node], node.all_input_nodes[0]
    norm = None
    relu = _is_relu(source, modules)
    if relu:
        joined.append(source)
        source = source.all_input_nodes[0]
    if type(_module(source, modules)) is nn.BatchNorm2d and len(source.users) == 1:
        norm = _module(source, modules)
        joined.append(source)
        source = source.all_input_nodes[0]
    if norm is None and not relu and not _is_slow(layer):
        return
    modules[name] = RecomputingConvolution(norm, layer, relu=relu)
    with graph.inserting_before(node):
        node.replace_all_uses_with(graph.call_module(name, (source,)))
    for former in joined:
        graph.erase_node(former)


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    return modules[str(node.target)] if node.op == "call_module" else None


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether it is a ReLU that one convolution sees, of what stays as it is until the backward pass."""
    layer = _module(node, modules)
    is_relu = type(layer) is nn.ReLU if layer is not None else node.op.startswith("call") and node.target in _RELUS
    if not is_relu or len(node.users) > 1:
        return False
    (source,) = node.all_input_nodes
    if _in_place(node, layer):
        return _module(source, modules) is not None and len(source.users) == 1
    return not any(_in_place(user, _module(user, modules)) for user in source.users)


def _in_place(node: fx.Node, layer: nn.Module | None) -> bool:
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
