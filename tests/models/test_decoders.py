"""Every decoder of SMP on our backbones, at every output stride it allows, for every image size."""

import pytest
import torch

from segzoo.config.schema import BackboneConfig, ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, list_decoders
from segzoo.models.decoder import DECODERS
from segzoo.models.networks import check_training
from segzoo.models.segmenter import Segmenter, pad_to_multiple

SMP = (
    "deeplabv3_smp",
    "deeplabv3plus_smp",
    "fpn",
    "linknet",
    "manet",
    "pan",
    "pspnet",
    "segformer",
    "unet",
    "unetplusplus",
    "upernet",
)
ALLOWED = [(decoder, stride) for decoder in SMP for stride in DECODERS[decoder].output_strides]
POOLED_NORM = {"deeplabv3_smp", "deeplabv3plus_smp", "pan", "upernet"}


def build(decoder: str, output_stride: int, backbone: str = "xception", width: float = 0.25, **model) -> Segmenter:
    config = {"decoder": decoder, "output_stride": output_stride, "backbone": {"name": backbone, "width": width}}
    return build_segmenter(ModelConfig.model_validate(config | model), num_classes=5)


def check_training_step(segmenter: Segmenter, batch: int, size: tuple[int, int]) -> None:
    """Logits have the image's size, and the gradient of a step reaches every parameter."""
    segmenter.train().zero_grad()
    logits = segmenter(torch.randn(batch, 3, *size))
    assert logits.shape == (batch, 5, *size)
    torch.nn.functional.cross_entropy(logits, torch.randint(5, (batch, *size))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())
    torch.optim.SGD(segmenter.parameters(), lr=1e-3).step()


def check_evaluation(segmenter: Segmenter, size: tuple[int, int], batch: int = 1) -> None:
    with torch.inference_mode():
        logits = segmenter.eval()(torch.randn(batch, 3, *size))
    assert logits.shape == (batch, 5, *size)
    assert logits.isfinite().all()


def test_names_are_the_pinned_ones():
    assert set(SMP) | {"deeplabv3plus", "deeplabv3"} <= set(list_decoders())


def test_strides_each_decoder_allows():
    assert {decoder: DECODERS[decoder].output_strides for decoder in SMP} == {
        "deeplabv3_smp": (8, 16),
        "deeplabv3plus_smp": (8, 16),
        "fpn": (32,),
        "linknet": (32,),
        "manet": (32,),
        "pan": (16, 32),
        "pspnet": (8, 16, 32),
        "segformer": (8, 16, 32),
        "unet": (8, 16, 32),
        "unetplusplus": (32,),
        "upernet": (8, 16, 32),
    }


@pytest.mark.parametrize("backbone", ["xception", "xception65"])
@pytest.mark.parametrize(("decoder", "output_stride"), ALLOWED)
def test_trains_and_evaluates(decoder, output_stride, backbone):
    segmenter = build(decoder, output_stride, backbone)
    check_training_step(segmenter, 2 if decoder in POOLED_NORM else 1, (97, 129))
    check_training_step(segmenter, 2, (65, 65))
    check_evaluation(segmenter, (97, 129))
    check_evaluation(segmenter, (1, 70), batch=2)
    if backbone == "xception" and output_stride == max(DECODERS[decoder].output_strides):
        check_evaluation(segmenter, (513, 513))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["xception", "xception65"])
@pytest.mark.parametrize(("decoder", "output_stride"), ALLOWED)
def test_full_width(decoder, output_stride, backbone):
    segmenter = build(decoder, output_stride, backbone, width=1.0)
    check_training_step(segmenter, 2, (65, 65))
    check_training_step(segmenter, 2 if decoder in POOLED_NORM else 1, (97, 129))
    check_evaluation(segmenter, (513, 513))


@pytest.mark.parametrize("decoder", SMP)
def test_single_images_are_refused_where_torch_would(decoder):
    """Where they are not, `test_trains_and_evaluates` trains on one."""
    stride = max(DECODERS[decoder].output_strides)
    config = ModelConfig(decoder=decoder, output_stride=stride, backbone=BackboneConfig(name="xception", width=0.1))
    check_training(config, 2, (65, 65))
    if decoder in POOLED_NORM:
        with pytest.raises(ConfigError, match=f"data.batch_size: {decoder} needs 2 images or more on each device"):
            check_training(config, 1, (65, 65))
    else:
        check_training(config, 1, (65, 65))


@pytest.mark.parametrize("decoder", sorted(POOLED_NORM))
def test_torch_refuses_less_than_the_least_batch(decoder):
    segmenter = build(decoder, max(DECODERS[decoder].output_strides), width=0.1).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        segmenter(torch.randn(1, 3, 65, 65))


@pytest.mark.parametrize("output_stride", [16, 32])
def test_pan_pads_until_its_pools_have_pixels(output_stride):
    segmenter = build("pan", output_stride, width=0.1).eval()
    least = 8 * output_stride
    assert segmenter.decoder.minimum_size == least
    image = torch.randn(1, 3, 50, 70)
    with torch.inference_mode():
        whole = segmenter(pad_to_multiple(image, 1, minimum=least))
        assert whole.shape == (1, 5, least, least)
        assert torch.equal(segmenter(image), whole[..., :50, :70])


def test_instance_norm_on_a_single_pixel():
    """One pixel has no variance, and torch refuses it: so the deepest map is padded to two."""
    for decoder in ("unet", "pspnet", "linknet", "manet", "unetplusplus"):
        check_evaluation(build(decoder, 32, width=0.1, **{decoder: {"norm": "instance"}}), (5, 9))


def test_sections_reach_the_decoder():
    narrow = build("unet", 16, width=0.1, unet={"channels": [8, 8, 8, 8, 4], "norm": "none"})
    assert narrow.decoder.head[0].in_channels == 4
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in narrow.decoder.modules())
