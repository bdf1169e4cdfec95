"""What a run makes of its validations: large images, nothing to measure, scores that are no numbers, no memory."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from segzoo.checkpoint.read import load_segmenter
from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError, TrainingError
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.resume import requested_config
from segzoo.training.train import train

Config = Callable[..., RunConfig]


@pytest.mark.parametrize("tile", ["32", "auto"])
def test_validation_sees_images_by_tiles(tile: str, tiny_config: Config, tmp_path: Path, monkeypatch) -> None:
    sizes = set()
    original = Segmenter.forward

    def forward(network: Segmenter, image: Tensor) -> Tensor:
        sizes.add(tuple(image.shape[-2:]))
        return original(network, image)

    monkeypatch.setattr(Segmenter, "forward", forward)
    monkeypatch.setattr("segzoo.training.build.choose_tile", lambda *_: 32)
    train(tiny_config(f"run_dir={tmp_path / 'run'}", f"evaluation.tile={tile}", "trainer.max_steps=1"))
    assert max(max(size) for size in sizes) == 32, "images are 48 x 64, those of the overlays, too"


def test_no_memory_in_a_validation(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        torch.empty(1 << 50)

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "validation_step", fail)
        with pytest.raises(TrainingError, match="^out of memory in the validation of step 3, which is saved") as failed:
            train(tiny_config(f"run_dir={run_dir}"))
    assert f"segzoo train --resume {run_dir} evaluation.tile=1024" in failed.value.problems[0]
    assert load_segmenter(run_dir / "checkpoints" / "last.ckpt").description.step == 3
    resumed = train(requested_config(None, ["evaluation.tile=32"], run_dir), resume=run_dir)
    assert resumed.summary["steps"] == 6


def test_scores_that_are_no_numbers_are_no_score(tiny_config: Config, tmp_path: Path, monkeypatch) -> None:
    original = SegmentationTask.forward
    monkeypatch.setattr(SegmentationTask, "forward", lambda task, image: original(task, image) * float("nan"))
    with pytest.raises(TrainingError, match="step 3: in the validation the network's scores are no numbers .* val_0"):
        train(tiny_config(f"run_dir={tmp_path / 'run'}"))
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def test_nothing_but_ignored_pixels(tiny_config: Config, tmp_path: Path, monkeypatch, caplog) -> None:
    """No measure, so no sign that a run gets no better; its newest network is as good a guess as any."""
    original = SegmentationTask.validation_step

    def ignored(task: SegmentationTask, batch: list[dict[str, Tensor]], index: int) -> None:
        original(task, [{**item, "mask": torch.full_like(item["mask"], 255)} for item in batch], index)

    caplog.set_level("INFO", "segzoo")
    monkeypatch.setattr(SegmentationTask, "validation_step", ignored)
    changes = ("trainer.early_stopping=1", "trainer.val_every_steps=2")
    summary = train(tiny_config(f"run_dir={tmp_path / 'run'}", *changes)).summary
    assert (summary["steps"], summary["best_step"], summary["best_val_miou"]) == (6, 6, None)
    assert "inf" not in caplog.text.replace("info", "")
    assert "step 2 of 6: val mIoU n/a" in caplog.text


def test_a_run_resumed_before_a_validation_has_no_loss_to_tell(
    tiny_config: Config, tmp_path: Path, monkeypatch, caplog
) -> None:
    run_dir = tmp_path / "run"

    def stop(*_: object) -> None:
        raise TrainingError("here")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "validation_step", stop)
        with pytest.raises(TrainingError, match="here"):
            train(tiny_config(f"run_dir={run_dir}", "trainer.max_steps=3"))
    caplog.clear()
    train(requested_config(None, resume=run_dir), resume=run_dir)
    assert re.search(r"step 3 of 3: val mIoU \d+\.\d %$", caplog.text, re.MULTILINE), caplog.text
    assert json.loads((run_dir / "summary.json").read_text())["steps"] == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_half_precision_needs_a_gpu(tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer.precision: 16 is for GPUs"):
        train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.precision=16"))
