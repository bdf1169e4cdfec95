"""Each switch of the papers changes what the paper says, and nothing else: counts in closed form."""

import pytest
import torch
from torch.nn import functional as F

from segzoo.backbones import build_backbone
from segzoo.backbones.layers import DropPath, SeparableConvolution

# (in, out) of Chollet's 34 separable convolutions, written out from Fig. 5.
SEPARABLE = [
    (64, 128), (128, 128), (128, 256), (256, 256), (256, 728), (728, 728),
    *[(728, 728)] * 24,
    (728, 728), (728, 1024), (1024, 1536), (1536, 2048),
]  # fmt: skip
SHORTCUTS = [(64, 128), (128, 256), (256, 728), (728, 1024)]
TOTAL = 20_806_952


def build(**switches):
    with torch.device("meta"):
        return build_backbone("xception", **switches)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_paper_in_closed_form():
    stem = 27 * 32 + 9 * 32 * 64 + 2 * (32 + 64)
    separable = sum(9 * i + i * o + 2 * o for i, o in SEPARABLE)
    shortcuts = sum(i * o + 2 * o for i, o in SHORTCUTS)
    assert stem + separable + shortcuts == TOTAL == count(build())


def test_residuals_off_removes_the_shortcuts_only():
    with_them, without = build().state_dict(), build(residual=False).state_dict()
    assert with_them.keys() - without.keys() == {key for key in with_them if ".shortcut." in key}
    assert without.keys() < with_them.keys()
    assert count(build(residual=False)) == TOTAL - sum(i * o + 2 * o for i, o in SHORTCUTS)


def test_residuals_off_computes_the_bare_body():
    network = build_backbone("xception", width=0.1, residual=False).eval()
    module = network.middle_flow[0]
    x = torch.randn(1, module.layers[0].separable.pointwise.in_channels, 9, 9)
    torch.testing.assert_close(module(x)[1], module.layers(x))


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_depthwise_activation_stands_between(activation):
    network = build_backbone("xception", width=0.1, depthwise_activation=activation)
    assert count(network) == count(build_backbone("xception", width=0.1))
    for separable in separables(network):
        assert [name for name, _ in separable.named_children()] == ["depthwise", "activation", "pointwise"]
    separable = separables(network)[3]
    x = torch.randn(1, separable.depthwise.in_channels, 9, 9)
    between = getattr(F, activation)(separable.depthwise(x))
    torch.testing.assert_close(separable(x), separable.pointwise(between))


def test_no_depthwise_activation_is_linear():
    separable = separables(build_backbone("xception", width=0.1))[3]
    x, y = torch.randn(2, 1, separable.depthwise.in_channels, 9, 9)
    torch.testing.assert_close(separable(x + 2 * y), separable(x) + 2 * separable(y), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("multiplier", [2, 3])
def test_depth_multiplier(multiplier):
    """More spatial filters per channel: each separable convolution grows by its depthwise kernels and their mixing."""
    growth = sum((multiplier - 1) * (9 * i + i * o) for i, o in SEPARABLE)
    assert count(build(depth_multiplier=multiplier)) == TOTAL + growth


def test_pointwise_first_filters_the_output_channels():
    growth = sum(9 * o - 9 * i for i, o in SEPARABLE)
    network = build(pointwise_first=True)
    assert count(network) == TOTAL + growth
    for separable in separables(network):
        assert [name for name, _ in separable.named_children()] == ["pointwise", "depthwise"]
    assert (
        build_backbone("xception", pointwise_first=True, width=0.1)
        .eval()(torch.rand(1, 3, 64, 64))[-1]
        .isfinite()
        .all()
    )


@pytest.mark.parametrize("segments", [1, 2, 4, 8])
def test_channel_segments(segments):
    """A segment of c channels has c times the spatial kernels that c lone channels have."""
    growth = sum(9 * i * (i // segments) - 9 * i for i, o in SEPARABLE)
    assert count(build(channel_segments=segments)) == TOTAL + growth


def test_segments_that_do_not_divide_take_the_next_divisor():
    network = build(channel_segments=16)
    groups = {(s.depthwise.in_channels, s.depthwise.groups) for s in separables(network)}
    assert groups == {(64, 16), (128, 16), (256, 16), (728, 14), (1024, 16), (1536, 16)}


def test_all_segments_is_depthwise():
    assert {k: v.shape for k, v in build(channel_segments=2048).state_dict().items()} == {
        k: v.shape for k, v in build().state_dict().items()
    }


@pytest.mark.parametrize("dilation", [1, 2])
def test_one_segment_is_a_plain_convolution(dilation):
    """3×3 over all channels, then 1×1, without anything between: one plain 3×3 convolution with their product."""
    network = build_backbone("xception", width=0.1, channel_segments=1)
    separable = separables(network)[3]
    assert separable.depthwise.groups == 1
    separable.depthwise.dilation = separable.depthwise.padding = (dilation, dilation)
    kernel = torch.einsum("om,mikl->oikl", separable.pointwise.weight[:, :, 0, 0], separable.depthwise.weight)
    x = torch.randn(1, kernel.shape[1], 13, 11)
    plain = F.conv2d(x, kernel, padding=dilation, dilation=dilation)
    torch.testing.assert_close(separable(x), plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["xception41", "xception41p"])
def test_switches_of_the_aligned_networks(name):
    with torch.device("meta"):
        plain = build_backbone(name).state_dict()
        bare = build_backbone(name, residual=False).state_dict()
        doubled = build_backbone(name, depth_multiplier=2).state_dict()
    assert plain.keys() - bare.keys() == {key for key in plain if ".shortcut." in key}
    assert all(doubled[key].shape[0] == 2 * plain[key].shape[0] for key in plain if key.endswith("depthwise.weight"))


def test_width_scales_every_channel(variant):
    with torch.device("meta"):
        specs = build_backbone(variant, width=0.5).feature_specs
    assert [spec.channels for spec in specs] == [64, 128, 368, 512, 1024]  # 364 to the next multiple of 8


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_norms_keep_the_count(norm, variant):
    with torch.device("meta"):
        assert count(build_backbone(variant, norm=norm)) == count(build_backbone(variant))


def test_drop_path_grows_with_depth():
    rates = [module.rate for module in build(drop_path=0.3).modules() if isinstance(module, DropPath)]
    assert rates[0] == 0.0
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)
    assert rates[3] == pytest.approx(0.3 * 3 / 12)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    drop = DropPath(0.25).train()
    x = torch.ones(4000, 2, 1, 1)
    dropped = drop(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (dropped[:, 0] == dropped[:, 1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert drop.eval()(x) is x


def separables(network):
    return [module for module in network.modules() if isinstance(module, SeparableConvolution)]
