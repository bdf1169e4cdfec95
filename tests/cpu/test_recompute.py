"""Chains of layers, rewritten, compute what the plain layers compute, gradients and statistics too, and keep less."""

import copy

import pytest
import torch
from learning import kept_bytes, learned, recomputing
from torch import nn
from torch.autograd import gradcheck

from segzoo.backbones.layers import Convolution, FrozenBatchNorm
from segzoo.cpu.recompute import TrainingPass


def convolution(in_channels, out_channels, size, **options):
    return nn.Conv2d(in_channels, out_channels, size, **{"bias": False, **options})


def depthwise(channels, **options):
    return convolution(channels, channels, 3, groups=channels, **options)


def norm(channels, **options):
    return nn.BatchNorm2d(channels, **options)


CHAINS = {
    "xception unit": (2, lambda: [nn.ReLU(), depthwise(6, padding=1), norm(6), convolution(6, 4, 1), norm(4)]),
    "two units": (
        4,
        lambda: [
            *(nn.ReLU(), depthwise(6, padding=2, dilation=2), norm(6), convolution(6, 4, 1), norm(4)),
            *(nn.ReLU(), depthwise(4, padding=1, stride=2), norm(4), convolution(4, 6, 1), norm(6)),
        ],
    ),
    "decoder's": (1, lambda: [depthwise(6, padding=1), norm(6), nn.ReLU(True), convolution(6, 4, 1), norm(4)]),
    "pre-activated": (1, lambda: [norm(6), nn.ReLU(), depthwise(6, padding=1), convolution(6, 4, 1)]),
    "plain 3×3": (1, lambda: [convolution(6, 4, 3), norm(4), convolution(4, 5, 3, stride=2, padding=1)]),
    "strided 1×1": (1, lambda: [norm(6), convolution(6, 4, 1, stride=2), norm(4)]),
    "grouped 1×1": (1, lambda: [norm(6), convolution(6, 4, 1, groups=2)]),
    "padded 1×1": (1, lambda: [norm(6), convolution(6, 4, 1, padding=1)]),
    "biases": (
        3,
        lambda: [
            *(norm(6), nn.ReLU(), convolution(6, 4, 1, bias=True), norm(4), convolution(4, 4, 1, bias=True)),
            *(nn.ReLU(), depthwise(4, padding=7, dilation=7, bias=True)),
        ],
    ),
    "two norms": (1, lambda: [norm(6), norm(6), convolution(6, 4, 1)]),
    "norm behind ReLU": (1, lambda: [nn.ReLU(), norm(6), nn.ReLU(), nn.ReLU(), convolution(6, 4, 1)]),
    "other norms": (
        2,
        lambda: [
            *(nn.GroupNorm(2, 6), nn.ReLU(), convolution(6, 4, 1)),
            *(FrozenBatchNorm(4, eps=1e-3, momentum=0.1), nn.ReLU(), convolution(4, 4, 1)),
        ],
    ),
    "rates": (
        3,
        lambda: [
            *(depthwise(6, padding=3, dilation=3), norm(6), nn.ReLU(), depthwise(6, padding=7, dilation=7)),
            *(nn.ReLU(), depthwise(6, padding=12, dilation=12)),
        ],
    ),
    "a margin of its own": (1, lambda: [nn.ReLU(), depthwise(6, padding=3, dilation=2)]),
    "TensorFlow's margin": (0, lambda: [nn.ReLU(), Convolution(6, 6, 3, stride=2, groups=6, padding="same")]),
    "reflected margin": (0, lambda: [nn.ReLU(), depthwise(6, padding=1, padding_mode="reflect")]),
    "ELU": (0, lambda: [depthwise(6), norm(6), nn.ELU(), convolution(6, 4, 1)]),
    "averaged statistics": (1, lambda: [norm(6, momentum=None), nn.ReLU(), convolution(6, 4, 1)]),
    "no affine": (1, lambda: [norm(6, affine=False), nn.ReLU(), convolution(6, 4, 1)]),
    "no statistics": (1, lambda: [norm(6, track_running_stats=False), nn.ReLU(), convolution(6, 4, 1)]),
}
"""Name -> convolutions that are rewritten, layers."""


def scattered(chain):
    """With a nested Sequential, as the networks have, and norms that are not trivial."""
    torch.manual_seed(0)
    layers = CHAINS[chain][1]()
    network = nn.Sequential(nn.Sequential(*layers[:2]), *layers[2:])
    for module in network.modules():
        if getattr(module, "weight", None) is not None and not isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.train()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_step_is_that_of_the_plain_layers(chain, memory_format):
    network = scattered(chain).double().to(memory_format=memory_format)
    image = torch.randn(3, 6, 9, 8, dtype=torch.float64).contiguous(memory_format=memory_format) + 0.5
    expected = learned(copy.deepcopy(network), image)
    run = TrainingPass("forward", recompute=True)
    found = learned(network, image, run)
    assert recomputing(run, network) == CHAINS[chain][0]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-10, rtol=1e-10, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("chain", CHAINS)
def test_gradients_are_those_of_finite_differences(chain):
    network = scattered(chain).double()
    image = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    run = TrainingPass("forward", recompute=True)
    assert gradcheck(lambda image, *_: run(network, image), (image, *parameters), nondet_tol=1e-12, fast_mode=True)


@pytest.mark.parametrize("frozen", ["Conv2d", "BatchNorm2d", "image", "all"])
def test_what_does_not_learn_has_no_gradient(frozen):
    network = scattered("two units").double()
    for module in network.modules():
        if frozen in ("all", type(module).__name__):
            module.requires_grad_(False)
    image = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    outputs = {}
    for name, run in (
        ("plain", TrainingPass("forward", recompute=False)),
        ("recompute", TrainingPass("forward", recompute=True)),
    ):
        own, pixels = copy.deepcopy(network), image.clone().requires_grad_(frozen not in ("image", "all"))
        output = run(own, pixels)
        if output.requires_grad:
            output.square().sum().backward()
        outputs[name] = [output, pixels.grad, *(parameter.grad for parameter in own.parameters())]
    for plain, ours in zip(outputs["plain"], outputs["recompute"], strict=True):
        assert (plain is None) == (ours is None)
        if plain is not None:
            torch.testing.assert_close(ours, plain)
            assert ours.requires_grad == plain.requires_grad


def test_one_tensor_is_kept_for_each_convolution():
    network, image = scattered("xception unit"), torch.randn(2, 6, 16, 16)
    of_pixels = 2 * 16 * 16 * 4
    # The image, and the results of both convolutions; statistics are small.
    ours = kept_bytes(lambda: TrainingPass("forward", recompute=True)(network, image), network)
    assert 16 * of_pixels <= ours <= 17 * of_pixels
    # The image's ReLU, and each norm's input and output, of which nothing reads the last.
    plain = kept_bytes(lambda: TrainingPass("forward", recompute=False)(network, image), network)
    assert 22 * of_pixels <= plain <= 23 * of_pixels


def test_bf16_is_as_near_to_float64_as_the_plain_layers_are():
    network = scattered("two units")
    image = torch.randn(8, 6, 24, 24) + 2  # where sums that are not centred would lose digits
    truth = learned(copy.deepcopy(network).double(), image.double())

    def errors(recompute):
        with torch.autocast("cpu", torch.bfloat16):
            found = learned(copy.deepcopy(network), image, TrainingPass("forward", recompute=recompute))
        return {key: float((found[key].double() - truth[key]).norm() / truth[key].double().norm()) for key in truth}

    ours = errors(recompute=True)
    for key, plain in errors(recompute=False).items():
        assert ours[key] <= 2 * plain + 1e-3, key


def test_one_pixel_is_refused_as_ever():
    network = nn.Sequential(norm(3), convolution(3, 3, 1)).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        TrainingPass("forward", recompute=True)(network, torch.randn(1, 3, 1, 1))
