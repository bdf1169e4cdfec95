"""A packed network computes what the folded one does, at every size, or is not used."""

import operator

import pytest
import torch
from torch import Tensor, fx, nn

from segzoo.config.schema import BackboneConfig, ModelConfig
from segzoo.cpu.bf16 import PrepackedConvolution, prepacked, to_bf16
from segzoo.models.build import build_segmenter
from segzoo.models.folding import folded


@pytest.fixture
def network(scatter) -> nn.Module:
    torch.manual_seed(0)
    backbone = BackboneConfig(name="xception65", width=0.125)
    segmenter = build_segmenter(ModelConfig(backbone=backbone, output_stride=16, decoder="deeplabv3plus"), 5)
    scatter(segmenter)
    return folded(segmenter.eval()).to(memory_format=torch.channels_last)


def image(height: int, width: int, batch: int = 1) -> Tensor:
    pixels = torch.rand((batch, 3, height, width), generator=torch.Generator().manual_seed(3)) * 2 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def kinds(network: nn.Module, kind: type) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def sums(network: nn.Module) -> int:
    assert isinstance(network, fx.GraphModule)
    return sum(node.target is operator.add for node in network.graph.nodes)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_it_agrees_at_every_size(network: nn.Module, dtype: torch.dtype, tolerance: float) -> None:
    network = to_bf16(network) if dtype is torch.bfloat16 else network
    made = prepacked(network, 3)
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert made is network, "oneDNN has no bf16 with these instructions, and nothing to pack for it"
        return
    assert kinds(made, PrepackedConvolution) > 100
    assert sums(network) > sums(made)
    with torch.inference_mode():
        for size in ((97, 129), (64, 48, 3), (1, 5), (97, 129)):
            expected, found = network(image(*size).to(dtype)), made(image(*size).to(dtype))
            assert (found - expected).abs().max() <= tolerance * (expected.max() - expected.min()), size


def test_what_computes_something_else_is_not_used(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PrepackedConvolution.forward
    monkeypatch.setattr(PrepackedConvolution, "forward", lambda self, *inputs: honest(self, *inputs) * 1.1)
    assert prepacked(network, 3) is network


def test_without_the_operators_it_is_as_it_was(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self, *inputs):
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")

    monkeypatch.setattr(PrepackedConvolution, "forward", gone)
    assert prepacked(network, 3) is network
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert prepacked(network, 3) is network
