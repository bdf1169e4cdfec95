"""Networks as graphs of their steps, in which chains of convolution, BatchNorm and ReLU are found and exchanged."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from segzoo.models.segmenter import pad_to_multiple

_RELUS: tuple[Any, ...] = (torch.relu, F.relu, "relu")


class NetworkTracer(fx.Tracer):
    """Records what a network does with an image, so that what follows what is known of every backbone and decoder.

    Convolutions and norms are one step each, and so is padding to the decoder's size.

    Args:
        is_step: of a module, whether it is one step, too, and is not looked into.
        method: of the network, which takes images.
    """

    def __init__(self, is_step: Callable[[nn.Module], bool], method: str = "forward") -> None:
        super().__init__(autowrap_functions=(pad_to_multiple,))
        self.traced_func_name = method
        self._is_step = is_step

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What torch asks."""
        return isinstance(m, nn.Conv2d | _NormBase) or self._is_step(m)


def layer_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """The module that a step calls; None where it is a function or a method."""
    return modules[str(node.target)] if node.op == "call_module" else None


def is_relu(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a step is a ReLU, in whichever way it is written."""
    layer = layer_of(node, modules)
    return type(layer) is nn.ReLU if layer is not None else node.op.startswith("call") and node.target in _RELUS


def only_user(node: fx.Node) -> fx.Node | None:
    """The step that alone reads a step's result; None where there are others, or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None
