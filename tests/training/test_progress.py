import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning import LightningModule
from rich.console import Console

from segzoo.config.schema import RunConfig
from segzoo.training import progress
from segzoo.training.callbacks import TrainingClock
from segzoo.training.train import train


def test_bar_and_lines(tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar shows every step, both validations run a bar of their own, and each ends in a line."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    seen: list[tuple[str, int]] = []
    lines: list[str] = []
    shown: list[str] = []
    original = progress.Progress.update

    def update(self: progress.Progress, task: object, **fields: object) -> None:
        seen.append((str(fields["note"]), int(str(fields["completed"]))))
        original(self, task, **fields)  # type: ignore[arg-type]
        console = Console(file=StringIO(), width=200, no_color=True, force_terminal=False)
        console.print(self.make_tasks_table(self.tasks))
        shown.append(console.file.getvalue())

    monkeypatch.setattr(progress.Progress, "update", update)
    monkeypatch.setattr(progress.logger, "info", lines.append)
    train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.progress=true"))
    assert [step for _, step in seen] == [1, 2, 3, 4, 5, 6]
    assert all("loss" in note and "images/s" in note for note, _ in seen)
    assert re.search(r"training .* 4/6 +loss \d.* val mIoU \d+\.\d % .* images/s .* GiB +\d:\d\d:\d\d", shown[3]), (
        shown[3]
    )
    assert "images/s" in seen[-1][0]
    assert seen[-1][0].endswith(" GiB")
    assert "val mIoU" in seen[-1][0]
    assert "loss" in seen[-1][0]
    assert lines[0] == "training: 6 steps of 4 images; validation every 3 steps"
    assert [line.split(":")[0] for line in lines[1:]] == ["step 3 of 6", "step 6 of 6"]
    assert re.fullmatch(r"step 6 of 6: val mIoU \d+\.\d %  loss \d\.\d{3}", lines[-1]), lines[-1]


def test_lines_where_no_terminal_shows_a_bar(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """One each LINE_EVERY seconds; the clock here goes 25 seconds a step."""
    lines: list[str] = []
    seconds = iter(range(0, 10_000, 25))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(progress.logger, "info", lines.append)
    train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.progress=true"))
    steps = [line for line in lines if " left without validations" in line]
    assert [line.split(":")[0] for line in steps] == ["step 3 of 6", "step 6 of 6"]
    assert re.fullmatch(
        r"step 3 of 6: loss \d\.\d{3}  \d+\.\d images/s, 0:\d\d:\d\d left without validations", steps[0]
    )
    assert capsys.readouterr().err == "", "not even an empty line"


def test_a_validation_is_a_sign_of_life_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind its line there is none of the minute that it took."""
    now, said = [0.0], []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(progress, "as_task", lambda module: module)
    report = progress.ProgressReport(6, 3, TrainingClock(4), show_bar=False)
    monkeypatch.setattr(progress.logger, "info", lambda _: said.append(now[0]))
    trainer, module = SimpleNamespace(global_step=0, is_global_zero=True), SimpleNamespace(step_loss=1, main_score=0.5)
    module.main_metric = SimpleNamespace(title="mIoU")
    report.on_train_start(trainer, module)  # type: ignore[arg-type]
    now[0] = 90.0
    report.on_validation_end(trainer, module)  # type: ignore[arg-type]
    for now[0] in (100.0, 149.0, 151.0, 152.0):
        report.on_train_batch_end(trainer, module, None, None, 0)  # type: ignore[arg-type]
    assert said == [0.0, 90.0, 151.0]


def test_without_a_bar_no_loss_is_read() -> None:
    """Reading it waits for the device."""
    report = progress.ProgressReport(6, 3, TrainingClock(4), show_bar=False)
    has_no_loss = LightningModule()
    report.on_train_batch_end(SimpleNamespace(global_step=5, is_global_zero=True), has_no_loss, None, None, 4)  # type: ignore[arg-type]


def test_training_from_a_script_says_how_it_goes(tiny_yaml: Path, tmp_path: Path) -> None:
    words = f"segzoo.load_config({str(tiny_yaml)!r}, ['run_dir={tmp_path / 'run'}', 'trainer.max_steps=1'])"
    command = [sys.executable, "-c", f"import segzoo; segzoo.train({words})"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    lines = ended.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["run directory", "training", "step 1 of 1"], ended.stderr
    assert ended.stdout == "", "it is for results"
