"""Norms for small batches, a backbone that stands still, and the auxiliary head."""

import pytest
import torch
from torch import nn

from segzoo.backbones.layers import FrozenBatchNorm
from segzoo.checkpoint.read import load_segmenter, read_checkpoint
from segzoo.config.schema import ModelConfig
from segzoo.data.transforms.preprocessing import normalize
from segzoo.models.build import build_segmenter
from segzoo.tasks.optim import build_optimizer
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.train import train


def build(**model):
    tree = {"decoder": "unet", "backbone": {"name": "xception", "width": 0.1}}
    return build_segmenter(ModelConfig.model_validate(tree | model), num_classes=4)


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("frozen", FrozenBatchNorm), ("group", nn.GroupNorm)]
)
def test_norm_of_backbone_and_auxiliary_head(norm, kind):
    segmenter = build(norm=norm, auxiliary_weight=0.4)
    for part in (segmenter.backbone, segmenter.auxiliary):
        norms = [
            module for module in part.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm | nn.GroupNorm)
        ]
        assert norms
        assert all(type(module) is kind for module in norms)
    assert any(type(module) is nn.BatchNorm2d for module in segmenter.decoder.modules())  # SMP keeps its own


def test_group_norm_does_not_depend_on_the_batch():
    segmenter = build(norm="group", unet={"norm": "instance"}).double().train()
    images = torch.randn(3, 3, 65, 65, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(segmenter(images)[:1], segmenter(images[:1]), atol=1e-8)


def test_frozen_backbone_stands_still(tiny_config, synthetic_labels):
    config = tiny_config("model.freeze_backbone=true", "model.decoder=unet", "optimizer.learning_rate=0.1")
    segmenter = SegmentationTask(config, synthetic_labels, 3).segmenter
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    optimizer = build_optimizer(segmenter, config.optimizer, 4)
    for _ in range(2):
        segmenter.train()
        segmenter(torch.randn(2, 3, 48, 64)).square().mean().backward()
        optimizer.step()
    after = segmenter.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}
    kept = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert kept == {id(parameter) for parameter in segmenter.decoder.parameters()}


def test_a_frozen_backbone_stays_so_through_a_run(tiny_config, tmp_path):
    """Validation switches modes back and forth; the statistics have to be those of the first checkpoint."""
    result = train(tiny_config(f"run_dir={tmp_path}/run", "model.freeze_backbone=true", "model.eval_output_stride=8"))
    state = read_checkpoint(result.run_dir / "checkpoints" / "last.ckpt")["state_dict"]
    statistics = {name: value for name, value in state.items() if "num_batches_tracked" in name}
    assert {int(value) for name, value in statistics.items() if ".backbone." in name} == {0}
    assert {int(value) for name, value in statistics.items() if ".decoder." in name} == {6}


def test_auxiliary_head_exists_only_when_asked_for():
    plain, helped = build(), build(auxiliary_weight=0.4)
    extra = helped.state_dict().keys() - plain.state_dict().keys()
    assert extra
    assert all(name.startswith("auxiliary.") for name in extra)
    helped.load_state_dict(plain.state_dict(), strict=False)
    assert [tuple(logits.shape) for logits in helped.training_logits(torch.randn(2, 3, 65, 97))] == [
        (2, 4, 65, 97),
        (2, 4, 65, 97),
    ]
    assert len(plain.training_logits(torch.randn(2, 3, 65, 97))) == 1


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3plus"])
def test_auxiliary_head_is_the_published_one(decoder):
    """3×3 convolution to a quarter, norm, ReLU, dropout, 1×1; corners aligned: written out in torch's functions."""
    segmenter = build(decoder=decoder, auxiliary_weight=0.4).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        given = []
        segmenter.backbone.register_forward_pre_hook(lambda backbone, images: given.extend(images))
        found = segmenter.training_logits(image)[1]
        padded = given[0]
        tap = segmenter.backbone(padded)[3].relu()
        layers = segmenter.auxiliary.layers
        x = nn.functional.conv2d(tap, layers.convolution.weight, padding=1)
        assert x.shape[1] == tap.shape[1] // 4
        norm = layers.norm
        x = nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        ).relu()
        x = nn.functional.conv2d(x, layers.logits.weight, layers.logits.bias)
        expected = nn.functional.interpolate(x, padded.shape[-2:], mode="bilinear", align_corners=True)
    assert torch.allclose(found, expected[..., :65, :97], atol=1e-6)


def test_auxiliary_loss_is_added_by_its_weight(tiny_config, synthetic_labels):
    task = SegmentationTask(tiny_config("model.auxiliary_weight=0.4", "model.decoder=unet"), synthetic_labels, 3)
    task.segmenter.auxiliary.layers.dropout.p = 0.0
    images = torch.randint(256, (2, 3, 48, 64), dtype=torch.uint8)
    masks = torch.randint(synthetic_labels.num_classes, (2, 48, 64))
    task.train()
    with torch.no_grad():
        logits, auxiliary = task.segmenter.training_logits(normalize(images, task.config.data.preprocessing))
        expected = nn.functional.cross_entropy(logits, masks) + 0.4 * nn.functional.cross_entropy(auxiliary, masks)
    loss = task.loss_of({"image": images, "mask": masks, "id": ["a", "b"]})
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_auxiliary_head_stays_out_of_evaluation(tiny_config, tmp_path):
    """It learns, its weights are kept, and nothing but training looks at it: not even NaN in it shows."""
    result = train(tiny_config(f"run_dir={tmp_path}/run", "model.auxiliary_weight=0.4", "model.eval_output_stride=8"))
    trained = load_segmenter(result.run_dir)
    state = trained.segmenter.state_dict()
    assert int(state["auxiliary.layers.norm.num_batches_tracked"]) > 0
    image = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        before = trained.segmenter(image)
        for tensor in trained.segmenter.auxiliary.parameters():
            tensor.fill_(float("nan"))
        assert torch.equal(trained.segmenter(image), before)
