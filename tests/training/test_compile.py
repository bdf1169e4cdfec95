"""`trainer.compile`: the same network, faster; nothing of it shows in a checkpoint."""

from functools import partial

import pytest
import torch
from run_files import rows, weights

from segzoo.checkpoint.read import load_segmenter
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.resume import requested_config
from segzoo.training.run import prepare
from segzoo.training.train import train

# In float32 the order of sums differs, and the first steps of AdamW turn that into the size of a step.
SMALL = (
    "model.decoder=unet",
    "model.unet.channels=[8, 8, 8, 8, 8]",
    "optimizer.name=sgd",
    "trainer.max_steps=2",
    "trainer.val_every_steps=2",
    "trainer.overlay_images=0",
)


class Stopped(Exception):
    pass


def check_compiled_run(tiny_config, tmp_path, *changes):
    """Against a plain run; and stopped after its first step and resumed, against itself."""
    calls = []
    original = torch.nn.Module.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda part: calls.append(part) or original(part))
        plain = train(tiny_config(f"run_dir={tmp_path / 'plain'}", *SMALL, *changes))
        assert calls == []
        compiled = train(tiny_config(f"run_dir={tmp_path / 'compiled'}", *SMALL, *changes, "trainer.compile=true"))
        assert len(calls) == 2  # backbone and decoder
    expected, found = weights(plain.run_dir), weights(compiled.run_dir)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-2, atol=1e-3)
    for one, other in zip(rows(plain.run_dir), rows(compiled.run_dir), strict=True):
        assert float(other["loss"] or 0) == pytest.approx(float(one["loss"] or 0), rel=1e-3)
        assert float(other["miou"] or 0) == pytest.approx(float(one["miou"] or 0), abs=0.02)
    assert load_segmenter(compiled.run_dir).config.trainer.compile
    return compiled


def test_every_network_of_a_run_is_compiled_and_keeps_its_names(tiny_config, monkeypatch):
    """The one that validates at another output stride too."""
    parts = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: parts.append(part))
    plain = prepare(tiny_config(), None)[2]
    assert parts == []
    task = prepare(tiny_config("trainer.compile=true", "model.eval_output_stride=8"), None)[2]
    assert len({id(part) for part in parts}) == 4
    image = torch.zeros(2, 3, 48, 64, dtype=torch.uint8)
    for training in (True, False):
        ran = set()
        with torch.nn.modules.module.register_module_forward_hook(lambda part, *_, ran=ran: ran.add(id(part))):
            task.train(training)(image)
        own = [part for part in parts if id(part) in ran]
        assert len(own) == 2
        assert (own == [task.segmenter.backbone, task.segmenter.decoder]) == training
    assert task.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.slow
def test_compiled_run_is_the_plain_one(tiny_config, tmp_path, monkeypatch):
    """Traced as always, and run by torch's own kernels, which takes seconds; the slow test has the real compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    check_compiled_run(tiny_config, tmp_path)


@pytest.mark.slow
def test_stopped_and_resumed_equals_one_run(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    changes = (*SMALL, "trainer.compile=true", "trainer.save_every_steps=1")
    whole = train(tiny_config(f"run_dir={tmp_path / 'whole'}", *changes))
    run_dir = tmp_path / "run"
    original = SegmentationTask.training_step

    def stop(task, batch, index):
        if task.global_step == 1:
            raise Stopped
        return original(task, batch, index)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(SegmentationTask, "training_step", stop)
        train(tiny_config(f"run_dir={run_dir}", *changes))
    train(requested_config(None, resume=run_dir), resume=run_dir)
    expected, found = weights(whole.run_dir), weights(run_dir)
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.slow
def test_compiled_by_inductor(tiny_config, tmp_path):
    check_compiled_run(tiny_config, tmp_path)
