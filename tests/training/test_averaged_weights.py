"""`optimizer.ema_decay` in a run: the average's closed form, what a checkpoint means, resuming."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segzoo.backbones.weights.own import PREFIXES
from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.checkpoint.read import load_segmenter, read_checkpoint
from segzoo.config.schema import RunConfig
from segzoo.errors import CheckpointError
from segzoo.evaluation.evaluate import evaluate
from segzoo.training.resume import requested_config
from segzoo.training.train import TrainResult, prepare, train

Config = Callable[..., RunConfig]
CHANGES = ("optimizer.ema_decay=0.3", "trainer.keep_every_steps=1")


@pytest.fixture(scope="module")
def averaged_run(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(tiny_config(f"run_dir={tmp_path_factory.mktemp('runs') / 'averaged'}", *CHANGES))


def content(run_dir: Path, name: str) -> dict:
    return read_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt")


def assert_equal_states(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_training_itself_is_unchanged(averaged_run: TrainResult, tiny_run: TrainResult) -> None:
    own = content(averaged_run.run_dir, "last")[TRAINING_STATE]
    assert_equal_states(own, content(tiny_run.run_dir, "last")["state_dict"])


def test_average_of_every_step_in_closed_form(averaged_run: TrainResult, tiny_config: Config) -> None:
    start = prepare(tiny_config(), None)[2].state_dict()
    average = {key: value.double() for key, value in start.items() if key.startswith(PREFIXES["segmentation"])}
    for step in range(1, 7):
        saved = content(averaged_run.run_dir, f"step_{step:06d}")
        decay = min(0.3, (1 + step) / (10 + step))
        for key, value in average.items():
            weights = saved[TRAINING_STATE][key]
            average[key] = decay * value + (1 - decay) * weights if weights.is_floating_point() else weights
            torch.testing.assert_close(saved["state_dict"][key].double(), average[key].double(), rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(saved["state_dict"][key], saved[TRAINING_STATE][key]) for key in average)


def test_what_was_validated_is_what_is_loaded_and_evaluated(averaged_run: TrainResult, tmp_path: Path) -> None:
    best = content(averaged_run.run_dir, "best")
    loaded = load_segmenter(averaged_run.run_dir).segmenter.state_dict()
    assert_equal_states({PREFIXES["segmentation"] + key: value for key, value in loaded.items()}, best["state_dict"])
    measured = evaluate(averaged_run.run_dir, output=tmp_path).scores
    assert measured.miou == best["segzoo"]["metrics"]["val/miou"]


def test_resumed_equals_one_run_bitwise(averaged_run: TrainResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(averaged_run.run_dir, folder)
    (folder / "summary.json").unlink()
    for step in (5, 6):
        (folder / "checkpoints" / f"step_{step:06d}.ckpt").unlink()
    shutil.copy(folder / "checkpoints" / "step_000004.ckpt", folder / "checkpoints" / "last.ckpt")
    train(requested_config(None, resume=folder), resume=folder)
    whole, resumed = content(averaged_run.run_dir, "last"), content(folder, "last")
    assert resumed["segzoo"]["step"] == 6
    for key in ("state_dict", TRAINING_STATE):
        assert_equal_states(whole[key], resumed[key])
    with (folder / "metrics.csv").open(newline="") as file:
        scores = [row["miou"] for row in csv.DictReader(file) if row["split"] == "val"]
    assert float(scores[-1]) == pytest.approx(averaged_run.scores.miou)


def test_a_checkpoint_without_the_weights_beside_the_average_is_refused(
    averaged_run: TrainResult, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(averaged_run.run_dir, folder)
    (folder / "summary.json").unlink()
    last = folder / "checkpoints" / "last.ckpt"
    plain = torch.load(last, weights_only=True)
    del plain[TRAINING_STATE]
    torch.save(plain, last)
    with pytest.raises(CheckpointError, match=rf"^{last}: has no training_state_dict, .*model.weights=CHECKPOINT\.$"):
        train(requested_config(None, resume=folder), resume=folder)


def test_saved_amid_a_validation_nothing_is_mixed_up(tiny_config: Config) -> None:
    task = prepare(tiny_config(*CHANGES), None)[2]
    task.on_fit_start()
    average = {key: value.clone() for key, value in task.state_dict().items()}
    with torch.no_grad():
        for parameter in task.parameters():
            parameter += 1
    own = {key: value.clone() for key, value in task.state_dict().items()}

    def saved() -> dict:
        checkpoint = {"state_dict": task.state_dict()}
        task.on_save_checkpoint(checkpoint)
        return checkpoint

    for hook in (task.on_validation_start, task.on_validation_end):
        hook()
        assert_equal_states(saved()["state_dict"], average)
        assert_equal_states(saved()[TRAINING_STATE], own)
    assert_equal_states(task.state_dict(), own)
