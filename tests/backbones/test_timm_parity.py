"""timm's networks with random weights and random BatchNorm statistics, read from a file into ours."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from segzoo.backbones import build_backbone, build_classifier

ALIGNED = ("xception41", "xception65", "xception71", "xception41p", "xception65p")
LEGACY = {"stem_padding": "valid", "norm_eps": 1e-5}  # timm keeps PyTorch's eps with Chollet's weights


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 97, 129, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture(scope="module")
def theirs(scatter, tmp_path_factory):
    """A timm network and the path of its state, made once per name."""
    made = {}

    def make(name):
        if name not in made:
            torch.manual_seed(0)
            network = timm.create_model(name).eval()
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
            scatter(network)
            path = tmp_path_factory.mktemp("timm") / f"{name}.safetensors"
            save_file(network.state_dict(), path)
            made[name] = network, path
        return made[name]

    return make


def dilated(network, name, output_stride):
    """timm's network at another output stride, with the same weights."""
    if output_stride == 32:
        return network
    with torch.device("meta"):
        other = timm.create_model(name, output_stride=output_stride).eval()
    if name == "xception71" and output_stride == 8:
        # Where a 728-to-728 module gives up its stride, timm drops the convolution of its shortcut, and with it the
        # weights. DeepLab's code keeps it (skip_connection_type "conv"), and so do we: put it back.
        other.blocks[4].shortcut = copy.deepcopy(network.blocks[4].shortcut)
        other.blocks[4].shortcut.conv.stride = (1, 1)
    other.load_state_dict(network.state_dict(), assign=True)
    return other


FAST = [("xception41", 32), ("xception41", 8), ("xception41p", 16), ("xception65p", 8)]
FAST += [("xception65", 16), ("xception71", 8)]
SLOW = [(name, stride) for name in ALIGNED for stride in (32, 16, 8) if (name, stride) not in FAST]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "output_stride"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_aligned_features_are_timms(theirs, difference, image, name, output_stride):
    network, path = theirs(name)
    other = dilated(network, name, output_stride)
    ours = build_backbone(name, output_stride=output_stride, weights=path).eval()
    features = ours(image)
    expected, taps = other.forward_intermediates(image)
    assert difference(features[-1], expected) < 1e-4
    for feature, tap in zip(features[:4], taps[:4], strict=True):
        # timm's tap sits behind the ReLU, but in the pre-activation networks before their norm, like ours.
        assert difference(feature if name.endswith("p") else feature.relu(), tap) < 1e-4

    exit_module = ours.exit_flow[1].layers[0].separable.depthwise
    rate = exit_module.dilation[0] + 1
    exit_module.dilation = exit_module.padding = (rate, rate)
    assert difference(ours(image)[-1], expected) > 1e-2, "a broken dilation has to show"


@torch.no_grad()
def test_chollets_features_are_timms(theirs, difference, image):
    network, path = theirs("legacy_xception")
    ours = build_backbone("xception", weights=path, **LEGACY).eval()
    expected = network.forward_features(image)
    assert difference(ours(image)[-1], expected) < 1e-4
    padded = build_backbone("xception", weights=path, norm_eps=1e-5).eval()
    assert difference(padded(image)[-1][..., : expected.shape[-2], : expected.shape[-1]], expected) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("name", ["legacy_xception", "xception41"])
def test_class_scores_are_timms(theirs, difference, image, name):
    network, path = theirs(name)
    keywords = LEGACY if name == "legacy_xception" else {}
    ours = build_classifier(name.removeprefix("legacy_"), weights=path, **keywords).eval()
    assert difference(ours(image), network(image)) < 1e-4
