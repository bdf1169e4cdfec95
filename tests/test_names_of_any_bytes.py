r"""Names that are no UTF-8, such as an old archive's `caf\xe9`, through every command, in folders of such names."""

import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load

from segzoo.cli import run
from segzoo.commands import call

BAD = os.fsdecode(b"caf\xe9")
SHOWN = "caf\\xe9"
COUNT = 6

TINY = {
    "model": {"backbone": {"name": "xception", "width": 0.1}},
    "trainer": {"max_steps": 2, "val_every_steps": 2, "progress": False, "accelerator": "cpu"},
}

Command = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`seg`, a set for segmentation, `cls`, one of two classes, their configurations, and a folder for outputs."""
    folder = tmp_path_factory.mktemp("names")
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        mask = np.tile(np.arange(64) // 22, (48, 1)).astype(np.uint8)
        image = generator.integers(0, 100, (48, 64, 3)).astype(np.uint8) + 70 * mask[..., None]
        save(folder / "seg/images" / f"{number}{BAD}.png", image)
        save(folder / "seg/masks" / f"{number}{BAD}.png", mask)
        for channel, name in enumerate((BAD, "dog")):
            save(folder / "cls" / name / f"{number}{BAD}.png", np.roll(image, channel, axis=2))
    seg = {"name": "folder", "root": "seg", "batch_size": 2, "crop_size": [48, 64], "num_workers": 0}
    (folder / "seg.yaml").write_text(json.dumps({**TINY, "data": seg}))
    cls = {"name": "image_folder", "root": "cls", "batch_size": 4, "image_size": [40, 48], "num_workers": 0}
    (folder / "cls.yaml").write_text(json.dumps({**TINY, "task": "classification", "data": cls}))
    (folder / BAD).mkdir()
    return folder


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def segzoo(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process as `segzoo` does; everything that it wrote."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test runner keeps its own

    def command(name: str, *words: str | Path, status: int = 0) -> str:
        argv = [os.fspath(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["segzoo", name, *argv])
        with pytest.raises(SystemExit) as left:
            run(lambda: call(name, argv))
        said = "".join(capfd.readouterr())
        assert left.value.code == status, said
        return said

    return command


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """Where the run of the first test that trains lies; a folder whose name is no UTF-8."""
    return folder / BAD / "run"


def test_a_segmenter_is_trained_resumed_and_used(folder: Path, segzoo: Command, trained: Path) -> None:
    segzoo("check-data", "seg.yaml")
    segzoo("train", "seg.yaml", "run_dir=run")
    (folder / "run").rename(trained)
    shutil.rmtree(trained / "evaluation", ignore_errors=True)
    (trained / "summary.json").unlink()
    for name in ("last", "best"):  # as a run that was stopped half-way
        (trained / f"checkpoints/{name}.ckpt").unlink()
    segzoo("train", "--resume", trained)
    assert json.loads((trained / "summary.json").read_text())["steps"] == 2

    output = folder / BAD / "evaluated"
    segzoo("evaluate", trained, "--output", output)
    with (output / "per_image.csv").open(newline="") as opened:
        assert {row["id"] for row in csv.DictReader(opened)} <= {f"{number}{SHOWN}" for number in range(COUNT)}

    masks = folder / BAD / "masks"
    segzoo("predict", trained, "seg/images", "--output", masks, "--save", "mask,overlay,areas,polygons")
    assert sorted(path.name for path in masks.glob("*.png")) == [f"{number}{BAD}.png" for number in range(COUNT)]
    with (masks / "areas.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(dict.fromkeys(row["image"] for row in rows)) == [f"{number}{SHOWN}.png" for number in range(COUNT)]

    segzoo("export", trained, "--format", "safetensors", "--output", folder / BAD / "saved")
    (listed,) = (folder / BAD / "saved").glob("*.safetensors")
    segzoo("convert-weights", trained, folder / BAD / "backbone.safetensors")
    for path in (listed, folder / BAD / "backbone.safetensors"):
        assert len(load(path.read_bytes())) > 100


def test_a_classifier_is_trained_and_used(folder: Path, segzoo: Command) -> None:
    segzoo("check-data", "cls.yaml")
    segzoo("train", "cls.yaml", "run_dir=classifier")
    segzoo("evaluate", "classifier", "--output", folder / BAD / "classified")
    output = folder / BAD / "predicted"
    segzoo("predict", "classifier", "cls", "--output", output)
    with (output / "predictions.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    names = [f"{name}/{number}{SHOWN}.png" for name in (SHOWN, "dog") for number in range(COUNT)]
    assert sorted(row["image"] for row in rows) == sorted(names)
    for row in rows:
        assert {row["class_1"], row["class_2"]} == {SHOWN, "dog"}
        assert float(row["probability_1"]) + float(row["probability_2"]) == pytest.approx(1, abs=2e-6)


def test_make_config_reads_such_a_set_and_says_what_it_cannot_write(folder: Path, segzoo: Command) -> None:
    segzoo("make-config", "seg", "--output", folder / BAD / "made.yaml")
    segzoo("check-data", folder / BAD / "made.yaml")
    shutil.copytree(folder / "seg", folder / BAD / "set")  # through a link it would be read by its own name
    said = segzoo("make-config", folder / BAD / "set", "--output", "other.yaml", status=2)
    assert said.count("error: ") == 1
    assert "data.root" in said
    assert not (folder / "other.yaml").exists()


def test_an_input_with_a_link_to_itself_and_an_empty_one(tiny_run, folder: Path, segzoo: Command) -> None:  # type: ignore[no-untyped-def]
    circle = folder / "circle"
    save(circle / "deep/a.png", np.zeros((48, 64, 3), np.uint8))
    for name, to in (("self", "self"), ("loop.png", "loop.png"), ("deep/up", "..")):
        (circle / name).symlink_to(to)
    said = segzoo("predict", tiny_run.run_dir, "circle/**", "--output", "circled", status=1)
    assert "1 written, 0 skipped, 1 failed" in said
    assert "loop.png" in said
    assert [path.name for path in (folder / "circled").rglob("*.png")] == ["a.png"]
    said = segzoo("predict", tiny_run.run_dir, "", "--output", "nothing", status=2)
    assert said.startswith("error: ")
    assert "empty" in said
    assert not (folder / "nothing").exists()
