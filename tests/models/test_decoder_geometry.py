"""Where pixels come from: no step between an image and its logits moves them."""

import pytest
import torch
from torch import nn

from segzoo.backbones import Backbone, FeatureSpec
from segzoo.config.model import DeepLabConfig, ModelConfig
from segzoo.models.build import build_segmenter
from segzoo.models.deeplabv3plus import deeplabv3, deeplabv3plus
from segzoo.models.segmenter import Segmenter

BUILDERS = {"deeplabv3plus": deeplabv3plus, "deeplabv3": deeplabv3}
CHANNELS = 3  # row, column, and a one
WIDTH = 4  # of the layers that hand them on


class RampBackbone(Backbone):
    """Each tap holds the image coordinates of its pixels: of every stride-th, from the first on."""

    def __init__(self, output_stride):
        strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
        super().__init__(
            tuple(FeatureSpec(CHANNELS, stride) for stride in strides), output_stride=output_stride, in_channels=3
        )

    def forward(self, image):
        rows, columns = (torch.arange(size, dtype=image.dtype) for size in image.shape[2:])
        ramp = torch.stack([*torch.meshgrid(rows, columns, indexing="ij"), torch.ones(image.shape[2:])])[None]
        return [ramp[..., :: spec.stride, :: spec.stride] for spec in self.feature_specs]


class SamplingBackbone(RampBackbone):
    """Each tap holds every stride-th pixel of the image."""

    def forward(self, image):
        return [image[..., :: spec.stride, :: spec.stride] for spec in self.feature_specs]


def pass_through(module, source):
    """Make a layer hand on three of its input channels, those from `source` on, unchanged."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.weight.data.zero_()
            middle = child.kernel_size[0] // 2
            if child.groups > 1:
                child.weight.data[:, 0, middle, middle] = 1.0
            else:
                child.weight.data[range(CHANNELS), range(source, source + CHANNELS), middle, middle] = 1.0
        elif isinstance(child, nn.BatchNorm2d):
            child.running_var.fill_(1.0 - child.eps)


def ramp_network(decoder, output_stride, source, kind=RampBackbone):
    """Logits that are the coordinates in the pyramid (source 0) or in the tap of stride 4 (source WIDTH)."""
    backbone = kind(output_stride)
    narrow = DeepLabConfig(aspp_channels=WIDTH, low_level_channels=WIDTH, decoder_channels=WIDTH)
    config = ModelConfig(decoder=decoder, output_stride=output_stride, deeplab=narrow)
    head = BUILDERS[decoder](backbone.feature_specs, CHANNELS, config).double()
    pass_through(head.aspp.pointwise, 0)
    pass_through(head.aspp.projection, WIDTH)  # behind image pooling
    if decoder == "deeplabv3plus":
        pass_through(head.low_level, 0)
        pass_through(head.convolutions[0], source)
        pass_through(head.convolutions[1], 0)
    pass_through(head.logits, 0)
    return Segmenter(backbone, head).eval()


SIZES = [(513, 513), (512, 512), (97, 129), (100, 334), (33, 500), (1, 1), (1, 70)]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("decoder", "source"), [("deeplabv3plus", 0), ("deeplabv3plus", WIDTH), ("deeplabv3", 0)])
def test_resize_pad_and_crop_keep_every_coordinate(decoder, source, output_stride):
    network = ramp_network(decoder, output_stride, source)
    with torch.inference_mode():
        for height, width in SIZES:
            logits = network(torch.zeros(1, 3, height, width, dtype=torch.double))[0]
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            assert (logits[0] - rows).abs().max() < 1e-6
            assert (logits[1] - columns).abs().max() < 1e-6
            assert (logits[2] - 1).abs().max() < 1e-9


def test_the_images_own_ramp_comes_back():
    """As above with the coordinates in the image itself, so that its padding is seen too: up to the last whole cell."""
    network = ramp_network("deeplabv3plus", 16, 0, SamplingBackbone)
    for height, width in SIZES[:5]:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        ramp = torch.stack([rows, columns, torch.ones_like(rows)]).double()
        with torch.inference_mode():
            logits = network(ramp[None])[0]
        inside = (..., slice(0, (height - 1) // 16 * 16 + 1), slice(0, (width - 1) // 16 * 16 + 1))
        assert (logits[inside] - ramp[inside]).abs().max() < 1e-6


def test_ramp_shows_a_drift():
    """The test above, on a network without its padding: 512 pixels are drawn out of place."""
    network = ramp_network("deeplabv3plus", 16, 0)
    network.decoder.size_remainder = 0
    logits = network(torch.zeros(1, 3, 512, 512, dtype=torch.double))[0]
    assert (logits[1, 0] - torch.arange(512)).abs().max() > 10


def symmetrise(network):
    """Kernels that look alike to the left and to the right, and norms that do something."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(-1)) / 2
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)


def flip_error(decoder, output_stride, backbone, width, padding="symmetric", size=None):
    """Largest difference between the logits of a mirrored image and the mirrored logits, over the largest logit."""
    config = ModelConfig.model_validate(
        {
            "decoder": decoder,
            "output_stride": output_stride,
            "backbone": {"name": backbone, "width": 0.25, "padding": padding},
        }
    )
    network = build_segmenter(config, 5).double()
    symmetrise(network)
    image = torch.randn(2, 3, size or width, width, dtype=torch.double)
    with torch.inference_mode():
        # Batch statistics: with those of a fresh network, features fade to nothing on the way. Dropout is no mirror.
        network.train().decoder.aspp.dropout.eval()
        logits, mirrored = network(image), network(image.flip(-1))
    return ((mirrored - logits.flip(-1)).abs().max() / logits.abs().max()).item()


@pytest.mark.parametrize(
    ("backbone", "output_stride", "padding"),
    [
        ("xception", 8, "symmetric"),
        ("xception", 16, "same"),
        ("xception", 32, "symmetric"),
        ("xception65", 8, "same"),
        ("xception65", 16, "symmetric"),
    ],
)
def test_mirrored_image_gives_mirrored_logits(backbone, output_stride, padding):
    """At widths k·stride + 1, with a pixel in the middle of every map; in between, the padding is to the right only."""
    assert flip_error("deeplabv3plus", output_stride, backbone, 65, padding, size=33) < 1e-9
    assert flip_error("deeplabv3plus", output_stride, backbone, 64, padding, size=33) > 1e-3


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "deeplabv3"])
def test_mirrored_image_gives_mirrored_logits_at_513(decoder):
    assert flip_error(decoder, 16, "xception", 513, size=65) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("backbone", ["xception", "xception65"])
def test_mirrored_513_by_513(backbone, output_stride):
    assert flip_error("deeplabv3plus", output_stride, backbone, 513) < 1e-9
