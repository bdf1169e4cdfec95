import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch

from segzoo.checkpoint.read import find_checkpoint, load_segmenter
from segzoo.checkpoint.write import AtomicCheckpointIO
from segzoo.errors import CheckpointError, ConfigError
from segzoo.training.train import TrainResult


class Payload:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_best_else_last_else_refused(tiny_run: TrainResult, tmp_path: Path) -> None:
    assert find_checkpoint(tiny_run.run_dir).name == "best.ckpt"
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run.run_dir, copy)
    (copy / "checkpoints" / "best.ckpt").unlink()
    assert find_checkpoint(copy).name == "last.ckpt"
    with pytest.raises(ConfigError, match="a folder without checkpoints/best.ckpt, last.ckpt or model.safetensors"):
        find_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match="no such checkpoint"):
        find_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("environment", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}])
def test_pickles_are_refused_and_not_executed(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    harm = tmp_path / "harm"
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Payload(harm)))
    torch.save({"segzoo": Payload(harm), "state_dict": {}}, tmp_path / "torch.ckpt")
    for name in ("plain.ckpt", "torch.ckpt"):
        with pytest.raises(CheckpointError, match="could run code. Nothing was executed"):
            load_segmenter(tmp_path / name)
    assert not harm.exists()


def test_foreign_and_damaged_files(tiny_run: TrainResult, tmp_path: Path) -> None:
    good = find_checkpoint(tiny_run.run_dir).read_bytes()
    cases = {"empty": b"", "cut": good[: len(good) // 2], "html": b"<html>not found</html>"}
    for name, content in cases.items():
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(path)) as caught:
            load_segmenter(path)
        assert len(caught.value.problems) == 1
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not a segzoo checkpoint"):
        load_segmenter(tmp_path / "foreign.ckpt")


def test_weights_that_do_not_fit_are_named(tiny_run: TrainResult, tmp_path: Path) -> None:
    def refused(change: str) -> str:
        content = torch.load(find_checkpoint(tiny_run.run_dir), weights_only=True)
        state = content["state_dict"]
        key = next(key for key in state if key.endswith("weight") and key.startswith("segmenter.backbone"))
        if change == "missing":
            del state[key]
        elif change == "additional":
            state["segmenter.backbone.nosuch"] = torch.zeros(1)
        elif change == "shape":
            state[key] = torch.zeros(2, 2)
        elif change == "nan":
            state[key] = torch.full_like(state[key], torch.nan)
        else:
            content["segzoo"]["format_version"] = 99
        torch.save(content, tmp_path / "changed.ckpt")
        with pytest.raises(CheckpointError) as caught:
            load_segmenter(tmp_path / "changed.ckpt")
        return str(caught.value)

    assert "1 missing (backbone." in refused("missing")
    assert "1 left over (backbone.nosuch)" in refused("additional")
    assert "1 of another shape (backbone." in refused("shape")
    assert "1 not finite (backbone." in refused("nan")
    assert "format_version is 99" in refused("version")


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": 1}, path)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match=r"No space left on device.*untouched"):
        writer.save_checkpoint({"a": 2}, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_part_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "last.ckpt"
    precious.write_text("weeks of work")
    (tmp_path / "last.ckpt.part").symlink_to(precious)
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert precious.read_text() == "weeks of work"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "precious"]


def test_the_reason_is_the_systems_and_not_torchs(tmp_path: Path) -> None:
    """On a full disk torch says "unexpected pos 704 vs 598"."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(CheckpointError, match=r"not saved \(\[Errno 27\] File too large\); the file before"):
            AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.iterdir())
