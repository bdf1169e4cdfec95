"""What docs/trust.md promises when a run goes wrong, each in a process of its own."""

import json
import logging
import multiprocessing
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_files import steps_of, weights

from segzoo.config.schema import RunConfig
from segzoo.data.cores import leave_signals_to_parent
from segzoo.errors import CheckpointError, ConfigError, TrainingError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.resume import requested_config
from segzoo.training.train import TrainResult, train

Config = Callable[..., RunConfig]
Run = Callable[..., object]

KILL_POINTS = {
    "first step": "in_step:0",
    "optimiser": "in_optimizer:1",
    "first validation": "in_validation:3",
    "first checkpoint": "in_write:1",
    "between best and last": "in_write:3",
    "behind a checkpoint": "in_step:3",
    "a step without": "in_step:4",
    "last validation": "in_validation:6",
    "last scores": "after_validation:6",
    "last checkpoint": "in_write:4:last",
    "start of a data process": "at_worker_start",
}


def resume(run_dir: Path) -> TrainResult:
    return train(requested_config(None, resume=run_dir), resume=run_dir)


def assert_equals_one_run(run_dir: Path, whole: TrainResult, same_weights: Callable[[Path, Path], bool]) -> None:
    assert same_weights(run_dir, whole.run_dir)
    assert steps_of(run_dir) == steps_of(whole.run_dir)
    assert not list(run_dir.rglob("*.part"))
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["best_val_miou"] == whole.summary["best_val_miou"]
    assert summary["best_step"] == whole.summary["best_step"]


@pytest.mark.parametrize(("fault", "workers"), [("in_step:4", 2), ("in_write:3", 0), ("in_validation:3", 0)])
def test_killed_and_resumed_equals_one_run(
    fault: str, workers: int, run_process: Run, tiny_yaml: Path, tiny_run: TrainResult, same_weights, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    ended = run_process(tiny_yaml, f"run_dir={run_dir}", f"data.num_workers={workers}", fault=fault)
    assert ended.status == -9, ended.stderr
    if fault == "in_write:3":  # last.ckpt must not claim a best.ckpt that is not there
        names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
        assert names == ["best.ckpt", "last.ckpt", "last.ckpt.part"]
    resume(run_dir)
    assert_equals_one_run(run_dir, tiny_run, same_weights)


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("point", KILL_POINTS)
def test_killed_anywhere_and_resumed_equals_one_run(
    point: str,
    workers: int,
    averaged: bool,
    run_process: Run,
    tiny_yaml: Path,
    tiny_run: TrainResult,
    averaged_run: TrainResult,
    averaged_changes: tuple[str, ...],
    same_weights,
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    if KILL_POINTS[point] == "at_worker_start" and not workers:
        pytest.skip("none starts")
    changes = averaged_changes if averaged else ()
    arguments = (tiny_yaml, f"run_dir={run_dir}", f"data.num_workers={workers}", *changes)
    assert run_process(*arguments, fault=KILL_POINTS[point]).status == -9
    resume(run_dir)
    assert_equals_one_run(run_dir, averaged_run if averaged else tiny_run, same_weights)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_again_and_again_mid_epoch_with_average_and_accumulation(
    workers: int,
    run_process: Run,
    tiny_yaml: Path,
    averaged_run: TrainResult,
    averaged_changes: tuple[str, ...],
    same_weights,
    tmp_path: Path,
) -> None:
    """Three steps are an epoch. Each step sees the same samples in whichever process comes to it."""
    run_dir, log = tmp_path / "run", tmp_path / "samples"
    arguments = (tiny_yaml, f"run_dir={run_dir}", f"data.num_workers={workers}", "trainer.save_every_steps=2")
    assert run_process(*arguments, *averaged_changes, fault=f"in_step:3 record:{log}").status == -9
    for fault, status in (("in_step:5", -9), ("", 0)):
        ended = run_process("--resume", run_dir, fault=f"{fault} record:{log}")
        assert ended.status == status, ended.stderr
    seen: dict[int, list[str]] = {}
    steps = []
    for line in log.read_text().splitlines():
        step, ids = json.loads(line)
        assert seen.setdefault(step, ids) == ids
        steps.append(step)
    assert steps == [0, 1, 2, 3, 3, 4, 5, 4, 5]
    for epoch in ((0, 1, 2), (3, 4, 5)):
        assert sorted(name for step in epoch for name in seen[step]) == [f"train_{number:05d}" for number in range(12)]
    assert_equals_one_run(run_dir, averaged_run, same_weights)
    assert run_process("--resume", run_dir).status == 2  # it is finished


def test_killed_before_the_first_checkpoint_starts_from_zero(
    run_process: Run, tiny_yaml: Path, tiny_run: TrainResult, same_weights, tmp_path: Path, caplog
) -> None:
    run_dir = tmp_path / "run"
    assert run_process(tiny_yaml, f"run_dir={run_dir}", fault="in_step:1").status == -9
    assert not list((run_dir / "checkpoints").iterdir())
    resume(run_dir)
    assert f"{run_dir}: no checkpoint was saved in it yet, so the run begins at its first step" in caplog.messages
    assert_equals_one_run(run_dir, tiny_run, same_weights)


@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        ("in_validation:3:SIGTERM", 143, "stopped at step 3, which is saved. Go on with: segzoo train --resume "),
        ("in_write:4:last:SIGTERM", 143, "stopped; all steps are saved. Go on with: segzoo train --resume "),
        ("twice:4", 130, ""),
        ("at_start:SIGINT", 130, "stopped before the first step; nothing was trained"),
    ],
)
def test_signals_end_the_process_with_the_shells_status(
    fault: str, status: int, line: str, run_process: Run, tiny_yaml: Path, tiny_run: TrainResult, same_weights, tmp_path
) -> None:
    run_dir = tmp_path / "run"
    began = time.monotonic()
    ended = run_process(tiny_yaml, f"run_dir={run_dir}", fault=fault)
    assert ended.status == status, ended.stderr
    assert time.monotonic() - began < 60
    assert line in ended.stderr
    assert "error:" not in ended.stderr, "it did what it was told to"
    assert "Traceback" not in ended.stderr
    assert (run_dir / "curves.png").is_file() == ("saved" in line)
    resume(run_dir)
    assert_equals_one_run(run_dir, tiny_run, same_weights)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("to_all:4", 143),
        ("to_all:3:SIGTERM:validation_step", 143),
        ("to_all:4:SIGHUP", 129),
        pytest.param("to_all:4:SIGINT", 130, marks=pytest.mark.slow),
        ("closed_terminal:4", 129),
    ],
)
def test_a_signal_to_all_processes_of_a_run_saves_it(
    fault: str, status: int, run_process: Run, tiny_yaml: Path, tiny_run: TrainResult, same_weights, tmp_path: Path
) -> None:
    """Data processes included, which the step needs to its end."""
    run_dir = tmp_path / "run"
    ended = run_process(tiny_yaml, f"run_dir={run_dir}", "data.num_workers=2", "trainer.progress=true", fault=fault)
    assert ended.status == status, ended.stderr
    assert ("which is saved" in ended.stderr) == ("closed" not in fault)
    assert "Traceback" not in ended.stderr
    step = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step == (3 if "validation" in fault else 5)
    resume(run_dir)
    assert_equals_one_run(run_dir, tiny_run, same_weights)


def test_a_data_process_ends_at_its_parents_word_only(tmp_path: Path) -> None:
    """A parent that leaves early sends it SIGTERM, and waits: were that ignored, it would wait for ever."""
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=in_data_process, args=(ready, done), daemon=True)
    process.start()
    assert ready.wait(60)
    for signum in ("TERM", "INT", "HUP"):
        subprocess.run(["sh", "-c", f"kill -{signum} {process.pid}"], check=True, timeout=60)
    process.join(1)
    assert process.is_alive()
    process.terminate()
    process.join(60)
    assert process.exitcode == 0


def in_data_process(ready, done) -> None:
    leave_signals_to_parent(0)
    ready.set()
    done.wait()


def test_a_full_disk_leaves_the_checkpoint_as_it_was(run_process: Run, tiny_yaml: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = (tiny_yaml, f"run_dir={run_dir}", "trainer.max_steps=4", "trainer.save_every_steps=4")
    assert run_process(*arguments, fault="in_step:3").status == -9
    before = (run_dir / "checkpoints" / "last.ckpt").read_bytes()
    ended = run_process("--resume", run_dir, fault="full_disk:3")
    assert ended.status == 1, ended.stderr
    assert "last.ckpt: not saved ([Errno 27] File too large); the file before it is untouched." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (run_dir / "checkpoints" / "last.ckpt").read_bytes() == before
    assert sorted(path.name for path in (run_dir / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_without_permission_the_checkpoint_stays_as_it_was(run_process: Run, tiny_yaml: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    arguments = (tiny_yaml, f"run_dir={tmp_path / 'run'}", "trainer.max_steps=4", "trainer.save_every_steps=1")
    ended = run_process(*arguments, "trainer.keep_every_steps=2", fault="no_permission:2")
    assert ended.status == 1, ended.stderr
    assert "last.ckpt: not saved ([Errno 13] Permission denied" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "step_000002.ckpt"]
    assert (folder / "last.ckpt").read_bytes() == (folder / "step_000002.ckpt").read_bytes()


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_run_needs_no_temporary_folder(
    workers: int, run_process: Run, tiny_yaml: Path, tiny_run: TrainResult, same_weights, tmp_path: Path
) -> None:
    run_dir, place = tmp_path / "run", tmp_path / "no_folder"
    place.touch()
    arguments = (tiny_yaml, f"run_dir={run_dir}", f"data.num_workers={workers}")
    ended = run_process(*arguments, fault=f"no_temporary_folder:{place}")
    assert ended.status == 0, ended.stderr
    assert_equals_one_run(run_dir, tiny_run, same_weights)


@pytest.mark.parametrize(
    ("fault", "change", "line"),
    [
        ("not_installed:tensorboard", "trainer.loggers=[tensorboard]", "loggers: tensorboard: not installed. `pip"),
        ("not_installed:wandb", "trainer.loggers=[{wandb: {project: a}}]", "wandb: not installed. `pip install wandb`"),
        ("no_program:nosuch++", "trainer.compile=true", "C++ compiler, and nosuch++ is not installed"),
    ],
)
def test_what_is_not_installed_is_named_and_nothing_written(
    fault: str, change: str, line: str, run_process: Run, tiny_yaml: Path, tmp_path: Path
) -> None:
    ended = run_process(tiny_yaml, f"run_dir={tmp_path / 'run'}", change, fault=fault)
    assert ended.status == 2, ended.stderr
    assert line in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fault", "workers", "line"),
    [
        ("lost_worker:2", 2, "A process that reads data was ended from outside"),
        ("no_memory:2", 0, "out of memory ("),
    ],
)
def test_lost_workers_and_memory_end_with_advice(
    fault: str, workers: int, line: str, run_process: Run, tiny_yaml: Path, tmp_path: Path
) -> None:
    ended = run_process(tiny_yaml, f"run_dir={tmp_path / 'run'}", f"data.num_workers={workers}", fault=fault)
    assert ended.status == 1, ended.stderr
    assert line in ended.stderr
    # torch raises from a signal handler; where that hits a destructor, Python prints it as ignored, and goes on.
    assert "Traceback" not in ended.stderr or "Exception ignored in" in ended.stderr


def test_a_loss_or_weights_that_are_not_finite_leave_finite_checkpoints(
    run_process: Run, tiny_yaml: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    ended = run_process(tiny_yaml, f"run_dir={run_dir}", "trainer.val_every_steps=1", fault="nan_loss:2")
    assert ended.status == 1
    assert "step 2: the loss is nan, for the images" in " ".join(ended.stderr.split())
    for name in ("last", "best"):
        assert all(tensor.isfinite().all() for tensor in weights(run_dir, name).values())


def test_weights_that_are_not_finite_are_never_saved(tiny_config: Config, tmp_path: Path, monkeypatch) -> None:
    original = SegmentationTask.training_step

    def explode(task: SegmentationTask, batch: object, index: int) -> torch.Tensor:
        loss = original(task, batch, index)
        next(task.segmenter.parameters()).data[0, 0] = float("inf")
        return loss

    monkeypatch.setattr(SegmentationTask, "training_step", explode)
    with pytest.raises(TrainingError, match=r"step 1: weights are no longer finite, .* last images were train_0"):
        train(tiny_config(f"run_dir={tmp_path}/run", "trainer.val_every_steps=1"))
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_two_runs_in_one_folder(start_process, tiny_yaml: Path, tmp_path: Path) -> None:
    run_dir, ready = tmp_path / "run", tmp_path / "ready"
    process = start_process((tiny_yaml, f"run_dir={run_dir}"), f"wait:1:{ready}", tmp_path)
    try:
        until = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < until:
            time.sleep(0.05)
        with pytest.raises(ConfigError, match=rf"run_dir: process {process.pid} on .* is training in"):
            resume(run_dir)
        with pytest.raises(ConfigError, match="is training in"):
            train(requested_config(str(tiny_yaml), [f"run_dir={run_dir}"]))
    finally:
        process.kill()
        process.join()
    assert requested_config(None, resume=run_dir).run_dir == str(run_dir)
    resume(run_dir)  # the lock went with the process


@pytest.mark.parametrize(
    "damage", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("cut", "empty")), "flipped"]
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_next(
    damage: str, tiny_config: Config, tiny_run: TrainResult, same_weights, tmp_path: Path, caplog
) -> None:
    run_dir = tmp_path / "run"
    train(tiny_config(f"run_dir={run_dir}", "trainer.keep_every_steps=2"))
    folder = run_dir / "checkpoints"
    assert sorted(path.name for path in folder.glob("step_*")) == [f"step_00000{step}.ckpt" for step in (2, 4, 6)]
    (run_dir / "summary.json").unlink()
    (folder / "step_000006.ckpt").unlink()
    (folder / "best.ckpt").unlink()
    last = folder / "last.ckpt"
    content = bytearray(last.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    last.write_bytes({"cut": content[:middle], "empty": b"", "flipped": content}[damage])
    logged = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            logging.getLogger("segzoo.training.resume"), "warning", lambda text, *values: logged.append(text % values)
        )
        resume(run_dir)
    assert [str(last) in logged[0], "step_000004.ckpt, of step 4, instead" in logged[1]] == [True, True]
    assert same_weights(run_dir, tiny_run.run_dir)
    for path in folder.iterdir():
        path.write_bytes(b"")
    (run_dir / "summary.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint in it can be read"):
        resume(run_dir)


def test_a_data_set_with_other_classes_is_refused(tiny_config: Config, tmp_path: Path, monkeypatch) -> None:
    config = tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=3")
    train(config)
    (tmp_path / "run" / "summary.json").unlink()
    from segzoo.data.loading import datamodule

    def renamed(config: object, split: str) -> object:
        data = build(config, split)
        names = ["heaven", *data.labels.names[1:]]
        data.__dict__["labels"] = data.labels.from_names(names)
        return data

    build = datamodule.build_dataset
    monkeypatch.setattr(datamodule, "build_dataset", renamed)
    with pytest.raises(ConfigError, match="other classes: the run has sky, .*; the data set now has heaven, "):
        train(config, resume=tmp_path / "run")
