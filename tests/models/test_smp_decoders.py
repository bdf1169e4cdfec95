"""Our networks with SMP's decoders against SMP's own models around our drop-in encoder, weights copied."""

import pytest
import segmentation_models_pytorch as smp
import torch

import segzoo
from segzoo.config.schema import ModelConfig
from segzoo.models.build import build_segmenter
from segzoo.models.smp.encoders import SegzooEncoder

NAME = "quarter-xception"
DEFAULTS = [
    ("unet", "Unet", (8, 16, 32)),
    ("unetplusplus", "UnetPlusPlus", (32,)),
    ("fpn", "FPN", (32,)),
    ("pan", "PAN", (16, 32)),
    ("linknet", "Linknet", (32,)),
    ("manet", "MAnet", (32,)),
    ("upernet", "UPerNet", (8, 16, 32)),
    ("segformer", "Segformer", (8, 16, 32)),
    ("deeplabv3_smp", "DeepLabV3", (8, 16)),
    ("deeplabv3plus_smp", "DeepLabV3Plus", (8, 16)),
]
INSTANCE = {"type": "instancenorm", "affine": True}
CHANNELS = [48, 32, 24, 16, 16]


@pytest.fixture(scope="module", autouse=True)
def _registered():
    segzoo.register_smp_encoders()
    params = {"name": "xception", "width": 0.25}
    smp.encoders.encoders[NAME] = {"encoder": SegzooEncoder, "params": params, "pretrained_settings": {}}
    yield
    del smp.encoders.encoders[NAME]


def difference(decoder, model, output_stride, options=None, *, training=False):
    """Largest difference of logits between our network and SMP's, with SMP's weights."""
    config = {
        "decoder": decoder,
        "output_stride": output_stride,
        "backbone": {"name": "xception", "width": 0.25},
        decoder: options or {},
    }
    segmenter = build_segmenter(ModelConfig.model_validate(config), num_classes=4)
    segmenter.backbone.load_state_dict(model.encoder.backbone.state_dict())
    segmenter.decoder.decoder.load_state_dict(model.decoder.state_dict())
    segmenter.decoder.head.load_state_dict(model.segmentation_head.state_dict())
    size = 8 * output_stride if decoder == "pan" else 64
    image = torch.randn(2, 3, size, size)
    logits = []
    for network in (segmenter, model):
        torch.manual_seed(1)  # of dropout
        with torch.no_grad():
            logits.append(network.train(training)(image))
    return (logits[0] - logits[1]).abs().max()


@pytest.mark.parametrize(
    ("decoder", "name", "output_stride"),
    [(decoder, name, stride) for decoder, name, strides in DEFAULTS for stride in strides],
)
def test_equals_smps_model(decoder, name, output_stride):
    keyword = "encoder_output_stride" if name in ("DeepLabV3", "DeepLabV3Plus", "PAN") else "output_stride"
    model = getattr(smp, name)(NAME, encoder_weights=None, classes=4, **{keyword: output_stride})
    assert difference(decoder, model, output_stride, training=True) <= 1e-6
    assert difference(decoder, model, output_stride) <= 1e-6


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_pspnet_is_smps_of_full_depth(output_stride):
    """SMP's PSPNet cuts the backbone behind its third stage by default; ours is the paper's, on all of it."""
    model = smp.PSPNet(
        NAME, encoder_weights=None, encoder_depth=5, classes=4, output_stride=output_stride, upsampling=output_stride
    )
    assert difference("pspnet", model, output_stride) <= 1e-6


@pytest.mark.parametrize(
    ("decoder", "name", "options", "keywords"),
    [
        (
            "unet",
            "Unet",
            {"channels": CHANNELS, "norm": "instance", "attention": "scse", "interpolation": "bilinear"},
            {
                "decoder_channels": CHANNELS,
                "decoder_use_norm": INSTANCE,
                "decoder_attention_type": "scse",
                "decoder_interpolation": "bilinear",
            },
        ),
        (
            "unetplusplus",
            "UnetPlusPlus",
            {"channels": CHANNELS, "norm": "none", "attention": "scse", "interpolation": "bilinear"},
            {
                "decoder_channels": CHANNELS,
                "decoder_use_norm": "identity",
                "decoder_attention_type": "scse",
                "decoder_interpolation": "bilinear",
            },
        ),
        (
            "fpn",
            "FPN",
            {"pyramid_channels": 40, "segmentation_channels": 32, "merge": "cat", "dropout": 0.5},
            {
                "decoder_pyramid_channels": 40,
                "decoder_segmentation_channels": 32,
                "decoder_merge_policy": "cat",
                "decoder_dropout": 0.5,
            },
        ),
        (
            "pspnet",
            "PSPNet",
            {"channels": 24, "norm": "none", "dropout": 0.5},
            {
                "psp_out_channels": 24,
                "decoder_use_norm": "identity",
                "psp_dropout": 0.5,
                "encoder_depth": 5,
                "upsampling": 32,
            },
        ),
        (
            "pan",
            "PAN",
            {"channels": 24, "interpolation": "nearest"},
            {"decoder_channels": 24, "decoder_interpolation": "nearest", "encoder_output_stride": 32},
        ),
        ("linknet", "Linknet", {"norm": "instance"}, {"decoder_use_norm": INSTANCE}),
        (
            "manet",
            "MAnet",
            {"channels": CHANNELS, "norm": "none", "pab_channels": 20, "interpolation": "bilinear"},
            {
                "decoder_channels": CHANNELS,
                "decoder_use_norm": "identity",
                "decoder_pab_channels": 20,
                "decoder_interpolation": "bilinear",
            },
        ),
        ("upernet", "UPerNet", {"channels": 24}, {"decoder_channels": 24}),
        ("segformer", "Segformer", {"channels": 24}, {"decoder_segmentation_channels": 24}),
        (
            "deeplabv3_smp",
            "DeepLabV3",
            {"channels": 24, "atrous_rates": [2, 3, 4], "separable": True, "dropout": 0.2},
            {
                "decoder_channels": 24,
                "decoder_atrous_rates": (2, 3, 4),
                "decoder_aspp_separable": True,
                "decoder_aspp_dropout": 0.2,
                "encoder_output_stride": 16,
            },
        ),
        (
            "deeplabv3plus_smp",
            "DeepLabV3Plus",
            {"channels": 24, "atrous_rates": [2, 3, 4], "separable": False, "dropout": 0.2},
            {
                "decoder_channels": 24,
                "decoder_atrous_rates": (2, 3, 4),
                "decoder_aspp_separable": False,
                "decoder_aspp_dropout": 0.2,
                "encoder_output_stride": 16,
            },
        ),
    ],
)
def test_every_option_is_smps(decoder, name, options, keywords):
    model = getattr(smp, name)(NAME, encoder_weights=None, classes=4, **keywords)
    output_stride = keywords.get("encoder_output_stride", 32)
    assert difference(decoder, model, output_stride, options, training=True) <= 1e-6
    assert set(options) <= set(type(getattr(ModelConfig(), decoder)).model_fields)


def test_defaults_are_smps_signatures():
    """What our schema repeats of SMP's signatures, found again in a model that SMP builds with its own defaults."""
    for decoder, name, strides in DEFAULTS:
        stride = max(strides)
        keyword = {"encoder_output_stride": stride} if name in ("DeepLabV3", "DeepLabV3Plus", "PAN") else {}
        model = getattr(smp, name)(NAME, encoder_weights=None, classes=4, **keyword)
        ours = build_segmenter(
            ModelConfig.model_validate(
                {"decoder": decoder, "output_stride": stride, "backbone": {"name": "xception", "width": 0.25}}
            ),
            num_classes=4,
        )
        assert repr(ours.decoder.decoder) == repr(model.decoder), decoder
        assert repr(ours.decoder.head) == repr(model.segmentation_head), decoder


def test_weights_start_as_smps_do():
    """SMP draws its decoders' weights anew, with uniform numbers within a bound; torch's own bound is smaller."""
    torch.manual_seed(0)
    decoder = build_segmenter(
        ModelConfig.model_validate({"decoder": "unet", "backbone": {"name": "xception", "width": 0.25}}), 4
    ).decoder
    weight = decoder.decoder.blocks[0].conv1[0].weight
    fan_in = weight.shape[1] * 9
    assert weight.abs().max().item() == pytest.approx((6 / fan_in) ** 0.5, rel=0.01)
    assert decoder.head[0].bias.abs().max() == 0
