"""Runs are trained once, go on where they were stopped, and are never mixed with others."""

import csv
import json
from pathlib import Path

import pytest

from laboratory.experiments import runs as module
from laboratory.experiments.paper import CONFIG, chosen_experiments
from laboratory.experiments.report import run_experiments
from laboratory.experiments.results import read_curve
from laboratory.experiments.runs import plan_runs, train_runs
from segzoo.config.load import load_config
from segzoo.errors import ConfigError, InterruptedTrainingError, TrainingError
from segzoo.tasks.classification import ClassificationTask
from segzoo.tasks.names import known_names
from segzoo.training.train import train

RESIDUAL = chosen_experiments("residual")
TINY = ("--experiment", "residual", "--steps", 4, "--width", "0.1", "--seeds", 1)
SETTINGS = ("data.batch_size=4", "data.image_size=40", "trainer.val_every_steps=2", "trainer.progress=false")


class Stopped(Exception):
    pass


@pytest.fixture
def config(class_folder):
    overrides = [*SETTINGS, f"data.root={class_folder}", "trainer.max_steps=4", "model.backbone.width=0.1"]
    return lambda *more: load_config(CONFIG, [*overrides, *more], known_names=known_names())


@pytest.fixture
def trained(monkeypatch):
    """(folder, resumed) of each run that is asked for; none is trained."""
    asked = []
    monkeypatch.setattr(
        module, "train", lambda config, *, resume: asked.append((Path(config.run_dir).parent.name, resume))
    )
    return asked


def only_line(result):
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    return line


def test_command_trains_reports_and_then_only_what_is_new(call_tool, class_folder, tmp_path, monkeypatch):
    command = ("paper_experiments.py", *TINY, "--data", class_folder, "--output", tmp_path, *SETTINGS)
    first = call_tool(*command)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "residual.png").is_file()
    report = (tmp_path / "report.md").read_text()
    assert report in first.stdout
    for name in ("paper", "no_residuals"):
        folder = tmp_path / "runs" / name / "seed_0"
        assert json.loads((folder / "summary.json").read_text())["steps"] == 4
        with (folder / "metrics.csv").open() as file:
            values = [float(row["top1"]) for row in csv.DictReader(file) if row["split"] == "val"]
        assert len(values) == 2
        assert f"| {100 * values[-1]:.1f} | {100 * sum(values) / 2:.1f} |" in report
    assert not (tmp_path / "pictures").exists()

    asked = []
    monkeypatch.setattr(module, "train", lambda config, *, resume: asked.append(resume))
    again = call_tool(*command)
    assert again.returncode == 0
    assert not asked
    assert (tmp_path / "report.md").read_text() == report

    (tmp_path / "runs" / "paper" / "seed_0" / "summary.json").unlink()
    call_tool(*command)
    assert asked == [tmp_path / "runs" / "paper" / "seed_0"]

    refused = call_tool(*command, "data.batch_size=2")
    assert only_line(refused) == (
        "error: data.batch_size: the run has 4, you asked for 2. All runs in --output "
        f"{tmp_path} share one configuration; start a new run for this."
    )


def test_stopped_run_goes_on_to_the_same_curve(config, tmp_path, monkeypatch):
    whole, stopped = (
        plan_runs(config(), RESIDUAL, seeds=1, output=tmp_path / name)[0] for name in ("whole", "stopped")
    )
    original = ClassificationTask.training_step

    def stop(task, batch, index):
        if task.global_step == 3:
            raise Stopped
        return original(task, batch, index)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ClassificationTask, "training_step", stop)
        train_runs([stopped])
    assert not stopped.finished
    assert train_runs([whole, stopped]) == []
    first, second = read_curve(whole), read_curve(stopped)
    assert (first.steps, first.top1) == (second.steps, second.top1)
    assert first.steps == (2, 4)


def test_order_leaves_whole_comparisons(config, tmp_path, trained):
    run_plan = plan_runs(config(), chosen_experiments(None), seeds=2, output=tmp_path)
    assert [run.config.seed for run in run_plan] == [0] * 8 + [1] * 8
    train_runs(run_plan)
    assert [name for name, _ in trained] == [run.variant.name for run in run_plan]
    assert {resume for _, resume in trained} == {None}


def test_stopped_by_a_signal(config, tmp_path, monkeypatch):
    def stop(config, *, resume):
        raise InterruptedTrainingError(15, "go on with --resume")

    monkeypatch.setattr(module, "train", stop)
    with pytest.raises(InterruptedTrainingError, match="The same command goes on") as left:
        run_experiments(config(), RESIDUAL, seeds=1, output=tmp_path)
    assert left.value.exit_status == 143


def test_a_run_that_fails_costs_no_other(config, tmp_path, monkeypatch):
    def diverge(config, *, resume):
        if not config.model.backbone.residual:
            raise TrainingError("the loss is not finite")
        return train(config, resume=resume)

    monkeypatch.setattr(module, "train", diverge)
    outcome = run_experiments(config(), RESIDUAL, seeds=1, output=tmp_path)
    assert outcome.failed == (f"{tmp_path}/runs/no_residuals/seed_0: the loss is not finite",)
    assert "**open**: no finished run of without residuals" in outcome.markdown
    assert outcome.failed[0] in outcome.markdown


def test_what_cannot_be_compared_is_refused_in_one_go(config, tmp_path):
    overrides = ("model.backbone.residual=false", "model.backbone.weights=imagenet", "trainer.early_stopping=2")
    with pytest.raises(ConfigError) as refused:
        plan_runs(
            config(*overrides, "trainer.max_steps=null", "trainer.max_epochs=2"), RESIDUAL, seeds=1, output=tmp_path
        )
    keys = [line.split(":")[0] for line in refused.value.problems]
    assert keys == [
        "trainer.max_steps",
        "trainer.early_stopping",
        "model.weights, model.backbone.weights",
        "model.backbone",
    ]
    with pytest.raises(ConfigError, match="--seeds: 0"):
        plan_runs(config(), RESIDUAL, seeds=0, output=tmp_path)
    with pytest.raises(ConfigError, match="task: segmentation"):
        plan_runs(load_config("configs/quickstart.yaml"), RESIDUAL, seeds=1, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_names_are_one_line(call_tool, class_folder, tmp_path):
    wrong = call_tool("paper_experiments.py", "--experiment", "residuals", "--output", tmp_path / "new")
    assert only_line(wrong) == "error: --experiment: unknown name 'residuals'. Did you mean residual?"
    absent = call_tool("paper_experiments.py", "--data", tmp_path / "none", "--output", tmp_path / "new", *TINY)
    assert "none" in only_line(absent)
    assert not list(tmp_path.glob("new/runs/*/*/config.yaml"))
    (tmp_path / "file").touch()
    barred = call_tool("paper_experiments.py", "--data", class_folder, "--output", tmp_path / "file", *TINY)
    assert only_line(barred).startswith(f"error: --output: {tmp_path}/file: cannot be written to (")
