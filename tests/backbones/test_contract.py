"""What every backbone promises, over all variants, output strides and sizes."""

import math

import pytest
import torch

from segzoo.backbones import build_backbone, list_backbones

STRIDES = {32: (2, 4, 8, 16, 32), 16: (2, 4, 8, 16, 16), 8: (2, 4, 8, 8, 8)}
SIZES = [(64, 64), (65, 65), (97, 129)]


def check_features(network, size, strides):
    features = network(torch.rand(2, network.in_channels, *size) * 2 - 1)
    specs = network.feature_specs
    assert tuple(spec.stride for spec in specs) == strides
    expected = [
        (2, spec.channels, math.ceil(size[0] / spec.stride), math.ceil(size[1] / spec.stride)) for spec in specs
    ]
    assert [tuple(feature.shape) for feature in features] == expected
    assert all(feature.isfinite().all() for feature in features)
    return features


@pytest.mark.parametrize("output_stride", STRIDES)
def test_features(variant, output_stride):
    network = build_backbone(variant, output_stride=output_stride, width=0.25)
    for size in SIZES:
        network.train()
        features = check_features(network, size, STRIDES[output_stride])
        if size == SIZES[0]:
            sum(feature.square().mean() for feature in features).backward()
            assert network.stem.conv1.weight.grad.abs().sum() > 0
        network.eval()
        with torch.no_grad():
            check_features(network, size, STRIDES[output_stride])


def test_gradients_of_narrow_networks_are_those_of_float64(variant):
    """In channels-last memory, where oneDNN 3.12 wrote past its workspace, and often ended the process."""
    network = build_backbone(variant, width=0.1).eval().to(memory_format=torch.channels_last)
    image = torch.rand(2, 3, 96, 96) * 2 - 1
    gradients = {}
    for dtype in (torch.float32, torch.float64):
        network.to(dtype).zero_grad()
        tensor = image.to(dtype, memory_format=torch.channels_last)
        sum(feature.square().mean() for feature in network(tensor)).backward()
        gradients[dtype] = [parameter.grad.double() for parameter in network.parameters()]
    for found, exact in zip(gradients[torch.float32], gradients[torch.float64], strict=True):
        assert (found - exact).abs().max() <= 1e-4 * exact.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", STRIDES)
def test_features_at_full_width(variant, output_stride):
    network = build_backbone(variant, output_stride=output_stride)
    with torch.no_grad():
        check_features(network, (513, 513), STRIDES[output_stride])
        check_features(network.eval(), (513, 513), STRIDES[output_stride])


def test_deepest_gradient_reaches_the_stem(variant):
    network = build_backbone(variant, output_stride=8, width=0.1)
    network(torch.rand(2, 3, 33, 33))[-1].mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.stem.conv1.weight.grad.abs().sum() > 0


def test_taps_stand_before_their_relu(variant, narrow, image):
    """An activated feature has no negative value; the first four have many."""
    with torch.no_grad():
        features = narrow(variant, 16)(image)
    network = narrow(variant, 16)
    for spec, feature in zip(network.feature_specs, features, strict=True):
        assert bool((feature >= 0).all()) == spec.activated


def test_features_that_issue_2_asks_for():
    network = build_backbone("xception65", output_stride=8, width=0.1).eval()
    with torch.no_grad():
        features = network(torch.rand(1, 3, 97, 129))
    assert [spec.stride for spec in network.feature_specs] == [2, 4, 8, 8, 8]
    assert [tuple(f.shape[2:]) for f in features] == [(49, 65), (25, 33), (13, 17), (13, 17), (13, 17)]


def test_valid_stem_is_smaller():
    network = build_backbone("xception", stem_padding="valid", padding="same", width=0.1).eval()
    with torch.no_grad():
        features = network(torch.rand(1, 3, 299, 299))
    assert [feature.shape[-1] for feature in features] == [147, 74, 37, 19, 10]  # Fig. 5: 10×10 at the end


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_smaller_depth_is_a_part_of_the_whole(variant, narrow, trained_like, image, depth):
    network = build_backbone(variant, width=0.25, output_stride=16, depth=depth).eval()
    assert network.state_dict().keys() < trained_like(variant).keys()
    network.load_state_dict({key: trained_like(variant)[key] for key in network.state_dict()})
    with torch.no_grad():
        features = network(image)
        whole = narrow(variant, 16)(image)
    assert len(features) == depth
    for feature, expected in zip(features, whole, strict=False):
        torch.testing.assert_close(feature, expected)


def test_every_variant_is_listed():
    assert set(list_backbones()) >= {
        "xception", "xception41", "xception65", "xception71", "xception41p", "xception65p",
    }  # fmt: skip
