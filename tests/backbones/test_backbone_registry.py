"""Names, options, and what a wrong one says."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import segzoo
from segzoo.backbones import (
    Backbone,
    BackboneOptions,
    FeatureSpec,
    build_backbone,
    build_classifier,
    register_backbone,
)
from segzoo.config.load import load_config
from segzoo.config.schema import BackboneConfig, ModelConfig
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.models.build import build_segmenter


def test_unknown_name_suggests():
    with pytest.raises(UnknownNameError, match=r"Unknown backbone 'xeption65'\. Did you mean xception65\?"):
        build_backbone("xeption65")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"output_stride": 5}, "output_stride: should be 8, 16 or 32, not 5"),
        ({"width": 0}, "width: should be greater than or equal to 0.01, not 0"),
        ({"width": 1e300}, "width: should be less than or equal to 8, not 1e+300"),
        ({"in_channels": 2**31}, "in_channels: should be less than or equal to 1024, not 2147483648"),
        ({"width": float("nan")}, "width: should be a finite number, not nan"),
        ({"padding": "symetric"}, "padding: should be 'symmetric' or 'same', not 'symetric'"),
        ({"norm": "batchnorm"}, "norm: should be 'batch', 'frozen' or 'group', not 'batchnorm'"),
        ({"in_channels": 0}, "in_channels: should be greater than or equal to 1"),
        ({"depth": 6}, "depth: should be less than or equal to 5"),
        ({"channel_segments": 0}, "channel_segments: should be greater than or equal to 1"),
        ({"drop_path": 1.0}, "drop_path: should be less than 1"),
        ({"norm_momentum": 0.0}, "norm_momentum: should be greater than 0"),
        ({"norm_eps": 0.0}, "norm_eps: should be greater than 0"),
        ({"residual": "no"}, "residual: should be a valid boolean, not 'no'"),
        ({"output_strid": 8}, "output_strid: unknown option. Did you mean output_stride?"),
        ({"weight": "imagenet"}, "weight: unknown option. Did you mean weights?"),
        ({"pointwise_first": True, "depth_multiplier": 2}, "depth_multiplier needs the depthwise convolution first"),
    ],
)
def test_wrong_values_are_one_line(wrong, message):
    with pytest.raises(ConfigError) as caught:
        build_backbone("xception", **wrong)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        build_backbone("xception", output_stride=5, width=-1, norm="none", widht=1)
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("wrong", [{"num_classes": 0}, {"dropout": 1.0}, {"fc_width": 0}, {"fc_width": [5, 0]}])
def test_wrong_classifier(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build_classifier("xception", width=0.1, **wrong)


def test_classifier_of_the_paper():
    with torch.device("meta"):
        plain = build_classifier("xception")
        wide = build_classifier("xception", fc_width=4096)
    assert plain.dropout.p == 0.5
    added = (2048 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000) - (2048 * 1000 + 1000)
    assert count(wide) == count(plain) + added
    small = build_classifier("xception41", 7, width=0.1, fc_width=16).eval()
    assert small(torch.rand(2, 3, 65, 65)).shape == (2, 7)


@pytest.mark.parametrize("widths", [[100], [12, 6, 9], []])
def test_hidden_layers_of_any_number(widths):
    network = build_classifier("xception", 6, width=0.1, fc_width=widths)
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(pairwise([208, *widths, 6]))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def own(own_parts):
    return lambda kind: register_backbone("own-for-a-test", replace=True)(kind)


def test_own_backbone(own):
    class Mine(Backbone):
        def __init__(self, options: BackboneOptions) -> None:
            specs = (FeatureSpec(channels=4, stride=2),)
            super().__init__(specs, output_stride=2, in_channels=options.in_channels)
            self.convolution = nn.Conv2d(options.in_channels, 4, 3, stride=2, padding=1)

        def forward(self, image):
            return [self.convolution(image)]

    register_backbone("own-for-a-test")(Mine)
    network = build_backbone("own-for-a-test", in_channels=2)
    assert network(torch.rand(1, 2, 9, 9))[0].shape == (1, 4, 5, 5)
    with pytest.raises(ValueError, match="registered already"):
        register_backbone("own-for-a-test")(Mine)
    register_backbone("own-for-a-test", replace=True)(Mine)
    with pytest.raises(ConfigError, match="no such weights file"):
        build_backbone("own-for-a-test", weights="nowhere.pth")


class Five(Backbone):
    """Five convolutions, which a test bends."""

    kernel, padding, channels, taps, promised = 3, 1, 8, 5, (2, 4, 8, 16, 32)

    def __init__(self, options: BackboneOptions) -> None:
        strides = [min(stride, options.output_stride) for stride in self.promised]
        specs = tuple(FeatureSpec(channels=8, stride=stride) for stride in strides)
        super().__init__(specs, output_stride=strides[-1], in_channels=options.in_channels)
        inputs = [options.in_channels, *[self.channels] * 4]
        steps = [
            after // before for before, after in pairwise([1, *(min(2**n, options.output_stride) for n in range(1, 6))])
        ]
        self.levels = nn.ModuleList(
            nn.Conv2d(count, self.channels, self.kernel, step, self.padding)
            for count, step in zip(inputs, steps, strict=True)
        )

    def forward(self, image):
        taps = [image := level(image) for level in self.levels]
        return taps[: self.taps]


class FewerTaps(Five):
    taps = 3


class OtherStrides(Five):
    promised = (4, 8, 16, 32, 64)


class OtherChannels(Five):
    channels = 4


class NoPadding(Five):
    padding = 0


class RoundsDown(Five):
    kernel, padding = 2, 0


class RoundsUpTooFar(Five):
    kernel, padding = 4, 2


class NoList(Five):
    def forward(self, image):
        return super().forward(image)[-1]


class Fails(Five):
    def forward(self, image):
        return [torch.cat([image, tap]) for tap in super().forward(image)]


@pytest.mark.parametrize("output_stride", [16, 32])
@pytest.mark.parametrize(
    "kind", [FewerTaps, OtherStrides, OtherChannels, NoPadding, RoundsDown, RoundsUpTooFar, NoList, Fails]
)
def test_a_backbone_that_breaks_its_promises_is_refused(own, kind, output_stride):
    own(kind)
    with pytest.raises(ConfigError, match="backbone own-for-a-test: ") as caught:
        build_backbone("own-for-a-test", output_stride=output_stride)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_one_that_keeps_them_is_left_as_it_was_built(own):
    own(Five)
    network = build_backbone("own-for-a-test", output_stride=16)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


class ThreeTaps(Five):
    """Which it says."""

    taps, promised = 3, (2, 4, 8)


class StartsAtFour(Five):
    """Which it says; UPerNet would give logits of half the size."""

    promised = (4, 8, 16, 32, 64)

    def forward(self, image):
        return super().forward(image[..., ::2, ::2])


@pytest.mark.parametrize("decoder", ["upernet", "unet", "deeplabv3plus"])
@pytest.mark.parametrize("kind", [ThreeTaps, StartsAtFour])
def test_taps_that_decoders_cannot_use_are_refused(own, kind, decoder):
    own(kind)
    config = ModelConfig(decoder=decoder, output_stride=32, backbone=BackboneConfig(name="own-for-a-test"))
    with pytest.raises(ConfigError, match="backbone own-for-a-test: (gives|its feature_specs)"):
        build_segmenter(config, 3)


class StackOptions(segzoo.Section):
    """What the Five take of their own."""

    filters: int = 8
    """Channels of every level."""


def test_options_of_its_own_are_keywords_and_keys(own):
    """Checked with the others, in one go, and told apart by the configuration as a decoder's are."""

    @register_backbone("own-for-a-test", options=StackOptions)
    def build(options: BackboneOptions, stack: StackOptions) -> Backbone:
        network = Five(options)
        network.filters = stack.filters
        return network

    assert build_backbone("own-for-a-test", output_stride=16, filters=4).filters == 4
    with pytest.raises(ConfigError) as caught:
        build_backbone("own-for-a-test", filters="4", width=-1, filter=3)
    assert [line.split(":")[0] for line in caught.value.problems] == ["filter", "width", "filters"]

    overrides = ["data.name=synthetic", "trainer.max_steps=1", "model.backbone.name=own-for-a-test"]
    config = load_config({}, [*overrides, "model.backbone.own-for-a-test.filters=5"]).model
    assert build_segmenter(config, 3).backbone.filters == 5
    with pytest.raises(ConfigError, match="test.filter: unknown key. Did you mean model.backbone.own-for-a-test.filte"):
        load_config({}, [*overrides, "model.backbone.own-for-a-test.filter=5"])
    with pytest.raises(ConfigError, match="backbone xception does not read model.backbone.own-for-a-test"):
        load_config({}, [*overrides, "model.backbone.own-for-a-test.filters=5", "model.backbone.name=xception"])


def test_an_option_of_every_backbone_is_no_option_of_its_own():
    class Wide(segzoo.Section):
        width: float = 1.0

    with pytest.raises(ConfigError, match="backbone 'wide': width is an option of every backbone"):
        register_backbone("wide", options=Wide)
