"""The papers' heads against the papers' figures, torchvision's pyramid, and a plain second implementation."""

import copy
import math
from functools import partial

import pytest
import torch
from scipy.stats import truncnorm
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.segmentation.deeplabv3 import ASPP

from segzoo.backbones import FeatureSpec
from segzoo.backbones.layers import FrozenBatchNorm
from segzoo.config.load import config_from_tree
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter
from segzoo.models.deeplabv3plus import (
    AtrousPyramid,
    DeepLabV3,
    DeepLabV3Plus,
    DensePredictionCell,
    PooledBatchNorm,
)

STRIDES = (8, 16, 32)
RUN = {"data": {"name": "synthetic"}, "trainer": {"max_steps": 1}}
NARROW = {"aspp_channels": 24, "decoder_channels": 20, "low_level_channels": 12}


def settings(decoder="deeplabv3plus", output_stride=16, backbone="xception", width=0.25, norm="batch", **deeplab):
    return ModelConfig.model_validate(
        {
            "decoder": decoder,
            "output_stride": output_stride,
            "norm": norm,
            "backbone": {"name": backbone, "width": width},
            "deeplab": deeplab,
        }
    )


def specs(output_stride=16, channels=(8, 10, 12, 14, 16)):
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    return [
        FeatureSpec(count, stride, activated=index == 4)
        for index, (count, stride) in enumerate(zip(channels, strides, strict=True))
    ]


def taps(features, height, width, batch=2, dtype=torch.double):
    maps = [
        torch.randn(batch, spec.channels, -(-height // spec.stride), -(-width // spec.stride), dtype=dtype)
        for spec in features
    ]
    maps[-1] = maps[-1].relu()
    return maps


# The published costs.

PUBLISHED = {  # arXiv:1802.02611v3, Table 5: (decoder, separable, output stride) -> multiply-adds at 513×513
    ("deeplabv3", False, 16): 68.00e9,
    ("deeplabv3", False, 8): 240.85e9,
    ("deeplabv3plus", False, 16): 89.76e9,
    ("deeplabv3plus", False, 8): 262.59e9,
    ("deeplabv3plus", True, 16): 54.17e9,
    ("deeplabv3plus", True, 8): 177.10e9,
}


def measured_macs(decoder, separable, output_stride):
    config = settings(decoder, output_stride, "xception65", 1.0, separable=separable)
    with torch.device("meta"):
        network = build_segmenter(config, 21)
        image = torch.empty(1, 3, 513, 513)
    with FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops() // 2


def space_to_batch_excess(separable, output_stride):
    """What TensorFlow computes more: its atrous convolution cuts a map into rate² maps, and so pads its sides to a
    multiple of the rate: 33 to 36 at output stride 16, 65 to 72 at 8."""
    side = 512 // output_stride + 1
    rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
    pixels = sum((rate * math.ceil(side / rate)) ** 2 - side**2 for rate in rates)
    return pixels * 9 * 2048 * (1 if separable else 256)


@pytest.mark.parametrize(("decoder", "separable", "output_stride"), PUBLISHED)
def test_multiply_adds_are_the_published(decoder, separable, output_stride):
    published = PUBLISHED[decoder, separable, output_stride]
    macs = measured_macs(decoder, separable, output_stride)
    assert macs + space_to_batch_excess(separable, output_stride) == pytest.approx(published, rel=0.0025)
    if separable:  # where the excess falls on depthwise kernels, it does not matter
        assert macs == pytest.approx(published, rel=0.01)


# The published computation, written a second time.


def linear_weights(points, size):
    """Matrix of linear interpolation whose first and last row are the first and last point."""
    weights = torch.zeros(size, points, dtype=torch.double)
    for row in range(size):
        place = row * (points - 1) / (size - 1)
        left = min(int(place), points - 2)
        weights[row, left : left + 2] = torch.tensor([1 - (place - left), place - left])
    return weights


def plain_resize(x, size):
    rows, columns = (linear_weights(points, wanted) for points, wanted in zip(x.shape[2:], size, strict=True))
    return rows @ x @ columns.T


def plain_norm(x, state, name, training):
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
    return x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]


def plain_layer(x, state, name, training, rate=1):
    """Convolution(s), each with norm and ReLU."""
    if f"{name}.depthwise.weight" in state:
        kernel = state[f"{name}.depthwise.weight"]
        x = F.conv2d(x, kernel, padding=rate, dilation=rate, groups=len(kernel))
        x = plain_norm(x, state, f"{name}.depthwise_norm", training).clamp(min=0)
        x = F.conv2d(x, state[f"{name}.pointwise.weight"])
        return plain_norm(x, state, f"{name}.pointwise_norm", training).clamp(min=0)
    kernel = state[f"{name}.convolution.weight"]
    margin = rate if kernel.shape[-1] == 3 else 0
    x = F.conv2d(x, kernel, padding=margin, dilation=rate)
    return plain_norm(x, state, f"{name}.norm", training).clamp(min=0)


def plain_head(maps, state, size, rates, training, with_decoder):
    deepest = maps[-1]
    pooled = plain_layer(deepest.mean((2, 3), keepdim=True), state, "aspp.image_pooling", training)
    branches = [pooled + torch.zeros(1, 1, *deepest.shape[2:]), plain_layer(deepest, state, "aspp.pointwise", training)]
    for index, rate in enumerate(rates):
        branches.append(plain_layer(deepest, state, f"aspp.atrous.{index}", training, rate))
    x = plain_layer(torch.cat(branches, 1), state, "aspp.projection", training)
    if with_decoder:
        low_level = plain_layer(maps[1], state, "low_level", training)
        x = torch.cat([plain_resize(x, low_level.shape[2:]), low_level], 1)
        x = plain_layer(x, state, "convolutions.0", training)
        x = plain_layer(x, state, "convolutions.1", training)
    return plain_resize(F.conv2d(x, state["logits.weight"], state["logits.bias"]), size)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("head", [DeepLabV3Plus, DeepLabV3])
@pytest.mark.parametrize(("output_stride", "rates"), [(16, (6, 12, 18)), (8, (12, 24, 36)), (32, (3, 6, 9))])
def test_head_is_the_published_computation(head, output_stride, rates, separable, training, scatter):
    features = specs(output_stride)
    config = settings(output_stride=output_stride, separable=separable, dropout=0.0, **NARROW)
    decoder = head(features, 5, config).double().train(training)
    scatter(decoder)
    state = copy.deepcopy(decoder.state_dict())
    maps = taps(features, 129, 193)
    expected = plain_head(maps, state, (129, 193), rates, training, head is DeepLabV3Plus)
    assert torch.allclose(decoder(maps, (129, 193)), expected, rtol=1e-9, atol=1e-9)


def test_pyramid_is_torchvisions(scatter):
    """torchvision's ASPP is dense, and has the pooled branch last."""
    pyramid = AtrousPyramid(FeatureSpec(16, 16), settings(separable=False, dropout=0.0, **NARROW)).double()
    scatter(pyramid)
    theirs = ASPP(16, [6, 12, 18], NARROW["aspp_channels"]).double()
    theirs.project[3].p = 0.0
    branches = [pyramid.pointwise, *pyramid.atrous, pyramid.image_pooling]
    for branch, their_branch in zip(branches, theirs.convs, strict=True):
        pooled_first = 1 if branch is pyramid.image_pooling else 0
        their_branch[pooled_first].load_state_dict(branch.convolution.state_dict())
        their_branch[pooled_first + 1].load_state_dict(branch.norm.state_dict())
    weight = pyramid.projection.convolution.weight.data
    theirs.project[0].weight.data = weight.roll(-NARROW["aspp_channels"], 1)
    theirs.project[1].load_state_dict(pyramid.projection.norm.state_dict())
    x = torch.randn(2, 16, 33, 40, dtype=torch.double)
    assert torch.allclose(pyramid(x), theirs(x), atol=1e-12)  # batch statistics
    assert torch.allclose(pyramid.eval()(x), theirs.eval()(x), atol=1e-12)  # as both have moved theirs


def test_early_tap_is_read_before_its_relu_and_the_deepest_behind():
    features = [*specs()[:4], FeatureSpec(16, 16, activated=False)]
    decoder = DeepLabV3Plus(features, 3, settings(**NARROW)).double().eval()
    maps = taps(features, 65, 65)
    maps[-1] = torch.randn_like(maps[-1])
    logits = decoder(maps, (65, 65))
    assert torch.equal(decoder([*maps[:4], maps[4].relu()], (65, 65)), logits)
    assert not torch.allclose(decoder([maps[0], maps[1].relu(), *maps[2:]], (65, 65)), logits)


# One set of weights for every output stride.


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "deeplabv3"])
def test_weights_serve_every_output_stride(decoder):
    states = []
    for output_stride in STRIDES:
        with torch.device("meta"):
            states.append(build_segmenter(settings(decoder, output_stride), 5).state_dict())
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("rates", [(6, 12, 18), (2, 10)])
def test_rates_follow_the_output_stride_exactly(rates, scatter):
    """At 8 every second pixel of the pyramid is that of 16; only the mean over the image is over other pixels."""
    config = partial(settings, atrous_rates=rates, image_pooling=False, **NARROW)
    coarse = AtrousPyramid(FeatureSpec(8, 16), config()).double().eval()
    scatter(coarse)
    fine = AtrousPyramid(FeatureSpec(8, 8), config(output_stride=8)).double().eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 8, 65, 81, dtype=torch.double)
    assert torch.allclose(fine(x)[..., ::2, ::2], coarse(x[..., ::2, ::2]), atol=1e-12)


def test_rate_that_does_not_come_out_whole_is_refused():
    with pytest.raises(ConfigError, match=r"atrous_rates: \[5\] .* to 32\. Take multiples of 2"):
        build_segmenter(settings(output_stride=32, atrous_rates=[4, 5]), 2)
    build_segmenter(settings(output_stride=8, atrous_rates=[4, 5]), 2)


# Every switch.


def test_switches_change_what_they_name():
    def parameters(**deeplab):
        decoder = DeepLabV3Plus(specs(), 5, settings(**NARROW | deeplab))
        return {name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}

    usual = parameters()
    assert usual["aspp.projection.convolution.weight"] == (24, 5 * 24, 1, 1)
    assert usual["low_level.convolution.weight"] == (12, 10, 1, 1)
    assert usual["convolutions.0.depthwise.weight"] == (24 + 12, 1, 3, 3)
    assert usual["logits.weight"] == (5, 20, 1, 1)
    unpooled = parameters(image_pooling=False)
    assert usual.keys() - unpooled.keys() == {name for name in usual if "image_pooling" in name}
    assert unpooled["aspp.projection.convolution.weight"] == (24, 4 * 24, 1, 1)
    assert parameters(separable=False)["aspp.atrous.2.convolution.weight"] == (24, 16, 3, 3)
    assert parameters(separable=False)["convolutions.1.convolution.weight"] == (20, 20, 3, 3)
    assert "convolutions.2.depthwise.weight" in parameters(decoder_convolutions=3)
    assert "convolutions.1.depthwise.weight" not in parameters(decoder_convolutions=1)
    assert "aspp.atrous.0.depthwise.weight" not in parameters(atrous_rates=[])


def test_dropout_drops_its_share_behind_the_pyramid():
    pyramid = AtrousPyramid(FeatureSpec(16, 16), settings(dropout=0.3)).train()
    dropped = pyramid.dropout(torch.ones(1, 256, 33, 33))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert settings().deeplab.dropout == 0.1
    x = torch.randn(2, 16, 9, 9)
    assert not torch.equal(pyramid(x), pyramid(x))
    pyramid.eval()
    assert torch.equal(pyramid(x), pyramid(x))


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("frozen", FrozenBatchNorm), ("group", nn.GroupNorm)]
)
def test_norms_are_those_asked_for(norm, kind):
    segmenter = build_segmenter(settings(norm=norm), 5)
    norms = [m for m in segmenter.decoder.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm | nn.GroupNorm)]
    assert len(norms) == 1 + 1 + 3 * 2 + 1 + 1 + 2 * 2  # pooled, pointwise, atrous, projection, low level, decoder
    assert all(isinstance(one, kind) and one.eps == 1e-5 for one in norms)
    segmenter.train()(torch.randn(1, 3, 33, 33)).sum().backward()  # a batch of one, whatever the norm


def test_group_norm_of_lone_numbers_is_refused():
    with pytest.raises(ConfigError, match=r"aspp_channels: 32 leave GroupNorm .*image_pooling=false"):
        build_segmenter(settings(norm="group", aspp_channels=32), 2)
    build_segmenter(settings(norm="group", aspp_channels=32, image_pooling=False), 2)


def test_backbone_without_a_tap_of_stride_4_is_refused():
    with pytest.raises(ConfigError, match=r"tap of stride 4; this backbone has 8, 16\. Take deeplabv3"):
        DeepLabV3Plus([FeatureSpec(8, 8), FeatureSpec(8, 16)], 2, settings())


# One image in a batch.


def test_one_image_is_normalised_by_running_statistics(scatter):
    norm = PooledBatchNorm(6)
    scatter(norm)
    before = copy.deepcopy(norm.state_dict())
    one = torch.randn(1, 6, 1, 1)
    out = norm.train()(one)
    assert torch.equal(out, norm.eval()(one))
    assert all(torch.equal(tensor, norm.state_dict()[name]) for name, tensor in before.items())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(6).train()(one)  # why it is there


def test_two_images_are_batch_norms(scatter):
    norm, usual = PooledBatchNorm(6, momentum=0.3), nn.BatchNorm2d(6, momentum=0.3)
    scatter(norm)
    usual.load_state_dict(norm.state_dict())
    x = torch.randn(2, 6, 1, 1)
    assert torch.equal(norm(x), usual(x))
    assert all(torch.equal(tensor, usual.state_dict()[name]) for name, tensor in norm.state_dict().items())


# Initial weights.


def test_initial_weights_are_tensorflows():
    torch.manual_seed(1)
    decoder = DeepLabV3Plus(specs(channels=(8, 64, 8, 8, 512)), 150, settings())

    def assert_truncated_normal(weight, deviation):
        assert weight.abs().max() <= 2 * deviation
        assert weight.std().item() == pytest.approx(truncnorm(-2, 2, scale=deviation).std(), rel=0.03)

    def assert_glorot(weight):
        bound = math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()))
        assert 0.98 * bound < weight.abs().max() <= bound

    for layer in (*decoder.aspp.atrous, *decoder.convolutions):
        assert_truncated_normal(layer.depthwise.weight, 0.33)
        assert_truncated_normal(layer.pointwise.weight, 0.06)
    for layer in (decoder.aspp.image_pooling, decoder.aspp.pointwise, decoder.aspp.projection, decoder.low_level):
        assert_glorot(layer.convolution.weight)
    assert_truncated_normal(decoder.logits.weight, 0.01)
    assert (decoder.logits.bias == 0).all()
    assert_glorot(DeepLabV3(specs(), 5, settings(separable=False)).aspp.atrous[0].convolution.weight)


# Whole networks.


def train_and_evaluate(config, sizes, batches):
    segmenter = build_segmenter(config, num_classes=5)
    optimizer = torch.optim.SGD(segmenter.parameters(), lr=1e-3)
    for (height, width), batch in zip(sizes, batches, strict=True):
        image = torch.randn(batch, 3, height, width)
        logits = segmenter.train()(image)
        assert logits.shape == (batch, 5, height, width)
        optimizer.zero_grad()
        F.cross_entropy(logits, torch.randint(5, (batch, height, width))).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())
        before = segmenter.decoder.logits.weight.detach().clone()
        optimizer.step()
        assert not torch.equal(before, segmenter.decoder.logits.weight)
        with torch.inference_mode():
            logits = segmenter.eval()(image)
        assert logits.shape == (batch, 5, height, width)
        assert logits.isfinite().all()


@pytest.mark.parametrize("output_stride", STRIDES)
@pytest.mark.parametrize("backbone", ["xception", "xception65"])
@pytest.mark.parametrize("decoder", ["deeplabv3plus", "deeplabv3"])
def test_logits_at_the_images_size_and_one_step(decoder, backbone, output_stride):
    config = settings(decoder, output_stride, backbone)
    train_and_evaluate(config, [(65, 65), (97, 129)], [2, 1])


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", STRIDES)
@pytest.mark.parametrize("backbone", ["xception", "xception65"])
@pytest.mark.parametrize("decoder", ["deeplabv3plus", "deeplabv3"])
def test_full_width(decoder, backbone, output_stride):
    config = settings(decoder, output_stride, backbone, width=1.0)
    sizes = [(65, 65), (65, 65), (97, 129), (97, 129), (513, 513)]
    train_and_evaluate(config, sizes, [1, 2, 1, 2, 1])


def test_dense_prediction_cell_is_the_papers_graph(scatter):
    """A slow second writing of the cell; TensorFlow's own maps are in tests/checkpoint."""
    torch.manual_seed(0)
    cell = DensePredictionCell(FeatureSpec(12, 8, activated=True), settings(pyramid="dpc", **NARROW)).eval()
    scatter(cell)
    x = torch.randn(2, 12, 40, 45)

    def branch(number, source, rows, columns):
        layer = cell.branches[number]
        padded = F.pad(source, (columns, columns, rows, rows))
        height, width = source.shape[2:]
        taps = [
            padded[..., i * rows : i * rows + height, j * columns : j * columns + width]
            * layer.depthwise.weight[:, 0, i, j, None, None]
            for i in range(3)
            for j in range(3)
        ]
        spread = torch.relu(layer.depthwise_norm(torch.stack(taps).sum(0)))
        mixed = torch.einsum("nchw,oc->nohw", spread, layer.pointwise.weight[:, :, 0, 0])
        return torch.relu(layer.pointwise_norm(mixed))

    with torch.no_grad():  # at output stride 8 the rates are twice those that are stated
        first = branch(0, x, 2, 12)
        second = branch(1, first, 36, 30)
        maps = [first, second, branch(2, second, 12, 6), branch(3, first, 2, 2), branch(4, first, 12, 42)]
        torch.testing.assert_close(cell(x), cell.projection(torch.cat(maps, 1)))


def test_dense_prediction_cell_refuses_what_it_does_not_read():
    with pytest.raises(ConfigError, match="atrous_rates: pyramid dpc does not read it"):
        config_from_tree({**RUN, "model": {"deeplab": {"pyramid": "dpc", "atrous_rates": [1, 2, 3]}}})
    with pytest.raises(ConfigError, match="image_pooling: pyramid dpc does not read it"):
        config_from_tree({**RUN, "model": {"deeplab": {"pyramid": "dpc", "image_pooling": False}}})
    with pytest.raises(ConfigError, match=r"model\.deeplab\.pyramid: dpc has no rates for output stride 32"):
        build_segmenter(settings(output_stride=32, pyramid="dpc"), 3)


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "deeplabv3"])
def test_dense_prediction_cell_trains(decoder):
    """Also on one image and with GroupNorm of few channels, for nothing of it is pooled."""
    for norm in ("batch", "group"):
        segmenter = build_segmenter(settings(decoder, norm=norm, width=0.1, pyramid="dpc", **NARROW), 3)
        segmenter(torch.randn(1, 3, 33, 48)).sum().backward()
        assert all(parameter.grad is not None for parameter in segmenter.parameters())
