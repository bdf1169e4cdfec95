"""Folded networks in bf16: what keeps their classes, and what makes them fast on CPUs.

bf16 has 8 bits. Pixels and the kernels that first see them lose the most by it: on a small DeepLabV3+ trained on
CamVid, 2 % of pixels change their class in bf16, and 0.4 % when these two and the class scores are exact. A float32
number is a bf16 number and a rest that is nearly one, so that a convolution over three times the channels is nearly
exact: x · w = high(x) · high(w) + high(x) · low(w) + low(x) · high(w) + what is lost, 2⁻¹⁶ of it. Three channels or
nine make no difference in time, for the processor takes 32 at once.

torch hands convolutions to oneDNN, and brings their weights into its order at each call. `prepacked` does that once,
and puts sums into convolutions: DeepLabV3+ on an Xception-65 takes 371 ms for 512×512 pixels instead of 497 in bf16,
measured on two cores, and more in float32, for which it is not used. The operators are those that torch.compile puts
into its code.
"""

import copy
import logging
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from segzoo.backbones.layers import pad_same
from segzoo.cpu.depthwise import from_phases, is_far, phases
from segzoo.models.agreement import compare, normalized_probe
from segzoo.models.folding import FoldedConvolution, layer_of, only_user
from segzoo.models.segmenter import pad_to_multiple

_logger = logging.getLogger(__name__)

_PROBE_SIZE = (40, 56)
_RESIZES: tuple[Any, ...] = (F.interpolate, pad_to_multiple)


def split_pixels(x: Tensor) -> Tensor:
    """Pixels for a network with `split_first_convolution`: high part, high part and rest; each is exact in bf16.

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
    convolution = _first_layer(network) if isinstance(network, fx.GraphModule) else None
    if not isinstance(convolution, FoldedConvolution) or convolution.groups != 1:
        return False
    weight = convolution.weight.detach()
    high = _high(weight)
    convolution.weight = nn.Parameter(torch.cat([high, _high(weight - high), high], 1), requires_grad=False)
    return True


def to_bf16(network: nn.Module) -> nn.Module:
    """Turn a network to bf16, in place, but for the convolution that gives class scores, where it is found."""
    name = _last_convolution(network) if isinstance(network, fx.GraphModule) else None
    if name is None:
        return network.to(torch.bfloat16)
    exact = copy.deepcopy(network.get_submodule(name))
    network.to(torch.bfloat16).set_submodule(name, exact)
    return network


def _high(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).float()


def _first_layer(network: fx.GraphModule) -> nn.Module | None:
    """The one layer that reads values of the image; its size may be read by others."""
    node = next(node for node in network.graph.nodes if node.op == "placeholder")
    while True:
        readers = [user for user in node.users if not (user.target is getattr and user.args[1] == "shape")]
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.target is not pad_to_multiple:
            return layer_of(node, dict(network.named_modules()))


def _last_convolution(network: fx.GraphModule) -> str | None:
    """The convolution behind which there is only resizing and cropping."""
    modules = dict(network.named_modules())
    node = next(node for node in network.graph.nodes if node.op == "output")
    while True:
        node = node.all_input_nodes[0]
        layer = layer_of(node, modules)
        if isinstance(layer, FoldedConvolution):
            return None if layer.relu else str(node.target)
        if not (isinstance(layer, nn.Upsample | nn.Identity) or _crops(node) or node.target in _RESIZES):
            return None


def _crops(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


class PrepackedConvolution(nn.Module):
    """A folded convolution that may add another tensor to its result.

    1×1 convolutions in bf16 are matrix products, and far depthwise rates go by phases: measured.

    Args:
        folded: what it is made of; its weights are kept, not copied.
    """

    def __init__(self, folded: FoldedConvolution) -> None:
        super().__init__()
        self.folded = folded
        weight, plain = folded.weight, folded.stride == (1, 1) and not folded.pads_same
        self.padding = (0, 0) if isinstance(folded.padding, str) else folded.padding
        self.mixes = weight.shape[2:] == (1, 1) and plain and folded.groups == 1 and weight.dtype == torch.bfloat16
        is_by_phases = plain and is_far(weight, self.padding, folded.dilation, folded.groups)
        self.rate = folded.dilation[0] if is_by_phases else 1
        self.packed: Tensor | None = None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """What the folded convolution returned, plus `other`."""
        own = self.folded
        x = x.to(own.weight.dtype)
        if self.mixes:
            return self._mix(x, other)
        if self.rate > 1:
            out = from_phases(self._convolve(phases(x, self.rate), (1, 1), (1, 1), None), self.rate, x)
            return out if other is None else out + other
        if own.pads_same:
            x = pad_same(x, own.weight.shape[2], own.stride[0], 0.0)
        return self._convolve(x, self.padding, own.dilation, other)

    def _mix(self, x: Tensor, other: Tensor | None) -> Tensor:
        own, rows = self.folded, x.permute(0, 2, 3, 1)
        if self.packed is None:
            pixels = rows.numel() // rows.shape[3]
            self.packed = torch.ops.mkldnn._reorder_linear_weight(own.weight.flatten(1), pixels)
        if other is None:
            out = torch.ops.mkldnn._linear_pointwise(rows, self.packed, own.bias, self._attribute, [], "")
        else:
            summed = other.permute(0, 2, 3, 1)
            out = torch.ops.mkldnn._linear_pointwise.binary(rows, summed, self.packed, own.bias, "add")
        joined: Tensor = out.permute(0, 3, 1, 2)
        return joined

    def _convolve(self, x: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], other: Tensor | None) -> Tensor:
        own = self.folded
        geometry = padding, own.stride, dilation, own.groups
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(own.weight, *geometry, list(x.shape))
        pointwise, out = torch.ops.mkldnn._convolution_pointwise, x
        if other is None:
            out = pointwise(x, self.packed, own.bias, *geometry, self._attribute, [], "")
        else:
            out = pointwise.binary(x, other, self.packed, own.bias, *geometry, "add", None, None, [], None)
        return out

    @property
    def _attribute(self) -> str:
        return "relu" if self.folded.relu else "none"


@torch.inference_mode()
def prepacked(network: nn.Module, channels: int) -> nn.Module:
    """The network with its convolutions packed, where oneDNN can; else the network as it is.

    Args:
        network: as `folded` returned it, of its final type, on the CPU, in channels-last order. It may be changed.
        channels: of the image that it takes.
    """
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not isinstance(network, fx.GraphModule):
        return network
    probe = normalized_probe(channels, *_PROBE_SIZE).to(next(network.parameters()).dtype)
    probe = probe.contiguous(memory_format=torch.channels_last)
    expected = network(probe)
    # The operators are torch's private affair: where they are gone, or compute something else, we do without.
    try:
        made = _packed_graph(network)
        if compare(expected, made(probe), "bf16").is_close:
            return made.requires_grad_(False)
        _logger.debug("packed convolutions compute something else")
    except (AttributeError, RuntimeError, TypeError) as error:
        _logger.debug("not packed: %s", error)
    return network


def _packed_graph(network: fx.GraphModule) -> fx.GraphModule:
    """A second graph around the same weights, sums that alone follow a convolution in it."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    made = fx.GraphModule(network, graph)
    for name, module in list(made.named_modules()):
        if isinstance(module, FoldedConvolution):
            made.set_submodule(name, PrepackedConvolution(module))
    modules = dict(made.named_modules())
    for node in list(graph.nodes):
        if node.target is operator.add and all(isinstance(term, fx.Node) for term in node.args):
            _join_sum(graph, modules, node, *node.args)
    graph.lint()
    made.recompile()
    return made


def _join_sum(graph: fx.Graph, modules: dict[str, nn.Module], node: fx.Node, own: fx.Node, other: fx.Node) -> None:
    """Let a convolution add what is added to it, if nobody else sees its own result."""
    layer = layer_of(own, modules)
    if isinstance(layer, PrepackedConvolution) and not layer.folded.relu and only_user(own) is node:
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_module(str(own.target), (own.args[0], other)))
        graph.erase_node(node)
        graph.erase_node(own)
