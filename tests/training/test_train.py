import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segzoo.checkpoint.read import load_segmenter, read_checkpoint
from segzoo.config.load import load_config
from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError, DataError, InterruptedTrainingError, TrainingError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.resume import requested_config
from segzoo.training.train import TrainResult, check, train

Config = Callable[..., RunConfig]


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def test_run_directory_holds_what_was_promised(tiny_run: TrainResult, tiny_config: Config) -> None:
    folder = tiny_run.run_dir
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    pictures = {"curves.png", "overlays/step_000003.png", "overlays/step_000006.png"}
    texts = {".lock", "config.yaml", "environment.json", "images.json", "metrics.csv", "summary.json"}
    assert names == texts | pictures | checkpoints
    assert load_config(folder / "config.yaml") == tiny_config(f"run_dir={folder}")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.keys() >= {"best_val_miou", "epoch", "steps", "seconds", "images_per_second"}
    assert (summary["steps"], summary["epoch"]) == (6, 2.0)
    assert 0 <= summary["best_val_miou"] <= 1
    assert "torch" in json.loads((folder / "environment.json").read_text())["versions"]


def test_metrics_have_one_row_per_step_and_split(tiny_run: TrainResult) -> None:
    found = [(int(row["step"]), row["split"]) for row in rows(tiny_run.run_dir)]
    assert sorted(found) == sorted([*((step, "train") for step in range(1, 7)), (3, "val"), (6, "val")])
    validations = [row for row in rows(tiny_run.run_dir) if row["split"] == "val"]
    assert float(validations[-1]["miou"]) == pytest.approx(tiny_run.scores.miou)
    assert all(f"iou/{name}" in validations[0] for name in tiny_run.labels.names)


def test_checkpoint_describes_itself(tiny_run: TrainResult) -> None:
    trained = load_segmenter(tiny_run.run_dir)
    assert trained.path.name == "best.ckpt"
    assert trained.labels == tiny_run.labels
    assert trained.config.model.backbone.name == "xception"
    assert trained.description.metrics["val/miou"] == tiny_run.summary["best_val_miou"]
    assert not trained.segmenter.training


def test_same_seed_same_weights_another_seed_others(tiny_run: TrainResult, tiny_config: Config, tmp_path: Path) -> None:
    again = train(tiny_config(f"run_dir={tmp_path / 'again'}"))
    other = train(tiny_config(f"run_dir={tmp_path / 'other'}", "seed=1"))
    first, second, third = (weights(result.run_dir) for result in (tiny_run, again, other))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], third[key]) for key in first)


def test_stopped_and_resumed_equals_one_run(tiny_run: TrainResult, tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(f"run_dir={tmp_path / 'run'}")

    class Stop(Exception):
        pass

    def stop_at_step_5(task: SegmentationTask, batch: object, batch_index: int) -> torch.Tensor:
        if task.global_step == 4:
            raise Stop
        return original(task, batch, batch_index)  # type: ignore[arg-type]

    original = SegmentationTask.training_step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(SegmentationTask, "training_step", stop_at_step_5)
        train(config)
    assert [row["step"] for row in rows(tmp_path / "run")] == ["1", "2", "3", "3", "4"]

    train(config, resume=tmp_path / "run")
    whole, resumed = weights(tiny_run.run_dir), weights(tmp_path / "run")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert [(row["step"], row["split"]) for row in rows(tmp_path / "run")] == [
        (row["step"], row["split"]) for row in rows(tiny_run.run_dir)
    ]


def test_a_run_directory_is_used_once(tiny_run: TrainResult, tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match="holds a run already"):
        train(tiny_config(f"run_dir={tiny_run.run_dir}"))


def test_resume_with_another_configuration_is_refused(tiny_run: TrainResult) -> None:
    with pytest.raises(ConfigError, match=r"seed: the run has 0, you asked for 3"):
        requested_config(None, ["seed=3"], tiny_run.run_dir)
    with pytest.raises(ConfigError, match="no run in"):
        requested_config(None, [], tiny_run.run_dir / "nowhere")
    assert requested_config(None, ["seed=0"], tiny_run.run_dir).seed == 0


def test_max_epochs_counts_passes(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(
        f"run_dir={tmp_path}/run", "trainer.max_steps=null", "trainer.max_epochs=1", "trainer.val_every_steps=null"
    )
    result = train(config)
    assert (result.summary["steps"], result.summary["epoch"]) == (3, 1.0)


def test_last_validation_runs_when_the_interval_does_not_divide(tiny_config: Config, tmp_path: Path) -> None:
    result = train(tiny_config(f"run_dir={tmp_path}/run", "trainer.max_steps=3", "trainer.val_every_steps=2"))
    assert [row["step"] for row in rows(result.run_dir) if row["split"] == "val"] == ["2", "3"]
    assert read_checkpoint(result.run_dir / "checkpoints" / "last.ckpt")["segzoo"]["step"] == 3


def test_loss_that_is_not_finite_stops_with_the_images(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(f"run_dir={tmp_path}/run", "optimizer.name=sgd", "optimizer.learning_rate=1e10")
    with pytest.raises(TrainingError, match=r"the loss is .*, for the images"):
        train(config)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.batch_size=13", "data.batch_size: "),
        ("data.train_split=nosuch", "no split 'nosuch'"),
        ("data.batch_size=1", "deeplabv3plus_smp needs 2 images or more on each device, not 1"),
        ("model.output_stride=32", "deeplabv3plus_smp works at output stride 8 or 16, not 32"),
        ("trainer.devices=3", "data.batch_size: 4 cannot be shared evenly among 3 processes. Take a multiple of 3"),
        ("trainer.devices=4", "needs 2 images or more on each device, not 1"),
        ("trainer.num_nodes=2", "start with torchrun or srun"),
        ("trainer.sync_batchnorm=true", "torch has it for GPUs only"),
        ("model.weights=nowhere", "nowhere: no such checkpoint"),
    ],
)
def test_refused_before_anything_is_written(tiny_config: Config, tmp_path: Path, override: str, line: str) -> None:
    with pytest.raises((ConfigError, DataError), match=line):
        train(tiny_config(f"run_dir={tmp_path}/run", override))
    assert not (tmp_path / "run").exists()


def test_check_builds_everything_and_writes_nothing(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = check(tiny_config())
    assert text.startswith("ok: 12 training and 5 validation images")
    assert "first batch 4×3×48×64" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_the_resumed_run_equals_one_run(
    signum: signal.Signals, tiny_run: TrainResult, tiny_config: Config, tmp_path: Path
) -> None:
    config = tiny_config(f"run_dir={tmp_path / 'run'}")

    def signal_in_step_4(task: SegmentationTask, batch: object, batch_index: int) -> torch.Tensor:
        if task.global_step == 3:
            os.kill(os.getpid(), signum)
        return original(task, batch, batch_index)  # type: ignore[arg-type]

    original = SegmentationTask.training_step
    before = signal.getsignal(signum)
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(InterruptedTrainingError, match="stopped at step 4") as caught,
    ):
        patch.setattr(SegmentationTask, "training_step", signal_in_step_4)
        train(config)
    assert caught.value.exit_status == 128 + signum
    assert signal.getsignal(signum) == before

    train(config, resume=tmp_path / "run")
    whole, resumed = weights(tiny_run.run_dir), weights(tmp_path / "run")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    steps = [(row["step"], row["split"]) for row in rows(tmp_path / "run")]
    assert steps == [(row["step"], row["split"]) for row in rows(tiny_run.run_dir)]


def test_balanced_weights_become_numbers_in_the_run(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(f"run_dir={tmp_path}/run", "loss.class_weights=balanced", "trainer.max_steps=1")
    result = train(config)
    weights = load_config(result.run_dir / "config.yaml").loss.class_weights
    assert isinstance(weights, tuple)
    assert len(weights) == result.labels.num_classes
    names = dict(zip(result.labels.names, weights, strict=True))
    assert names["pole"] > names["ground"]
    assert load_segmenter(result.run_dir).config.loss.class_weights == weights


def test_a_validation_interval_beyond_the_run_validates_once(tiny_config: Config, tmp_path: Path) -> None:
    train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=2", "trainer.val_every_steps=50"))
    assert [(row["step"], row["split"]) for row in rows(tmp_path / "run")] == [
        ("1", "train"),
        ("2", "train"),
        ("2", "val"),
    ]


def test_a_run_stopped_before_its_summary_completes_without_new_rows(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(f"run_dir={tmp_path / 'run'}")
    train(config)
    before = rows(tmp_path / "run")
    summary = tmp_path / "run" / "summary.json"
    summary.unlink()
    train(config, resume=tmp_path / "run")
    assert json.loads(summary.read_text())["best_val_miou"] is not None
    assert rows(tmp_path / "run") == before


def test_a_resumed_run_no_longer_needs_the_weights_it_began_from(tiny_config: Config, tmp_path: Path) -> None:
    began = train(tiny_config(f"run_dir={tmp_path / 'first'}", "trainer.max_steps=1"))
    config = tiny_config(f"run_dir={tmp_path / 'run'}", f"model.backbone.weights={began.run_dir}")
    with pytest.raises(ConfigError, match="no such weights file"):
        train(tiny_config(f"run_dir={tmp_path / 'run'}", f"model.backbone.weights={tmp_path / 'nowhere.pth'}"))
    train(config)
    (tmp_path / "run" / "summary.json").unlink()
    shutil.rmtree(began.run_dir)
    kept = requested_config(None, resume=tmp_path / "run")
    assert train(kept, resume=tmp_path / "run").summary["steps"] == 6
