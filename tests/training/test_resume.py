"""What `--resume` keeps, refuses and completes."""

import itertools
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning import Trainer
from ruamel.yaml import YAML

from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError, InterruptedTrainingError
from segzoo.training import callbacks, run
from segzoo.training.resume import requested_config
from segzoo.training.run_dir import RunDir, resumed_run_dir
from segzoo.training.signals import StopOnSignal
from segzoo.training.train import TrainResult, train

Config = Callable[..., RunConfig]


@pytest.fixture
def copied(tiny_run: TrainResult, tmp_path: Path) -> Path:
    """The tiny run, to be changed."""
    return Path(shutil.copytree(tiny_run.run_dir, tmp_path / "copied"))


def test_the_runs_own_file_contradicts_nothing(tiny_yaml: Path, tmp_path: Path) -> None:
    """Neither what was computed from it, nor what only the command line said at first."""
    tree = YAML(typ="safe", pure=True).load(tiny_yaml)
    tree["loss"] = {"class_weights": "balanced"}
    file = tmp_path / "balanced.yaml"
    with file.open("w") as opened:
        YAML(typ="safe", pure=True).dump(tree, opened)
    run_dir = tmp_path / "run"
    first = train(requested_config(str(file), [f"run_dir={run_dir}", "seed=3"]))
    kept = requested_config(str(file), [], first.run_dir)
    assert kept.seed == 3
    assert len(kept.loss.class_weights) == first.labels.num_classes
    with pytest.raises(ConfigError, match="seed: the run has 3, you asked for 4"):
        requested_config(str(file), ["seed=4"], first.run_dir)


def test_only_the_summary_was_missing(copied: Path, tiny_run: TrainResult) -> None:
    (copied / "summary.json").unlink()
    train(requested_config(None, resume=copied), resume=copied)
    summary = json.loads((copied / "summary.json").read_text())
    for key in ("last_val_miou", "best_val_miou", "best_step", "steps"):
        assert summary[key] == tiny_run.summary[key]


def test_a_finished_run_needs_no_data_to_say_so(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "prepare", None)
    with pytest.raises(ConfigError, match="is finished; nothing is left to do"):
        train(requested_config(None, resume=copied), resume=copied)


def test_leftovers_of_a_killed_write_are_cleared_away(copied: Path) -> None:
    left = [copied / "checkpoints" / "last.ckpt.part"]
    left += [folder / ".0123456789abcdef.01234567.tmp" for folder in (copied, copied / "overlays")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with resumed_run_dir(copied):
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_step_is_not_lost(signum: signal.Signals, tmp_path: Path) -> None:
    class Saved:
        run_dir = RunDir(tmp_path)

    stop = StopOnSignal(Saved())  # type: ignore[arg-type]
    stop.on_train_start(None, None)  # type: ignore[arg-type]
    before = signal.getsignal(signum)
    with pytest.raises(InterruptedTrainingError, match="--resume") as stopped, stop.listening():
        signal.raise_signal(signum)
    assert stopped.value.exit_status == 128 + signum
    assert signal.getsignal(signum) is before


def test_saving_is_no_training_time(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    saved = 0
    save = Trainer.save_checkpoint

    def slow(trainer: Trainer, *arguments: object) -> None:
        nonlocal saved
        saved += 1
        save(trainer, *arguments)

    clock = SimpleNamespace(perf_counter=lambda: next(ticks) + 1000 * saved)
    monkeypatch.setattr(Trainer, "save_checkpoint", slow)
    monkeypatch.setattr(callbacks, "time", clock)
    config = tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.save_every_steps=1", "trainer.max_steps=3")
    summary = train(config).summary
    assert saved == 5
    assert summary["steps"] * 4 / summary["images_per_second"] < 100
