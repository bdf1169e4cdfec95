"""The folder that a run makes for itself."""

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError
from segzoo.training import run_dir as module
from segzoo.training.run_dir import new_run_dir, resumed_run_dir
from segzoo.training.train import TrainResult

NOON = datetime(2026, 1, 2, 12, 0, 0).astimezone()


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda: NOON))
    config = tiny_config().model_copy(update={"run_dir": None})
    made = []
    for _ in range(3):
        with new_run_dir(config, "name") as run_dir:
            made.append(str(run_dir.path))
            assert run_dir.config.is_file()
            assert run_dir.environment.is_file()
    assert made == [f"runs/name/2026-01-02_12-00-00{end}" for end in ("", "_2", "_3")]


@pytest.mark.parametrize("place", ["file", "file/below", None])
def test_a_folder_that_cannot_be_made_is_one_line(
    place: str | None, tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs").touch()  # where a run without run_dir goes
    monkeypatch.chdir(tmp_path)
    config = tiny_config().model_copy(update={"run_dir": place})
    with (
        pytest.raises(ConfigError, match=r"run_dir: cannot write to .*\. Name another folder\.$"),
        new_run_dir(config, "n"),
    ):
        pytest.fail("made")


@pytest.fixture
def foreign(tiny_run: TrainResult, tmp_path: Path) -> Path:
    """The tiny run, as if it came from somebody else."""
    return Path(shutil.copytree(tiny_run.run_dir, tmp_path / "foreign"))


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "file"])
def test_a_lock_that_is_none_is_left_alone(kind: str, foreign: Path, tmp_path: Path) -> None:
    lock, notes = foreign / ".lock", tmp_path / "notes.txt"
    lock.unlink()
    if kind == "file":
        lock.write_text("processing notes, many lines of them")
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(notes)
    if kind == "link":
        notes.write_text("my precious notes")
    with pytest.raises(ConfigError, match=r"^run_dir: .*\.lock.*ame another folder\.$"), resumed_run_dir(foreign):
        pytest.fail("opened")
    assert not notes.exists() or notes.read_text() == "my precious notes"
    assert notes.exists() == (kind == "link")
    assert kind != "file" or lock.read_text() == "processing notes, many lines of them"
