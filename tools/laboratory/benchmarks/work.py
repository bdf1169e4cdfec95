"""How much there is to compute and to move in a network's forward pass, counted without computing it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry


@dataclass(frozen=True)
class Work:
    """The arithmetic and the least traffic of a network.

    Args:
        macs: multiply-adds of its convolutions and matrix products.
        elements: numbers that these read and write if each reads its input and its weights once and writes its output
            once; what lies between them, norms and activations, might be done on the way.
    """

    macs: int
    elements: int

    def times(self, factor: int) -> "Work":
        """So many forward passes' worth; a training step is three: the backward pass of a convolution is two more."""
        return Work(self.macs * factor, self.elements * factor)


def count_work(network: nn.Module, image: Tensor) -> Work:
    """Count one forward pass in evaluation.

    Args:
        network: on the meta device.
        image: a batch, on the meta device.
    """
    traffic = _Traffic()
    with torch.no_grad(), FlopCounterMode(display=False) as flops, traffic:
        network.eval()(image)
    return Work(flops.get_total_flops() // 2, traffic.elements)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hooks untyped
    """Adds up the sizes of what counted operations take and return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.elements += sum(leaf.numel() for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor))
        return out
