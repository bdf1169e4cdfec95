"""Training at one output stride, evaluating at another: the same tensors, planned anew."""

import json
import logging

import pytest
import torch
from torch import nn

from segzoo.checkpoint.read import load_segmenter, read_checkpoint
from segzoo.config.schema import ModelConfig
from segzoo.errors import ConfigError
from segzoo.inference.predictor import Predictor
from segzoo.models.build import build_segmenter, evaluation_config, planned_for_evaluation
from segzoo.models.decoder import DECODERS, RegisteredDecoder
from segzoo.models.networks import check_training
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.train import train


def settings(decoder="deeplabv3plus", backbone="xception", **model):
    tree = {"decoder": decoder, "eval_output_stride": 8, "backbone": {"name": backbone, "width": 0.1}}
    return ModelConfig.model_validate(tree | model)


def with_random_statistics(segmenter):
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return segmenter.eval()


def agree(fine, coarse):
    return (fine[..., ::2, ::2] - coarse).abs().max() <= 1e-5 * coarse.abs().max()


@pytest.mark.parametrize("backbone", ["xception", "xception65"])
def test_loads_strictly_and_dilates_exactly(backbone):
    """Dilation is exact with symmetric padding: every second pixel of stride 8 is a pixel of stride 16."""
    config = settings(backbone=backbone)
    trained = with_random_statistics(build_segmenter(config, 4))
    finer = build_segmenter(evaluation_config(config), 4).eval()
    finer.load_state_dict(trained.state_dict(), strict=True)
    image = torch.randn(1, 3, 97, 129)
    with torch.inference_mode():
        at_16, at_8 = trained.backbone(image)[-1], finer.backbone(image)[-1]
    assert at_8.shape[-2:] == (13, 17)
    assert agree(at_8, at_16)


@pytest.mark.parametrize("backbone", ["xception", "xception65"])
def test_rates_double_with_the_stride(backbone):
    """Without the image's mean, which sums other pixels, the whole pyramid is exact as well."""
    config = settings("deeplabv3", backbone, deeplab={"image_pooling": False})
    trained = with_random_statistics(build_segmenter(config, 4))
    finer = planned_for_evaluation(trained, config, 4)
    image = torch.randn(1, 3, 97, 129)
    with torch.inference_mode():
        at_16, at_8 = (network.decoder.aspp(network.backbone(image)[-1]) for network in (trained, finer))
    assert agree(at_8, at_16)


@pytest.mark.parametrize("decoder", ["deeplabv3plus_smp", "deeplabv3_smp"])
@pytest.mark.parametrize(("trained_at", "evaluated_at", "rates"), [(16, 8, [24, 48, 72]), (8, 16, [6, 12, 18])])
def test_smps_rates_are_scaled_too(decoder, trained_at, evaluated_at, rates):
    config = settings(decoder, output_stride=trained_at, eval_output_stride=evaluated_at)
    planned = planned_for_evaluation(build_segmenter(config, 4), config, 4)
    convolutions = [module for module in planned.decoder.modules() if isinstance(module, nn.Conv2d)]
    assert sorted({conv.dilation[0] for conv in convolutions} - {1}) == rates


def test_the_tensors_are_shared():
    config = settings()
    trained = with_random_statistics(build_segmenter(config, 4)).train()
    random_state = torch.get_rng_state()
    planned = planned_for_evaluation(trained, config, 4)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not planned.training
    assert trained.training
    assert all(a is b for a, b in zip(trained.parameters(), planned.parameters(), strict=True))
    assert all(a is b for a, b in zip(trained.buffers(), planned.buffers(), strict=True))
    image = torch.randn(2, 3, 65, 65)
    before = planned(image)
    trained(image).sum().backward()
    torch.optim.SGD(trained.parameters(), lr=0.1).step()
    assert not torch.equal(planned(image), before)
    assert planned_for_evaluation(planned, config, 4) is planned


def test_planned_again_behind_a_move():
    """`.to()` replaces buffers: what is planned behind it follows."""
    config = settings(freeze_backbone=True)
    moved = with_random_statistics(build_segmenter(config, 4)).to(torch.float64).to(memory_format=torch.channels_last)
    planned = planned_for_evaluation(moved, config, 4)
    fresh = build_segmenter(evaluation_config(config), 4).double().eval()
    fresh.load_state_dict(moved.state_dict())
    image = torch.randn(1, 3, 65, 65, dtype=torch.float64)
    assert torch.allclose(planned(image), fresh(image), atol=1e-12)
    assert not any(p.requires_grad for p in moved.backbone.parameters())
    assert all(p.requires_grad for p in moved.decoder.parameters())


def test_sharing_leaves_gradients_as_they_are_set():
    config = settings()
    segmenter = build_segmenter(config, 4)
    segmenter.decoder.requires_grad_(False)
    planned_for_evaluation(segmenter, config, 4)
    assert not any(p.requires_grad for p in segmenter.decoder.parameters())
    assert all(p.requires_grad for p in segmenter.backbone.parameters())


def test_buffers_outside_the_state_are_shared_too():
    config = settings()
    segmenter = build_segmenter(config, 4)
    segmenter.decoder.register_buffer("scale", torch.ones(1), persistent=False)
    build = DECODERS["deeplabv3plus"].build

    def with_buffer(features, num_classes, model):
        decoder = build(features, num_classes, model)
        decoder.register_buffer("scale", torch.ones(1), persistent=False)
        return decoder

    with DECODERS.temporarily():
        DECODERS.add("deeplabv3plus", RegisteredDecoder(with_buffer, (8, 16)), replace=True)
        planned = planned_for_evaluation(segmenter, config, 4)
    assert planned.decoder.scale is segmenter.decoder.scale


STRIDES = (
    "model.decoder=deeplabv3plus",
    "optimizer.learning_rate=0.02",
    "trainer.val_every_steps=4",
    "trainer.max_steps=10",
)


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """The same run, validated at the stride it trains at and at half of it."""
    folder = tmp_path_factory.mktemp("strides")
    plain = train(tiny_config(f"run_dir={folder}/plain", *STRIDES))
    finer = train(tiny_config(f"run_dir={folder}/finer", *STRIDES, "model.eval_output_stride=8"))
    return plain, finer


def last_weights(result):
    return read_checkpoint(result.run_dir / "checkpoints" / "last.ckpt")["state_dict"]


def test_validating_finer_leaves_training_as_it_is(runs):
    plain, finer = (last_weights(result) for result in runs)
    assert plain.keys() == finer.keys()
    assert all(torch.equal(plain[name], finer[name]) for name in plain)


def test_validation_is_at_the_finer_stride(runs, call_tool):
    """tools/evaluate.py finds the validation's numbers: by itself in the finer run, by an override in the plain one."""
    plain, finer = runs
    assert finer.scores != plain.scores
    for result, overrides in ((finer, []), (plain, ["model.eval_output_stride=8"])):
        last = result.run_dir / "checkpoints" / "last.ckpt"
        called = call_tool("evaluate.py", last, *overrides, "--output", result.run_dir / "at_8")
        assert called.returncode == 0, called.stderr
        metrics = json.loads((result.run_dir / "at_8" / "metrics.json").read_text())
        assert metrics["output_stride"] == 8
        assert metrics["miou"] == pytest.approx(finer.scores.miou, abs=1e-9)
    called = call_tool(
        "evaluate.py",
        finer.run_dir / "checkpoints" / "last.ckpt",
        "model.eval_output_stride=null",
        "--output",
        finer.run_dir / "at_16",
    )
    metrics = json.loads((finer.run_dir / "at_16" / "metrics.json").read_text())
    assert metrics["output_stride"] == 16
    assert metrics["miou"] == pytest.approx(plain.scores.miou, abs=1e-9)


def test_prediction_is_at_the_finer_stride(runs):
    plain, finer = runs
    assert Predictor(plain.run_dir).source.segmenter.backbone.output_stride == 16
    assert Predictor(finer.run_dir).source.segmenter.backbone.output_stride == 8
    assert load_segmenter(finer.run_dir).config.model.output_stride == 16


def test_what_cannot_be_planned_is_refused_before_training(tiny_config, synthetic_labels):
    config = tiny_config("model.decoder=deeplabv3_smp", "model.output_stride=8", "model.eval_output_stride=16")
    odd = config.model.deeplabv3_smp.model_copy(update={"atrous_rates": (5, 6, 8)})
    config = config.model_copy(update={"model": config.model.model_copy(update={"deeplabv3_smp": odd})})
    with pytest.raises(ConfigError, match=r"atrous_rates: \[5\] at output stride 8 are no whole rates at 16"):
        SegmentationTask(config, synthetic_labels, 5)


def test_evaluation_at_a_stride_that_the_decoder_refuses(tiny_run, call_tool, tmp_path):
    result = call_tool("evaluate.py", tiny_run.run_dir, "model.eval_output_stride=32", "--output", tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(
        "error: model.eval_output_stride: deeplabv3plus_smp works at output stride 8 or 16, not 32"
    )


def test_decoders_that_do_not_follow_say_so(caplog):
    with caplog.at_level(logging.WARNING, "segzoo"):
        check_training(settings("deeplabv3plus"), 2, (513, 513))
        check_training(settings("segformer"), 2, (513, 513))
        check_training(settings("unet", eval_output_stride=None), 2, (513, 513))
        assert not caplog.records
        check_training(settings("unet"), 2, (513, 513))
    assert "unet has convolutions on the dilated taps that do not dilate" in caplog.text
