"""A folder of every kind of file, through real processes: nothing is lost, and every way of running is one."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from inference.lively import lively_checkpoint
from inference.mixed_files import mixed_folder
from PIL import Image

from segzoo.data.reading.masks import read_mask
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult

KINDS = "mask,polygons,areas"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("mixed") / "images"
    root.mkdir()
    good, bad = mixed_folder(root, 200)
    return root, good, bad


@pytest.fixture(scope="module")
def checkpoint(tiny_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_checkpoint(tiny_run, tmp_path_factory.mktemp("lively") / "lively.ckpt")


@pytest.fixture(scope="module")
def full_run(checkpoint: Path, folder, tmp_path_factory: pytest.TempPathFactory, run_tool):
    before = contents(folder[0])
    output = tmp_path_factory.mktemp("full") / "out"
    done = run_tool("predict.py", checkpoint, folder[0], "--output", output, "--save", KINDS)
    assert contents(folder[0]) == before  # inputs are as they were
    return done, output


def contents(root: Path) -> dict[str, str]:
    """Every regular file below, by its relative path, but for those that have times in them."""
    files = [path for path in root.rglob("*") if not path.is_symlink() and path.is_file()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.name.startswith(("summary", "done"))
    }


def test_good_files_are_written_and_bad_ones_named(full_run, folder, checkpoint: Path) -> None:
    done, output = full_run
    _, good, bad = folder
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    failed = json.loads((output / "failed.json").read_text())
    assert sorted(failed) == sorted(bad)
    assert all("\n" not in reason and reason for reason in failed.values())
    huge = next(reason for image, reason in failed.items() if "huge" in image)
    assert "--max-pixels" in huge
    mask_of = {image: output / Path(image).with_suffix(".png") for image in good}
    mask_of |= {"clash.png": output / "clash_png.png"}
    for image in ("clash.jpg", "CLASH.JPG"):
        mask_of[image] = next(output.glob(f"{Path(image).stem}_{Path(image).suffix[1:]}_????????.png"))
    mask_of["caf\\xe9.png"] = output / os.fsdecode(b"caf\xe9.png")
    predictor = Predictor(checkpoint, device="cpu")
    for image, rgb in good.items():
        mask = read_mask(mask_of[image])
        assert mask.shape == rgb.shape[:2], image
        np.testing.assert_array_equal(mask, predictor(rgb).mask, err_msg=image)
    assert len(list(output.rglob("*.png"))) == len(good)


def test_what_stands_beside_the_masks(full_run, folder, tiny_run: TrainResult) -> None:
    _, output = full_run
    _, good, bad = folder
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["written"], summary["failed"], summary["skipped"]) == (len(good), len(bad), 0)
    assert sum(entry["pixels"] for entry in summary["classes"].values()) == sum(
        rgb.shape[0] * rgb.shape[1] for rgb in good.values()
    )
    rows = [line.split(",") for line in (output / "areas.csv").read_text().splitlines()]
    assert rows[0] == ["image", "class", "pixels", "share"]
    assert {row[0] for row in rows[1:]} == set(good)
    assert len(rows) - 1 == len(good) * tiny_run.labels.num_classes
    ones = [float(row[3]) for row in rows[1:] if row[0] == "one.png"]
    assert sorted(ones) == [0.0] * (len(ones) - 1) + [1.0]
    assert Image.open(output / "contact_sheet.jpg").width > 6 * 256


def start(checkpoint: Path, root: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    tool = Path(__file__).parents[2] / "tools" / "predict.py"
    command = [sys.executable, tool, checkpoint, root, "--output", output, "--save", KINDS, *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_masks(process: subprocess.Popen[bytes], output: Path, count: int) -> None:
    for _ in range(6000):
        if len(list(output.glob("*.png"))) >= count or process.poll() is not None:
            return
        time.sleep(0.01)


def test_killed_and_continued_is_one_run(full_run, folder, checkpoint: Path, tmp_path: Path) -> None:
    process = start(checkpoint, folder[0], tmp_path / "out")
    wait_for_masks(process, tmp_path / "out", 20)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = contents(tmp_path / "out")
    assert 20 <= len([name for name in before if name.endswith(".png")]) < len(folder[1])
    (tmp_path / "out" / ".0123456789abcdef.01234567.tmp").touch()  # of another's file: it stays
    report = predict(checkpoint, folder[0], output=tmp_path / "out", save=KINDS.split(","), skip_existing=True)
    (tmp_path / "out" / ".0123456789abcdef.01234567.tmp").unlink()
    assert len(report.skipped) + len(report.written) == len(folder[1])
    assert len(report.skipped) >= 15
    assert contents(tmp_path / "out") == contents(full_run[1])


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_whole_files(folder, checkpoint: Path, tmp_path: Path, full_run, signum, status) -> None:
    process = start(checkpoint, folder[0], tmp_path / "out")
    wait_for_masks(process, tmp_path / "out", 5)
    process.send_signal(signum)
    assert process.wait(60) == status
    expected = contents(full_run[1])
    there = contents(tmp_path / "out")
    assert not [name for name in there if name.endswith(".tmp")]
    assert all(there[name] == expected[name] for name in there if name.endswith((".png", ".geojson")))
    failed = tmp_path / "out" / "failed.json"
    assert not failed.exists() or set(json.loads(failed.read_text())) <= set(folder[2])


@pytest.mark.slow
def test_three_shards_at_once_are_one_run(full_run, folder, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    processes = [start(checkpoint, folder[0], output, "--shard", f"{index}/3") for index in range(3)]
    assert [process.wait() for process in processes] == [1, 1, 1]
    assert contents(output) == contents(full_run[1])
    whole, parts = (json.loads((where / "summary.json").read_text()) for where in (full_run[1], output))
    assert (parts["classes"], parts["images"]) == (whole["classes"], len(folder[1]))
