"""A folded bf16 network on the CPU as oneDNN likes it: weights in its order, ReLUs and residual sums in convolutions.

torch hands convolutions to oneDNN, and brings their weights into its order at each call. Here that is done once, by
the probe that checks it. An Xception-65 is 1.3 times as fast for it in bf16, and slower in float32, for which it is not
used. The operators are those that torch.compile puts into its code.
"""

import logging
import operator

import torch
from torch import Tensor, fx, nn

from segzoo.backbones.layers import pad_same
from segzoo.cpu.depthwise import from_phases, is_far, phases
from segzoo.models.folding import FoldedConvolution

_logger = logging.getLogger(__name__)

_PROBE_SIZE = (40, 56)
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Of the range of logits, between the packed network and the one it was made of."""


class PrepackedConvolution(nn.Module):
    """A folded convolution that may add another tensor to its result.

    bf16 takes 1×1 convolutions as matrix products, and both types far depthwise rates by phases: measured.

    Args:
        folded: what it is made of; its weights are kept, not copied.
    """

    def __init__(self, folded: FoldedConvolution) -> None:
        super().__init__()
        self.folded = folded
        weight, plain = folded.weight, folded.stride == (1, 1) and not folded.pads_same
        padding = (0, 0) if isinstance(folded.padding, str) else folded.padding
        self.mixes = weight.shape[2:] == (1, 1) and plain and folded.groups == 1 and weight.dtype == torch.bfloat16
        self.rate = 1
        if plain and is_far(weight, padding, folded.dilation, folded.groups):
            self.rate = folded.dilation[0]
        self.packed: Tensor | None = None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Convolve, normalise, add, cut off.

        Shape:
            x: (N, in_channels, H, W). other: as the result.
        """
        own = self.folded
        x = x.to(own.weight.dtype)
        if self.mixes:
            return self._mix(x, other)
        if self.rate > 1:
            out = from_phases(self._convolve(phases(x, self.rate), (1, 1), (1, 1), None), self.rate, x)
            return out if other is None else out + other
        if own.pads_same:
            x = pad_same(x, own.weight.shape[2], own.stride[0], 0.0)
        padding = (0, 0) if isinstance(own.padding, str) else own.padding
        return self._convolve(x, padding, own.dilation, other)

    def _mix(self, x: Tensor, other: Tensor | None) -> Tensor:
        own, rows = self.folded, x.permute(0, 2, 3, 1)
        if self.packed is None:
            pixels = rows.numel() // rows.shape[3]
            self.packed = torch.ops.mkldnn._reorder_linear_weight(own.weight.flatten(1), pixels)
        if other is None:
            attribute = "relu" if own.relu else "none"
            out = torch.ops.mkldnn._linear_pointwise(rows, self.packed, own.bias, attribute, [], "")
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
        out: Tensor
        if other is None:
            attribute = "relu" if own.relu else "none"
            out = torch.ops.mkldnn._convolution_pointwise(x, self.packed, own.bias, *geometry, attribute, [], "")
        else:
            out = torch.ops.mkldnn._convolution_pointwise.binary(
                x, other, self.packed, own.bias, *geometry, "add", None, None, [], None
            )
        return out


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
    dtype = next(network.parameters()).dtype
    height, width = _PROBE_SIZE
    probe = torch.linspace(-1, 1, channels * height * width).view(1, channels, height, width).to(dtype)
    probe = probe.contiguous(memory_format=torch.channels_last)
    expected = network(probe)
    # The operators are torch's private affair: where they are gone, or compute something else, we do without.
    try:
        made = _packed_graph(network)
        span = float(expected.max() - expected.min())
        if float((made(probe) - expected).abs().max()) <= _TOLERANCE[dtype] * span:
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
    for node in list(graph.nodes):
        if node.target is operator.add:
            _join_sum(made, node)
    graph.lint()
    made.recompile()
    return made


def _join_sum(network: fx.GraphModule, node: fx.Node) -> None:
    """Let a convolution add what is added to it, if nobody else sees its own result."""
    own, other = node.args
    if not isinstance(own, fx.Node) or not isinstance(other, fx.Node) or own.op != "call_module" or len(own.users) > 1:
        return
    module = network.get_submodule(str(own.target))
    if isinstance(module, PrepackedConvolution) and not module.folded.relu:
        with network.graph.inserting_before(node):
            node.replace_all_uses_with(network.graph.call_module(str(own.target), (own.args[0], other)))
        network.graph.erase_node(node)
        network.graph.erase_node(own)
