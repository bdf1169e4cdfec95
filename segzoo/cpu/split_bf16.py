"""What keeps the classes of a network in bf16: the pixels and the first weights in two halves, class scores in float32.

bf16 has 8 bits. Pixels and the kernels that first see them lose the most by it: on a small DeepLabV3+ trained on
CamVid, 2 % of pixels change their class in bf16, and 0.4 % when these two are exact. A float32 number is a bf16 number
and a rest that is nearly one, so that a convolution over three times the channels is nearly exact:
x · w = high(x) · high(w) + high(x) · low(w) + low(x) · high(w) + what is lost, 2⁻¹⁶ of it. Three channels or nine make
no difference in time, for the processor takes 32 at once.
"""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segzoo.models.folding import FoldedConvolution
from segzoo.models.segmenter import pad_to_multiple

_PASSED: tuple[Any, ...] = (F.interpolate, pad_to_multiple)


def split_pixels(x: Tensor) -> Tensor:
    """Pixels for a network with `split_first_convolution`: high, high and low half; each is exact in bf16.

    Shape: float32 (N, C, H, W) to float32 (N, 3 · C, H, W).
    """
    high = _high(x)
    return torch.cat([high, high, _high(x - high)], 1)


def split_first_convolution(network: nn.Module) -> bool:
    """Make the first convolution take `split_pixels`, in place.

    Args:
        network: as `folded` returned it.

    Returns:
        Whether there is one convolution that alone looks at the pixels. If not, nothing is changed.
    """
    node = _first_convolution(network)
    if node is None or not isinstance(network, fx.GraphModule):
        return False
    convolution = network.get_submodule(str(node.target))
    if not isinstance(convolution, FoldedConvolution) or convolution.groups != 1:
        return False
    weight = convolution.weight.detach()
    high = _high(weight)
    convolution.weight = nn.Parameter(torch.cat([high, _high(weight - high), high], 1), requires_grad=False)
    return True


def to_bf16(network: nn.Module) -> nn.Module:
    """Turn a network to bf16, in place, but for the convolution that gives class scores, where it is found."""
    name = _last_convolution(network)
    if name is None:
        return network.to(torch.bfloat16)
    exact = copy.deepcopy(network.get_submodule(name))
    network.to(torch.bfloat16).set_submodule(name, exact)
    return network


def _high(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).float()


def _first_convolution(network: nn.Module) -> fx.Node | None:
    """The one step that reads values of the image; its size may be read by others."""
    if not isinstance(network, fx.GraphModule):
        return None
    node = next(node for node in network.graph.nodes if node.op == "placeholder")
    readers = _readers(node)
    while len(readers) == 1 and readers[0].target is pad_to_multiple:
        readers = _readers(readers[0])
    return readers[0] if len(readers) == 1 and readers[0].op == "call_module" else None


def _readers(node: fx.Node) -> list[fx.Node]:
    return [user for user in node.users if not (user.target is getattr and user.args[1] == "shape")]


def _last_convolution(network: nn.Module) -> str | None:
    """The convolution behind which there is only resizing and cropping."""
    if not isinstance(network, fx.GraphModule):
        return None
    node = next(node for node in network.graph.nodes if node.op == "output")
    while True:
        node = node.all_input_nodes[0]
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, FoldedConvolution):
            return None if module.relu else str(node.target)
        if not (isinstance(module, nn.Upsample | nn.Identity) or _crops(node) or node.target in _PASSED):
            return None


def _crops(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"
