"""Requests that no decoder meets: one line, exit status 2, and nothing built."""

import pytest
import torch
from torch import nn

from segzoo.backbones import build_backbone
from segzoo.config.load import config_from_tree, dump_config, load_config
from segzoo.config.model import ModelConfig
from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, check_model, list_decoders
from segzoo.models.decoder import DECODERS, Decoder, register_decoder
from segzoo.models.networks import check_training

OURS = sorted(DECODERS)
POOLED_NORM = {"deeplabv3plus_smp", "deeplabv3_smp", "pan", "upernet"}
SECTIONS = {decoder: "deeplab" if decoder in ("deeplabv3plus", "deeplabv3") else decoder for decoder in OURS}


@pytest.fixture
def refused(call_tool, monkeypatch):
    """The line with which tools/train.py refuses the quickstart with these changes, before it builds anything."""

    def only_a_sketch(*arguments, **keywords):
        backbone = build_backbone(*arguments, **keywords)
        assert all(parameter.is_meta for parameter in backbone.parameters()), "the network was built"
        return backbone

    monkeypatch.setattr("segzoo.backbones.registry.build_backbone", only_a_sketch)

    def call(*overrides):
        result = call_tool("train.py", "configs/quickstart.yaml", "--check", *overrides)
        assert result.returncode == 2, result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr.removeprefix("error: ").strip()

    return call


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.decoder=fpn"],
            "model.output_stride: fpn works at output stride 32, not 16. Take that, or another decoder.",
        ),
        (["model.decoder=unetplusplus"], "model.output_stride: unetplusplus works at output stride 32, not 16"),
        (
            ["model.decoder=linknet", "model.output_stride=8"],
            "model.output_stride: linknet works at output stride 32, not 8",
        ),
        (["model.decoder=manet"], "model.output_stride: manet works at output stride 32, not 16"),
        (
            ["model.decoder=pan", "model.output_stride=8"],
            "model.output_stride: pan works at output stride 16 or 32, not 8",
        ),
        (["model.output_stride=32"], "model.output_stride: deeplabv3plus_smp works at output stride 8 or 16, not 32"),
        (
            ["model.decoder=deeplabv3_smp", "model.output_stride=32"],
            "model.output_stride: deeplabv3_smp works at output stride 8 or 16, not 32",
        ),
        (
            ["model.decoder=fpn", "model.output_stride=32", "model.eval_output_stride=16"],
            "model.eval_output_stride: fpn works at output stride 32, not 16",
        ),
        (["data.batch_size=1"], "data.batch_size: deeplabv3plus_smp needs 2 images or more on each device, not 1"),
        (
            ["model.decoder=pan", "data.batch_size=1"],
            "data.batch_size: pan needs 2 images or more on each device, not 1",
        ),
        (
            ["model.decoder=unet", "data.batch_size=1", "data.crop_size=16"],
            "data.crop_size: [16, 16] leave one pixel at output stride 16, and BatchNorm needs two or more",
        ),
        (
            ["model.decoder=upernet", "data.batch_size=2", "trainer.devices=2", "trainer.accelerator=cpu"],
            "data.batch_size: upernet needs 2 images or more on each device, not 1",
        ),
        (
            ["model.norm=group", "model.backbone.width=1.0", "model.backbone.weights=imagenet"],
            "model.norm: published weights are BatchNorm's",
        ),
        (
            ["model.decoder=unet", "model.fpn.dropout=0.1"],
            "model: decoder unet does not read model.fpn. Leave that out",
        ),
        (
            ["model.decoder=deeplabv3", "model.unet.norm=none", "model.pan.channels=8"],
            "model: decoder deeplabv3 does not read model.pan, model.unet.",
        ),
        (
            ["model.decoder=unet", "model.unet.channels=[8, 8]"],
            "model.unet.channels: has too few values: [8, 8]",
        ),
        (
            ["model.decoder=unet", "model.unet.attention=scse", "model.unet.channels=[64, 32, 16, 16, 8]"],
            "model.unet: channels: attention scse needs 16 or more in each block",
        ),
        (
            ["model.decoder=fpn", "model.output_stride=32", "model.fpn.segmentation_channels=100"],
            "model.fpn.segmentation_channels: should be a multiple of 32, not 100",
        ),
    ],
)
def test_refused_in_one_line(refused, overrides, line):
    assert refused(*overrides).startswith(line)


def trains_on_one_pixel(decoder, norm, crop):
    """Whether torch itself can, asked of a small network at the decoder's largest stride."""
    stride = max(DECODERS[decoder].output_strides)
    backbone = {"name": "xception", "width": 0.1}
    tree = {"decoder": decoder, "norm": norm, "output_stride": stride, "backbone": backbone}
    config = ModelConfig.model_validate(tree)
    segmenter = build_segmenter(config, 3).train()
    try:
        segmenter.training_logits(torch.zeros(1, 3, crop or stride, crop or stride))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return config, False
    return config, True


@pytest.mark.parametrize("crop", [1, 0])  # 0: the stride
@pytest.mark.parametrize("norm", ["batch", "frozen"])
@pytest.mark.parametrize("decoder", [name for name in OURS if name not in POOLED_NORM])
def test_one_image_of_one_deepest_pixel_is_refused_where_torch_would(decoder, norm, crop):
    config, trains = trains_on_one_pixel(decoder, norm, crop)
    size = crop or config.output_stride
    if trains:
        check_training(config, 1, (size, size))
    else:
        with pytest.raises(ConfigError, match=r"data.crop_size: \[.*\] leave one pixel at output stride"):
            check_training(config, 1, (size, size))
        check_training(config, 2, (size, size))
        check_training(config, 1, (size, config.output_stride + 1))


def test_every_decoder_of_ours_has_its_section():
    assert list_decoders() == OURS
    assert ModelConfig.reads == {decoder: {section} for decoder, section in SECTIONS.items()}
    assert set(SECTIONS.values()) <= set(ModelConfig.model_fields)


@pytest.mark.parametrize("decoder", OURS)
def test_a_dumped_configuration_loads_again(decoder, tmp_path):
    """It holds every key of every decoder, at its default where it is not the chosen one's."""
    section = SECTIONS[decoder]
    changed = {"linknet": {"norm": "none"}, "fpn": {"dropout": 0.5}, "deeplab": {"dropout": 0.5}}
    options = changed.get(section, {"channels": [8] * 5} if "unet" in section or section == "manet" else {})
    tree = {
        "data": {"name": "synthetic"},
        "trainer": {"max_steps": 1},
        "model": {"decoder": decoder, section: options},
    }
    config = config_from_tree(tree)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_decoder_of_the_users_own_may_read_any_section():
    assert ModelConfig.model_validate({"decoder": "mine", "unet": {"norm": "none"}}).unet.norm == "none"
    with pytest.raises(ValueError, match="does not read model.unet"):
        ModelConfig.model_validate({"decoder": "fpn", "unet": {"norm": "none"}})


def test_all_problems_in_one_go():
    backbone = {"name": "xception65", "stem_padding": "valid", "weights": "imagenet"}
    tree = {"decoder": "pan", "output_stride": 8, "eval_output_stride": 8, "norm": "group", "backbone": backbone}
    config = ModelConfig.model_validate(tree)
    keys = ["model.output_stride", "model.eval_output_stride", "model.backbone.stem_padding"]

    def refused_keys(check, *arguments):
        with pytest.raises(ConfigError) as caught:
            check(config, *arguments)
        return [line.split(":")[0] for line in caught.value.problems]

    assert refused_keys(check_model) == keys
    assert refused_keys(check_training, 1, (513, 513)) == [*keys, "data.batch_size", "model.norm"]


class Pooling(Decoder):
    """BatchNorm of the mean over the image, or of the deepest tap, as somebody might write it."""

    def __init__(self, channels, classes, pool):
        super().__init__()
        self.pool = pool
        self.layers = nn.Sequential(nn.Conv2d(channels, classes, 1), nn.BatchNorm2d(classes))

    def forward(self, features, size):
        deepest = features[-1].mean((2, 3), keepdim=True) if self.pool else features[-1]
        return nn.functional.interpolate(self.layers(deepest), size)


@pytest.mark.parametrize(
    ("pool", "line"),
    [
        (True, "data.batch_size: mine needs 2 images or more on each device, not 1"),
        (False, "data.crop_size: [1, 1] leave one pixel at output stride 16, and BatchNorm needs two or more"),
    ],
)
def test_a_decoder_of_the_users_own_is_asked_too(own_parts, pool, line):
    """Nobody stated what it needs: torch knows."""
    register_decoder("mine")(lambda taps, classes, config: Pooling(taps[-1].channels, classes, pool))
    config = ModelConfig.model_validate({"decoder": "mine", "norm": "frozen", "backbone": {"width": 0.1}})
    check_training(config, 2, (1, 1))
    with pytest.raises(ConfigError) as caught:
        check_training(config, 1, (1, 1))
    assert [problem[: len(line)] for problem in caught.value.problems] == [line]


def test_a_decoder_with_the_former_name_of_its_sizes_is_refused(own_parts):
    """It would run, and nothing would pad its images."""

    class Former(Pooling):
        size_divisor = 32

    register_decoder("mine")(lambda taps, classes, config: Former(taps[-1].channels, classes, False))
    config = ModelConfig.model_validate({"decoder": "mine", "backbone": {"width": 0.1}})
    with pytest.raises(ConfigError, match="decoder 'mine': size_divisor is called size_multiple now"):
        build_segmenter(config, 2)


def test_what_a_sketch_cannot_run_is_left_to_the_run(own_parts):
    class Counts(Decoder):
        def forward(self, features, size):
            return features[-1] * features[-1].sum().item()

    register_decoder("mine")(lambda taps, classes, config: Counts())
    check_training(ModelConfig(decoder="mine", norm="frozen"), 1, (1, 1))


def test_the_auxiliary_head_is_part_of_what_is_tried():
    tree = {"decoder": "pspnet", "pspnet": {"norm": "none"}, "freeze_backbone": True, "backbone": {"width": 0.1}}
    check_training(ModelConfig.model_validate(tree), 1, (16, 16))
    with pytest.raises(ConfigError, match="data.crop_size"):
        check_training(ModelConfig.model_validate({**tree, "auxiliary_weight": 0.4}), 1, (16, 16))
