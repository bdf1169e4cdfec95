"""What is done to networks before they are computed: folding, splitting, pooling, and the way into ONNX."""

import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segzoo.config.load import config_from_tree
from segzoo.cpu.bf16 import split_first_convolution, split_pixels, to_bf16
from segzoo.inference.onnx_graph import BinPooling, network_graph, portable
from segzoo.models.agreement import compare
from segzoo.models.build import build_segmenter, list_decoders
from segzoo.models.decoder import DECODERS
from segzoo.models.folding import FoldedConvolution, folded
from segzoo.models.segmenter import Segmenter, pad_to_multiple

UNTRACED = {"linknet", "segformer"}
"""Decoders of SMP that ask for sizes in Python; only the backbone before them is folded."""


def network(decoder: str, backbone: str = "xception", **options: object) -> Segmenter:
    """A small one whose norms have something to fold."""
    stride = max(stride for stride in DECODERS[decoder].output_strides if stride in (16, 32))
    tree = {
        "data": {"name": "synthetic"},
        "model": {"decoder": decoder, "output_stride": stride, "backbone": {"name": backbone, "width": 0.1, **options}},
        "trainer": {"max_steps": 1},
    }
    segmenter = build_segmenter(config_from_tree(tree).model, 5, pretrained=False)
    generator = torch.Generator().manual_seed(0)
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.bias, -0.2), (module.running_var, 0.5)):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + low)
            module.weight.data.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
    return segmenter.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())


@pytest.mark.parametrize("decoder", list_decoders())
def test_every_decoder_is_folded_and_goes_into_onnx(decoder: str) -> None:
    segmenter = network(decoder)
    changed = folded(segmenter)
    assert norms(changed) == (norms(segmenter.decoder) if decoder in UNTRACED else 0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network_graph(portable(segmenter), 3, segmenter.score_axes), options)
    for shape in ((1, 3, 97, 129), (3, 3, 64, 96), (1, 3, 270, 67)):
        image = torch.rand(shape) * 2 - 1
        with torch.inference_mode():
            expected, found = segmenter(image), changed(image)
        assert compare(expected, found).is_close
        (logits,) = session.run(None, {"image": image.numpy()})
        agreement = compare(expected, torch.from_numpy(logits))
        assert agreement.is_close, (shape, agreement)


@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"residual": False}])
@pytest.mark.parametrize("backbone", ["xception", "xception41", "xception41p"])
def test_every_backbone_is_folded(backbone: str, options: dict[str, object]) -> None:
    segmenter = network("unet", backbone, **options)
    changed = folded(segmenter)
    assert changed is not segmenter
    for size in ((64, 64), (67, 90)):
        image = torch.rand(1, 3, *size)
        with torch.inference_mode():
            agreement = compare(segmenter(image), changed(image))
        assert agreement.is_close, (size, agreement)


def test_a_norm_whose_convolution_others_read_is_not_folded() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(16, 5, 1)
            self.norm = nn.BatchNorm2d(5)
            self.norm.running_mean += 1.0
            self.size_multiple, self.size_remainder, self.minimum_size = 1, 0, 1

        def forward(self, features: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
            x = self.convolution(features[0])
            return F.interpolate(x + torch.relu(self.norm(x)), size=size)

    segmenter = network("unet")
    segmenter.decoder = Shared()
    segmenter.decoder.convolution = nn.Conv2d(segmenter.backbone.feature_specs[0].channels, 5, 1)
    changed = folded(segmenter.eval())
    assert norms(changed) == 1
    assert isinstance(changed.get_submodule("decoder.convolution"), FoldedConvolution), "not traced at all"
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(changed(image), segmenter(image), atol=1e-4, rtol=1e-3)


def test_split_pixels_make_the_first_convolution_of_bf16_nearly_exact() -> None:
    segmenter = network("deeplabv3plus")
    image = torch.rand(1, 3, 48, 64) * 2 - 1
    assert torch.equal(split_pixels(image), split_pixels(image).bfloat16().float())
    changed = folded(segmenter)
    with torch.inference_mode():
        exact = changed.get_submodule("backbone.stem.conv1")(image)
    plainly = to_bf16(folded(segmenter)).get_submodule("backbone.stem.conv1")(image.bfloat16()).float()
    assert split_first_convolution(changed)
    split = to_bf16(changed).get_submodule("backbone.stem.conv1")(split_pixels(image).bfloat16()).float()
    rounding = (exact.bfloat16().float() - exact).abs().mean()
    assert (split - exact).abs().mean() < 1.1 * rounding < 0.8 * (plainly - exact).abs().mean()
    last = changed.get_submodule("decoder.logits")
    assert isinstance(last, FoldedConvolution)
    assert last.weight.dtype == torch.float32


@pytest.mark.parametrize("bins", [(2, 2), (3, 6), (6, 6)])
@pytest.mark.parametrize("size", [(6, 6), (7, 11), (2, 33)])
def test_bin_pooling_is_adaptive_pooling(bins: tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(BinPooling(bins)(x), F.adaptive_avg_pool2d(x, bins))


@pytest.mark.parametrize("minimum", [1, 40, 64])
def test_padding_is_the_next_size_that_fits(minimum: int) -> None:
    for height, width in ((1, 33), (39, 64), (40, 41), (65, 100)):
        padded = pad_to_multiple(torch.ones(1, 1, height, width), 8, 1, minimum)
        expected = [next(n for n in range(max(size, minimum), 200) if n % 8 == 1) for size in (height, width)]
        assert list(padded.shape[-2:]) == expected


def test_agreement_counts_ties_apart() -> None:
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.9999999, 10.0]]).view(1, 2, 1, 3)
    tie, wrong = expected.clone(), expected.clone()
    tie[0, 1, 0, 1] += 0.001
    wrong[0, :, 0, 2] = torch.tensor([10.0, 0.0])
    agreement = compare(expected, tie)
    assert agreement.is_close
    assert agreement.difference == pytest.approx(1e-4, rel=1e-2)
    assert agreement.classes == pytest.approx(2 / 3)
    assert not compare(expected, wrong).is_close
    assert not compare(expected, wrong.argmax(1)).is_close
    assert compare(expected, tie.argmax(1).to(torch.uint8)).is_close
    assert not compare(expected, expected + torch.nan).is_close
