"""Files that are whole or not there, after a kill and after a power cut too."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from segzoo.config.schema import RunConfig
from segzoo.data.whole_file import write_whole, written_whole
from segzoo.inference.predict import predict
from segzoo.training.run_dir import new_run_dir
from segzoo.training.train import TrainResult


def leftover(target: Path) -> Path:
    """What a killed process leaves that was writing a file."""
    with suppress(RuntimeError), written_whole(target) as temporary:
        raise RuntimeError
    temporary.write_bytes(b"half")
    return temporary


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says which file a number is")
def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    flush, move = os.fsync, Path.replace

    def fsync(number: int) -> None:
        happened.append("folder" if Path(f"/proc/self/fd/{number}").resolve().is_dir() else "content")
        flush(number)

    def replace(self: Path, target: Path) -> Path:
        happened.append("name")
        return move(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_whole(tmp_path / "a", b"content")
    with written_whole(tmp_path / "b") as temporary:
        temporary.write_text("content")
    assert happened == ["content", "name", "folder"] * 2
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"content"] * 2


def test_a_prediction_clears_away_what_a_killed_one_left(tiny_run: TrainResult, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    names = ("a.png", "areas.csv", "summary.json", "failed.json", "contact_sheet.jpg")
    left = [leftover(output / name) for name in names]
    others = leftover(output / "of_somebody_else.csv")
    predict(tiny_run.run_dir, tmp_path / "a.png", output=output, save=("mask", "areas"))
    assert [path for path in (*left, others) if path.exists()] == [others]


def test_a_new_run_clears_away_what_a_killed_one_left(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    left = [leftover(tmp_path / name) for name in ("config.yaml", "environment.json")]
    with new_run_dir(tiny_config(f"run_dir={tmp_path}"), "run"):
        assert not [path for path in left if path.exists()]
