"""`stages`: several runs in a row from one configuration."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_files import steps_of

from segzoo.backbones.layers import FrozenBatchNorm
from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.checkpoint.read import find_checkpoint, load_segmenter, read_checkpoint
from segzoo.config.load import config_from_tree, dump_config, load_config
from segzoo.errors import ConfigError, DataError
from segzoo.evaluation.evaluate import evaluate
from segzoo.training.resume import requested_config
from segzoo.training.train import check, train

SECOND = "{model: {output_stride: 8, norm: frozen}, optimizer: {learning_rate: 0.0005}, trainer: {max_steps: 2}}"
CHANGES = (f"stages=[{{}}, {SECOND}]", "trainer.max_steps=2", "trainer.val_every_steps=2", "optimizer.ema_decay=0.3")


def state(run_dir: Path, key: str = "state_dict", name: str = "best") -> dict[str, torch.Tensor]:
    return read_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt")[key]


@pytest.fixture(scope="module")
def staged(tiny_config, tmp_path_factory):
    return train(tiny_config(f"run_dir={tmp_path_factory.mktemp('runs') / 'staged'}", *CHANGES))


@pytest.fixture
def staged_yaml(tiny_config, tmp_path):
    path = tmp_path / "staged.yaml"
    path.write_text(dump_config(tiny_config(*CHANGES)))
    return path


def same_stages(one: Path, other: Path) -> bool:
    """Weights, averages and numbers of both stages, and what the whole run has of them."""
    for part in ("stage1", "stage2", "."):
        for name in ("best", "last"):
            for key in ("state_dict", TRAINING_STATE):
                first, second = state(one / part, key, name), state(other / part, key, name)
                if first.keys() != second.keys() or not all(torch.equal(first[k], second[k]) for k in first):
                    return False
        if part != "." and steps_of(one / part) != steps_of(other / part):
            return False
    return not list(other.rglob("*.part"))


def test_each_stage_is_a_run_and_the_whole_is_the_last_one(staged, tmp_path) -> None:
    for part in ("stage1", "stage2"):
        names = {path.name for path in (staged.run_dir / part).iterdir()}
        assert names >= {"config.yaml", "environment.json", "metrics.csv", "summary.json", "checkpoints", "curves.png"}
        assert steps_of(staged.run_dir / part) == [(1, "train"), (2, "train"), (2, "val")]
    assert {path.name for path in staged.run_dir.iterdir()} == {
        *(".lock", "config.yaml", "environment.json", "summary.json", "checkpoints", "stage1", "stage2"),
    }
    assert find_checkpoint(staged.run_dir) == staged.run_dir / "checkpoints" / "best.ckpt"
    assert evaluate(staged.run_dir, output=tmp_path).scores.miou == staged.scores.miou
    trained = load_segmenter(staged.run_dir)
    assert (trained.config.model.output_stride, trained.config.model.norm) == (8, "frozen")
    assert any(isinstance(module, FrozenBatchNorm) for module in trained.segmenter.modules())
    summary = json.loads((staged.run_dir / "summary.json").read_text())
    stages = [json.loads((staged.run_dir / part / "summary.json").read_text()) for part in ("stage1", "stage2")]
    assert summary == {**stages[1], "stages": stages} == staged.summary


def test_the_second_stage_begins_with_the_averaged_best_of_the_first(
    staged, tiny_config, tmp_path, monkeypatch
) -> None:
    """Seen without a step: its average starts as the network that it begins with."""
    from segzoo.tasks.segmentation import SegmentationTask

    began = []
    original = SegmentationTask.on_fit_start
    monkeypatch.setattr(
        SegmentationTask,
        "on_fit_start",
        lambda task: began.append({k: v.clone() for k, v in task.segmenter.state_dict().items()}) or original(task),
    )
    run_dir = tmp_path / "run"
    train(tiny_config(f"run_dir={run_dir}", *CHANGES))
    best = {key.removeprefix("segmenter."): value for key, value in state(run_dir / "stage1").items() if "segm" in key}
    beside = state(run_dir / "stage1", TRAINING_STATE)
    assert all(torch.equal(best[key], began[1][key]) for key in best)
    assert any(not torch.equal(beside[f"segmenter.{key}"], began[1][key]) for key in best)
    statistics = [key for key in best if "backbone" in key and key.endswith("running_mean")]
    second = state(run_dir / "stage2", TRAINING_STATE, "last")
    assert all(torch.equal(second[f"segmenter.{key}"], best[key]) for key in statistics)  # frozen
    assert any(not torch.equal(second[f"segmenter.{key}"], best[key]) for key in best)
    assert same_stages(staged.run_dir, run_dir)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("in_stage:1:1", marks=pytest.mark.slow),
        pytest.param("at_hand_over:1", marks=pytest.mark.slow),
        pytest.param("in_stage:2:0", marks=pytest.mark.slow),
        pytest.param("in_stage:2:1", marks=pytest.mark.slow),
        pytest.param("at_hand_over:2", marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_the_right_stage_goes_on(fault, staged, staged_yaml, run_process, call_tool, tmp_path) -> None:
    run_dir = tmp_path / "run"
    assert run_process(staged_yaml, f"run_dir={run_dir}", fault=fault).status == -9
    if fault == "in_stage:2:1":  # what is finished can be used
        assert load_segmenter(run_dir).config.model.output_stride == 16
    moved = shutil.move(run_dir, tmp_path / "moved") if fault == "at_hand_over:1" else run_dir
    ended = call_tool("train.py", "--resume", moved)
    assert ended.returncode == 0, ended.stderr
    assert same_stages(staged.run_dir, Path(moved))
    summary = json.loads((Path(moved) / "summary.json").read_text())
    assert summary["best_val_miou"] == staged.summary["best_val_miou"]
    again = call_tool("train.py", "--resume", moved)
    assert again.returncode == 2
    assert "is finished; nothing is left to do" in again.stderr


def test_a_signal_names_the_folder_of_the_whole_run(staged_yaml, run_process, tmp_path) -> None:
    run_dir = tmp_path / "run"
    ended = run_process(staged_yaml, f"run_dir={run_dir}", fault="in_stage:2:0:SIGTERM")
    assert ended.status == 143, ended.stderr
    assert ended.stderr.endswith(f"Go on with: segzoo train --resume {run_dir}\n")


def problems(tiny_config, *overrides: str) -> list[str]:
    with pytest.raises((ConfigError, DataError)) as caught:
        train(tiny_config(*overrides))
    return caught.value.problems


def test_keys_of_stages_are_checked_in_one_go(tiny_config) -> None:
    stages = [
        {"seed": -1, "model": {"weights": "allowed.ckpt"}},
        {
            "model": {"output_strid": 8, "weights": "a.ckpt", "decoder": "unett"},
            "trainer": {"devices": 2},
            "stages": [],
        },
        {"run_dir": "elsewhere", "trainer": {"max_epochs": 2}},
    ]
    from segzoo.tasks.names import known_names

    tree = tiny_config().model_dump(mode="json", exclude_unset=True) | {"stages": stages}
    with pytest.raises(ConfigError) as caught:
        config_from_tree(tree, known_names=known_names())
    starts = [
        "stages[0].seed: should be greater than or equal to 0",
        "stages[1].stages: a stage has no stages of its own",
        "stages[1].trainer.devices: is said once for all stages",
        "stages[1].model.weights: a stage begins with the network of the one before",
        "stages[1].model.output_strid: unknown key. Did you mean model.output_stride?",
        "stages[1].model.decoder: unknown name 'unett'. Did you mean unet?",
        "stages[2].run_dir: is said once for all stages",
        "stages[2].trainer: give exactly one of max_steps and max_epochs",
    ]
    assert len(caught.value.problems) == len(starts)
    for line, start in zip(caught.value.problems, starts, strict=True):
        assert line.startswith(start)


def test_what_cannot_be_trained_is_refused_before_the_first_stage(tiny_config, tmp_path) -> None:
    stages = (
        "stages=[{data: {batch_size: 13}}, {model: {backbone: {width: 0.2}}, loss: {class_weights: [1, 2]}},"
        " {model: {output_stride: 32}}, {data: {train_split: nosuch}}]"
    )
    found = problems(tiny_config, f"run_dir={tmp_path / 'run'}", stages)
    starts = (
        "stages[0].data.batch_size: 13 is more than the 12 samples",
        "stages[1].loss.class_weights: ",
        "stages[2].model.output_stride: deeplabv3plus_smp works at output stride 8 or 16, not 32",
        "stages[3].data: no split 'nosuch'",
    )
    assert not (tmp_path / "run").exists()
    assert len(found) == len(starts)
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ("{model: {backbone: {width: 0.2}}}", "stages[1].model: the network of the stage before does not fit: "),
        ("{data: {ignore_classes: [pole]}}", "stages[1].data: other classes (sky, "),
        ("{trainer: {accumulate: 9}}", "stages[1].trainer.accumulate: 9 batches of 4 are 36 images a step"),
    ],
)
def test_a_stage_has_to_take_the_network_of_the_one_before(second, line, tiny_config, tmp_path) -> None:
    (found,) = problems(tiny_config, f"run_dir={tmp_path / 'run'}", f"stages=[{{}}, {second}]")
    assert found.startswith(line)
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_in_all_stages_is_said_once(tiny_config) -> None:
    (found,) = problems(tiny_config, "data.batch_size=13", f"stages=[{{}}, {SECOND}]")
    assert found.startswith("data.batch_size: 13 is more than")


def test_an_auxiliary_head_may_go(tiny_config, tmp_path) -> None:
    second = "{model: {auxiliary_weight: 0.0}}"
    changes = ("model.auxiliary_weight=0.4", "trainer.max_steps=1", f"stages=[{{}}, {second}]")
    result = train(tiny_config(f"run_dir={tmp_path / 'run'}", *changes))
    assert any("auxiliary." in name for name in state(result.run_dir / "stage1"))
    assert not any("auxiliary." in name for name in state(result.run_dir))


def test_check_builds_every_stage(tiny_config, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = check(tiny_config(*CHANGES, "trainer.max_steps=7")).splitlines()
    assert [line[:11] for line in lines] == ["stage 1: ok", "stage 2: ok"]
    assert "7 steps" in lines[0]
    assert "2 steps" in lines[1]
    assert list(tmp_path.iterdir()) == []


def test_a_dumped_configuration_of_stages_loads_again(staged, tiny_config) -> None:
    config = tiny_config(f"run_dir={staged.run_dir}", *CHANGES)
    assert load_config(staged.run_dir / "config.yaml") == config
    assert requested_config(None, resume=staged.run_dir) == config
