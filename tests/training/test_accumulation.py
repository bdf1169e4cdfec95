"""`trainer.accumulate`: several batches in a step come to what one large batch comes to."""

import many_processes
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from one_step import one_step
from run_files import rows

from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.data.loading.datamodule import SegmentationDataModule
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.tasks.task import parts_of
from segzoo.training.build import RunTask
from segzoo.training.run import prepare
from segzoo.training.train import check, train

IGNORE = 255


def exact(*overrides):
    return config_from_tree(apply_overrides(many_processes.EXACT, overrides))


def batch_of(images, labels):
    """Images with very unequal numbers of pixels that count; the last one has none."""
    mask = torch.randint(labels.num_classes, (images, 48, 64), dtype=torch.uint8)
    for number in range(images):
        mask[number, :, : 64 * number // (images - 1)] = IGNORE
    image = torch.randint(256, (images, 3, 48, 64), dtype=torch.uint8)
    return {"image": image, "mask": mask, "id": [f"image {number}" for number in range(images)]}


@pytest.mark.parametrize(
    "changes", [(), ("model.norm=frozen", "model.auxiliary_weight=0.4"), ("loss.label_smoothing=0.1",)]
)
@pytest.mark.parametrize("count", [2, 4])
def test_gradient_is_that_of_one_batch_whatever_is_ignored(count, changes, monkeypatch):
    """With the network in float64, where the order of sums does not show; losses are float32."""
    monkeypatch.setattr("segzoo.tasks.task.normalize", lambda *image: normalize(*image).double())
    _, _, whole = prepare(exact(*changes), None)
    _, _, parts = prepare(exact("data.batch_size=1", f"trainer.accumulate={count}", *changes), None)
    for task in (whole, parts):
        task.train()
        task.segmenter.double()
        for module in task.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
    parts.load_state_dict(whole.state_dict())
    batch = batch_of(4, whole.labels)
    (expected, gradients), (found, others) = one_step(whole, batch), one_step(parts, batch)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.step_loss, whole.step_loss, rtol=1e-6, atol=0, check_dtype=False)
    assert len(gradients) == len(others) > 50
    for first, second in zip(gradients, others, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-9)


def half_precision(scale):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


def test_gradients_of_half_precision_are_clipped_without_their_scale():
    """As float16 training scales losses on a GPU: the scale is out of the gradients before they are clipped."""
    _, _, task = prepare(exact("data.batch_size=1", "trainer.accumulate=2", "optimizer.learning_rate=1e-30"), None)
    batch = batch_of(2, task.labels)
    _, plain = one_step(task.train(), batch)
    for settings in ({"precision": "bf16-mixed"}, half_precision(256.0), half_precision(1024.0)):
        _, found = one_step(task, batch, **settings)
        assert any(not torch.equal(first, second) for first, second in zip(plain, found, strict=True))
        apart = sum((first - second).square().sum() for first, second in zip(plain, found, strict=True)).sqrt()
        assert apart < 0.1 * sum(gradient.square().sum() for gradient in plain).sqrt()
    task.config = exact("data.batch_size=1", "trainer.accumulate=2", "trainer.clip_norm=0.001")
    one_step(task, batch, **half_precision(1024.0))
    norm = torch.stack([parameter.grad.norm() for parameter in task.network.parameters()]).norm()
    assert float(norm) == pytest.approx(0.001, rel=1e-3)


def test_a_run_is_that_of_the_large_batch(tmp_path):
    """Loss curve, sample order, learning rate and length; metrics.csv counts optimiser steps."""
    shared = (
        "trainer.max_steps=null",
        "trainer.max_epochs=1",
        "trainer.val_every_steps=null",
        "optimizer.scale_to_batch=8",
    )
    whole = train(exact(f"run_dir={tmp_path / 'whole'}", *shared))
    parts = train(exact(f"run_dir={tmp_path / 'parts'}", "data.batch_size=1", "trainer.accumulate=4", *shared))
    assert whole.summary["steps"] == parts.summary["steps"] == 3
    assert whole.summary["epoch"] == parts.summary["epoch"] == 1.0
    for one, other in zip(rows(whole.run_dir), rows(parts.run_dir), strict=True):
        assert [one[key] for key in ("step", "epoch", "split", "learning_rate")] == [
            other[key] for key in ("step", "epoch", "split", "learning_rate")
        ]
        for key in ("loss", "miou"):
            assert bool(one[key]) == bool(other[key])
            assert float(one[key] or 0) == pytest.approx(float(other[key] or 0), rel=1e-4)


def test_memory_is_that_of_one_part(monkeypatch):
    """Each part's graph is gone before the next part's is made."""
    alive, most, sizes = [0], [0], []

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            alive[0] -= 1
            return gradient

    original = SegmentationTask.loss_of
    monkeypatch.setattr(
        SegmentationTask,
        "loss_of",
        lambda task, part: sizes.append(part["id"]) or Noted.apply(original(task, part)),
    )
    _, _, task = prepare(exact("data.batch_size=1", "trainer.accumulate=4"), None)
    one_step(task, batch_of(4, task.labels))
    assert (most[0], alive[0]) == (1, 0)
    assert sizes == [["image 0"], ["image 1"], ["image 2"], ["image 3"]]
    with pytest.raises(ConfigError, match="do not make 3 equal parts"):
        parts_of({"image": torch.zeros(4), "mask": torch.zeros(4), "id": list("abcd")}, 3)


def test_a_step_larger_than_the_split_is_refused(tiny_config, tmp_path):
    line = "trainer.accumulate: 4 batches of 4 are 16 images a step, more than the 12 samples of split train"
    with pytest.raises(ConfigError, match=line):
        train(tiny_config(f"run_dir={tmp_path}/run", "trainer.accumulate=4"))
    assert not (tmp_path / "run").exists()


def test_check_reads_a_whole_step(tiny_config):
    assert "first batch 8×3×48×64" in check(tiny_config("trainer.accumulate=2"))


def test_passes_over_the_split_count_steps(tiny_config):
    config = tiny_config("trainer.max_steps=null", "trainer.max_epochs=3", "trainer.accumulate=2")
    data = SegmentationDataModule(config.data, steps=None, epochs=3, seed=0, eval_batch_size=1, accumulate=2)
    assert data.steps == 5  # 36 images, 8 a step
    assert isinstance(prepare(config, None)[2], RunTask)
