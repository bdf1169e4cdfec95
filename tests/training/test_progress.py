import re
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
    seen: list[tuple[str, int]] = []
    lines: list[str] = []
    shown: list[str] = []
    original = progress.Progress.update

    def update(self: progress.Progress, task: object, **fields: object) -> None:
        seen.append((str(fields["note"]), int(str(fields["completed"]))))
        original(self, task, **fields)  # type: ignore[arg-type]
        console = Console(file=StringIO(), width=200)
        console.print(self.make_tasks_table(self.tasks))
        shown.append(console.file.getvalue())

    monkeypatch.setattr(progress.Progress, "update", update)
    monkeypatch.setattr(progress.logger, "info", lambda text, *values: lines.append(text % values))
    train(tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.progress=true"))
    assert [step for _, step in seen] == [1, 2, 3, 4, 5, 6]
    assert all("loss" in note and "images/s" in note for note, _ in seen)
    assert re.search(r"training .* 4/6 +loss \d.* val mIoU 0\.\d.* images/s .* GiB +\d:\d\d:\d\d", shown[3]), shown[3]
    assert "images/s" in seen[-1][0]
    assert seen[-1][0].endswith(" GiB")
    assert "val mIoU" in seen[-1][0]
    assert "loss" in seen[-1][0]
    assert [line.split(":")[0] for line in lines] == ["step 3 of 6", "step 6 of 6"]


def test_without_a_bar_no_loss_is_read() -> None:
    """Reading it waits for the device."""
    report = progress.ProgressReport(6, TrainingClock(4), show_bar=False)
    has_no_loss = LightningModule()
    report.on_train_batch_end(SimpleNamespace(global_step=5), has_no_loss, None, None, 4)  # type: ignore[arg-type]
