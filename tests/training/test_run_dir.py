"""The folder that a run makes for itself."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError
from segzoo.training import run_dir as module
from segzoo.training.run_dir import new_run_dir

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
