import pytest
import torch

from segzoo.backbones import Backbone, build_backbone
from segzoo.config.schema import BackboneConfig, ModelConfig
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.models.build import build_segmenter, list_decoders
from segzoo.models.segmenter import Segmenter, pad_to_multiple

SIZES = [(64, 64), (1, 1), (1, 200)]
"""Sizes that need no padding, or most of all; tests/models/test_decoders.py has others, on more backbones."""


def build(decoder: str, output_stride: int) -> Segmenter:
    return build_segmenter(
        ModelConfig.model_validate(
            {
                "decoder": decoder,
                "output_stride": output_stride,
                "backbone": BackboneConfig(name="xception", width=0.1),
            }
        ),
        num_classes=5,
    ).eval()


@pytest.mark.parametrize(
    ("decoder", "output_stride"),
    [("deeplabv3plus_smp", 8), ("deeplabv3plus_smp", 16), ("unet", 8), ("unet", 16), ("unet", 32)],
)
def test_logits_at_the_images_size(decoder: str, output_stride: int) -> None:
    segmenter = build(decoder, output_stride)
    with torch.inference_mode():
        for height, width in SIZES:
            logits = segmenter(torch.randn(1, 3, height, width))
            assert logits.shape == (1, 5, height, width)
            assert logits.isfinite().all()


def test_padding_is_at_the_bottom_and_the_right_with_mid_gray() -> None:
    image = torch.ones(1, 3, 5, 7)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded[..., :5, :7], image)
    assert padded.sum() == image.sum()
    assert pad_to_multiple(padded, 4).shape == padded.shape


def test_image_that_needs_padding_equals_the_padded_image_cropped() -> None:
    segmenter = build("deeplabv3plus_smp", 16)
    image = torch.randn(1, 3, 33, 50)
    with torch.inference_mode():
        whole = segmenter(pad_to_multiple(image, 16))
        assert torch.equal(segmenter(image), whole[..., :33, :50])


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "deeplabv3plus_smp"])
def test_canvas_pads_smaller_images_but_not_in_training(decoder: str) -> None:
    small = {"decoder": decoder, "backbone": {"name": "xception", "width": 0.1}}
    plain = build_segmenter(ModelConfig.model_validate(small), 5).eval()
    canvas = build_segmenter(ModelConfig.model_validate({**small, "canvas": [49, 97]}), 5).eval()
    canvas.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 33, 50)
    padded = torch.nn.functional.pad(image, (0, 47, 0, 16))
    with torch.no_grad():
        torch.testing.assert_close(canvas(image), plain(padded)[..., :33, :50])
        assert not torch.allclose(canvas(image), plain(image), atol=1e-3)
        larger = torch.randn(1, 3, 64, 97)  # of one side: that one needs no more than the decoder does
        torch.testing.assert_close(canvas(larger), plain(larger))
        torch.testing.assert_close(canvas.training_logits(image)[0], plain.training_logits(image)[0])


def test_taps_that_are_not_activated_pass_a_relu() -> None:
    """SMP's decoders expect activated features; ours come before their ReLU, so the signs of two must not matter."""
    segmenter = build("deeplabv3plus_smp", 16)
    taps = [torch.randn(1, spec.channels, 4, 4).abs() for spec in segmenter.backbone.feature_specs]
    taps[1] = torch.randn(1, taps[1].shape[1], 16, 16)
    with torch.inference_mode():
        logits = segmenter.decoder(taps, (64, 64))
        clipped = segmenter.decoder([taps[0], taps[1].relu(), *taps[2:]], (64, 64))
        moved = segmenter.decoder([taps[0], taps[1].abs(), *taps[2:]], (64, 64))
    assert torch.equal(logits, clipped)
    assert not torch.equal(logits, moved)


def test_every_switch_of_the_configuration_reaches_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        "width": 0.1,
        "padding": "same",
        "norm_eps": 0.5,
        "residual": False,
        "depthwise_activation": "elu",
        "depth_multiplier": 2,
        "channel_segments": 3,
        "drop_path": 0.25,
        "gradient_checkpointing": True,
    }
    seen: dict[str, object] = {}

    def spy(name: str, **keywords: object) -> Backbone:
        seen.update(keywords)
        return build_backbone(name, **keywords)

    monkeypatch.setattr("segzoo.backbones.registry.build_backbone", spy)
    build_segmenter(ModelConfig.model_validate({"backbone": {"name": "xception", **changed}}), 2)
    assert {key: seen[key] for key in changed} == changed
    assert set(BackboneConfig.model_fields) - {"name"} <= set(seen)


def test_valid_stem_is_refused() -> None:
    config = ModelConfig.model_validate({"backbone": {"stem_padding": "valid"}})
    with pytest.raises(ConfigError, match=r"model\.backbone\.stem_padding: .*Take padded"):
        build_segmenter(config, 2)


def test_wrong_requests() -> None:
    assert {"deeplabv3plus_smp", "unet"} <= set(list_decoders())
    with pytest.raises(ConfigError, match="deeplabv3plus_smp works at output stride 8 or 16, not 32"):
        build("deeplabv3plus_smp", 32)
    with pytest.raises(UnknownNameError, match=r"Unknown decoder 'umet'. Did you mean unet\?"):
        build("umet", 16)
