"""Dilation is exact: at every second or fourth pixel, a denser map holds what the strided network computes."""

import pytest
import torch

from segzoo.backbones import build_backbone
from segzoo.backbones.layers import MaxPool

SIZES = [(97, 129), (96, 128)]


def error(reference, network, image):
    """Largest difference of the deepest map, taken at the strided network's pixels."""
    step = 32 // network.output_stride
    with torch.no_grad():
        expected, dense = reference(image)[-1], network(image)[-1]
    return ((dense[..., ::step, ::step] - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


@pytest.mark.parametrize("output_stride", [16, 8])
def test_dense_features_hold_the_strided_ones(variant, narrow, image, output_stride):
    for height, width in SIZES:
        assert error(narrow(variant, 32), narrow(variant, output_stride), image[..., :height, :width]) < 1e-4


@pytest.mark.parametrize("output_stride", [16, 8])
def test_a_wrong_rate_shows(variant, narrow, image, output_stride):
    network = narrow(variant, output_stride)
    convolution = network.exit_flow[1].layers[0].separable.depthwise
    convolution.dilation = convolution.padding = (1, 1)
    assert error(narrow(variant, 32), network, image) > 1e-2


def test_an_undilated_pool_shows(narrow, image):
    network = narrow("xception", 8)
    pool = network.exit_flow[0].pool
    assert isinstance(pool, MaxPool)
    assert pool.dilation == 2
    pool.dilation = 1
    assert error(narrow("xception", 32), network, image) > 1e-2


def test_same_padding_is_not_exact(trained_like, image):
    """On even sizes TensorFlow's rule shifts the strided kernels by half a pixel: only symmetric padding aligns."""
    networks = [build_backbone("xception", width=0.25, padding="same", output_stride=s).eval() for s in (32, 16)]
    for network in networks:
        network.load_state_dict(trained_like("xception"))
    assert error(*networks, image[..., :96, :128]) > 1e-2


@pytest.mark.parametrize("output_stride", [16, 8])
def test_with_imagenet_weights(shared, image, output_stride):
    weights = shared / "weights" / "xception_imagenet_notop.h5"
    strided, dense = (build_backbone("xception", weights=weights, output_stride=s).eval() for s in (32, output_stride))
    assert error(strided, dense, image) < 1e-4
