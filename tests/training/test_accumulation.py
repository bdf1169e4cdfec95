"""`trainer.accumulate`: several batches in a step come to what one large batch comes to."""

from types import SimpleNamespace

import many_processes
import pytest
import torch
from run_files import rows

from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.data.datamodule import SegmentationData
from segzoo.data.preprocessing import normalize
from segzoo.errors import ConfigError
from segzoo.training.accumulation import accumulated_loss, parts_of
from segzoo.training.run import prepare
from segzoo.training.task import RunTask
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


def gradients_of(task, batch):
    task.zero_grad()
    loss = task.training_step(batch, 0)
    loss.backward()
    return loss.detach(), [
        parameter.grad.clone() for parameter in task.segmenter.parameters() if parameter.grad is not None
    ]


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
    (expected, gradients), (found, others) = gradients_of(whole, batch), gradients_of(parts, batch)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.step_loss, whole.step_loss, rtol=1e-6, atol=0, check_dtype=False)
    assert len(gradients) == len(others) > 50
    for first, second in zip(gradients, others, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-9)


def test_gradient_under_autocast_and_scaled_as_float16_training_does():
    """Casts of the weights that autocast keeps serve every part; a scale of the loss cancels out."""
    _, _, task = prepare(exact("data.batch_size=1", "trainer.accumulate=2"), None)
    batch = batch_of(2, task.labels)
    _, plain = gradients_of(task.train(), batch)
    found = []
    for keeps in (True, False):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=keeps):
            found.append(gradients_of(task, batch)[1])
    scaler = SimpleNamespace(get_scale=lambda: 1024.0)
    task.trainer = trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), global_step=0)
    _, scaled = gradients_of(task, batch)
    assert any(not torch.equal(first, second) for first, second in zip(plain, found[0], strict=True))
    assert trainer  # the task keeps none of it alive
    for expected, same, kept, anew in zip(plain, scaled, *found, strict=True):
        torch.testing.assert_close(same, expected, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(kept, anew, rtol=1e-4, atol=1e-7)


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


def test_memory_is_that_of_one_part():
    """Each part's graph is gone before the next part's is made, and the parameters' gradients appear at the end."""
    weight = torch.nn.Parameter(torch.ones(3))
    alive, most = [0], [0]

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            alive[0] -= 1
            assert weight.grad is None
            return gradient

    parts = parts_of({"image": torch.arange(12.0).view(4, 3), "mask": torch.zeros(4, 1), "id": list("abcd")}, 4)
    assert [part["id"] for part in parts] == [["a"], ["b"], ["c"], ["d"]]
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    loss = accumulated_loss(lambda part: Noted.apply(weight * part["image"]).sum(), parts, weights, [weight])
    assert (most[0], alive[0], weight.grad) == (1, 0, None)
    (2 * loss).backward()
    torch.testing.assert_close(weight.grad, 2 * weights @ torch.arange(12.0).view(4, 3))
    with pytest.raises(ValueError, match="do not make 3 equal parts"):
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
    data = SegmentationData(config.data, steps=None, epochs=3, seed=0, eval_batch_size=1, accumulate=2)
    assert data.steps == 5  # 36 images, 8 a step
    assert isinstance(prepare(config, None)[2], RunTask)
