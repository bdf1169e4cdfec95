"""`trainer.loggers`, and a script's own loggers and callbacks: Lightning's, with the numbers of metrics.csv."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from run_files import rows

from segzoo.checkpoint.read import load_segmenter
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.config.schema import RunConfig
from segzoo.config.trees import with_current_keys
from segzoo.errors import ConfigError, TrainingError
from segzoo.training.train import train

Config = Callable[..., RunConfig]
Numbers = dict[tuple[int, str], float]


def expected(run_dir: Path) -> Numbers:
    """What metrics.csv has; loggers count steps from 0."""
    found: Numbers = {}
    for row in rows(run_dir):
        step = int(row["step"]) - 1
        if row["split"] == "train":
            found[step, "train/loss"] = float(row["loss"])
        else:
            names = ("miou", "pixel_accuracy", *(name for name in row if name.startswith("iou/") and row[name]))
            found |= {(step, f"val/{name}"): float(row[name]) for name in names}
    return found


def in_csv(file: Path) -> Numbers:
    with file.open(newline="") as opened:
        cells = [(int(row["step"]), name, value) for row in csv.DictReader(opened) for name, value in row.items()]
    return {(step, name): float(value) for step, name, value in cells if "/" in name and value and name[:2] != "lr"}


def test_a_runs_numbers_are_in_its_loggers(tiny_config: Config, tmp_path: Path) -> None:
    """By the configuration and by a script; with the learning rate of each group beside them."""
    run_dir = tmp_path / "runs" / "mine"
    own = CSVLogger(tmp_path / "own")
    result = train(tiny_config(f"run_dir={run_dir}", "trainer.loggers=[csv]"), loggers=[own])
    files = [run_dir / "csv" / "version_0" / "metrics.csv", Path(own.log_dir) / "metrics.csv"]
    for file in files:
        assert in_csv(file) == pytest.approx(expected(run_dir), rel=1e-6)
        assert "lr-AdamW/weights" in file.read_text().splitlines()[0]
    assert (run_dir / "csv" / "version_0" / "hparams.yaml").read_text().startswith("data:")
    assert result.scores.miou == pytest.approx(expected(run_dir)[5, "val/miou"])


def test_tensorboard_in_the_run_directory(tiny_config: Config, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = tmp_path / "run"
    train(tiny_config(f"run_dir={run_dir}", "trainer.loggers=[tensorboard]"))
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith(("train/", "val/"))]
    found = {(event.step, name): event.value for name in names for event in events.Scalars(name)}
    assert found == pytest.approx(expected(run_dir), rel=1e-6)


def test_mlflow_in_a_folder(tiny_config: Config, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run_dir, folder = tmp_path / "run", tmp_path / "tracked"
    train(tiny_config(f"run_dir={run_dir}", f"trainer.loggers=[{{mlflow: {{tracking_uri: 'file:{folder}'}}}}]"))
    client = mlflow.MlflowClient(tracking_uri=f"file:{folder}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "segzoo"]
    (run,) = client.search_runs([experiment.experiment_id])
    found = {
        (metric.step, name): metric.value
        for name in run.data.metrics
        if name.startswith(("train/", "val/"))
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    assert found == pytest.approx(expected(run_dir), rel=1e-6)


def test_a_logger_that_does_not_start_is_one_line(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("no answer from host\nand a page of details")

    monkeypatch.setattr(CSVLogger, "log_hyperparams", fail)
    with pytest.raises(TrainingError, match=r"^trainer.loggers: CSVLogger does not start \(no answer from host\)\.$"):
        train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.loggers=[csv]"))


def test_callbacks_of_lightnings(tiny_config: Config, tmp_path: Path) -> None:
    """They hear of numbers as in any other training, and what they save is a checkpoint like ours."""
    best = ModelCheckpoint(tmp_path / "kept", monitor="val/miou", mode="max", filename="{step}")
    rates = LearningRateMonitor()
    callbacks = [best, rates, EarlyStopping(monitor="val/miou", mode="min", patience=1)]
    changes = ("trainer.val_every_steps=1", "trainer.max_steps=20", "optimizer.learning_rate=1e-30")
    result = train(
        tiny_config(f"run_dir={tmp_path / 'run'}", *changes), callbacks=callbacks, loggers=[CSVLogger(tmp_path / "log")]
    )
    assert result.summary["steps"] < 20, "equal scores are no gain"
    assert float(best.best_model_score) == pytest.approx(result.summary["best_val_miou"])
    assert load_segmenter(best.best_model_path).description.step == 1
    assert rates.lrs


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("trainer.loggers=[tensorbord]", r"^trainer.loggers: no logger 'tensorbord'. Did you mean tensorboard\?$"),
        ("trainer.loggers=[{csvv: {}}]", r"^trainer.loggers: no logger 'csvv'. Did you mean csv\?$"),
        ("trainer.loggers=[3]", r"^trainer.loggers: an entry is a name or one \{NAME: \{OPTION: VALUE\}\}, not 3$"),
        ("trainer.loggers=[{csv: 3}]", "^trainer.loggers: an entry is a name or one .*, not {'csv': 3}$"),
        ("trainer.loggers=[{csv: {}, mlflow: {}}]", "^trainer.loggers: an entry is a name or one "),
        ("trainer.loggers=[{csv: {nam: a}}]", "trainer.loggers: csv: no option 'nam'; it has save_dir, name"),
        ("trainer.tensorboard=true", r"trainer.tensorboard: now one of trainer.loggers: \[tensorboard\]"),
        ("trainer.wandb=mine", r"trainer.wandb: now one of trainer.loggers: \[\{wandb: \{project: NAME\}\}\]"),
        ("trainer.strategy=dpp", "trainer.strategy: no strategy 'dpp' for a run. Did you mean ddp"),
        ("trainer.strategy=ddp_spawn", "trainer.strategy: no strategy 'ddp_spawn'"),
    ],
)
def test_what_a_run_cannot_have_is_refused_before_it(
    change: str, line: str, tiny_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=line):
        train(tiny_config(f"run_dir={tmp_path / 'run'}", change))
    assert not (tmp_path / "run").exists()


def test_runs_of_before_keep_their_loggers(tiny_config: Config) -> None:
    tree = apply_overrides(tiny_config().model_dump(mode="json", exclude_unset=True), [])
    tree["trainer"] |= {"tensorboard": True, "wandb": "mine"}
    assert config_from_tree(with_current_keys(tree)).trainer.loggers == ("tensorboard", {"wandb": {"project": "mine"}})
    tree["trainer"] |= {"tensorboard": False, "wandb": None}
    assert config_from_tree(with_current_keys(tree)).trainer.loggers == ()
