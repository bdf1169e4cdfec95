"""tools/check_data.py on data sets for classification."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "animals"
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                path = folder / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (20 + number, 30, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def check(call_tool, root, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"task: classification\ndata: {{name: image_folder, root: '{root}'}}\ntrainer: {{max_steps: 1}}\n"
    )
    return lambda *words: call_tool("check_data.py", config, *words)


def test_a_sound_data_set(check):
    done = check()
    assert done.returncode == 0, done.stderr
    assert "no problem found" in done.stdout
    found = json.loads(check("--json").stdout)
    assert (found["errors"], found["warnings"], found["classes"]) == (0, 0, ["cat", "dog"])
    assert found["splits"] == {
        "train": {
            "images": 8,
            "class_images": [4, 4],
            "height": {"low": 20, "median": 21, "high": 23},
            "width": {"low": 30, "median": 30, "high": 30},
        },
        "val": {
            "images": 4,
            "class_images": [2, 2],
            "height": {"low": 20, "median": 20, "high": 21},
            "width": {"low": 30, "median": 30, "high": 30},
        },
    }


def test_there_is_no_sheet_to_put_anywhere(check, tmp_path):
    done = check("--output", tmp_path / "sheet")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --output: classification data has no sheet of samples.")
    assert not (tmp_path / "sheet").exists()
    both = check("--json", "--output", tmp_path / "sheet")
    assert (both.returncode, both.stdout) == (2, "")
    assert "argument --output: not allowed with argument --json" in both.stderr


def test_every_fault_is_listed_in_one_run(check, root):
    shutil.copy(root / "train/cat/0.png", root / "val/cat/9.png")
    shutil.copy(root / "train/dog/1.png", root / "train/cat/8.png")
    shutil.copy(root / "train/dog/2.png", root / "train/dog/7.png")
    (root / "train/dog/3.png").write_bytes((root / "train/dog/3.png").read_bytes()[:200])
    shutil.rmtree(root / "val/dog")
    done = check()
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 3
    assert sum(line.startswith("warning: ") for line in lines) == 2
    assert f"error: {root / 'train/dog/3.png'}: damaged" in done.stdout
    assert "error: train: cat/0.png, val: cat/9.png: the same picture; what is measured on it is known" in done.stdout
    assert "train: cat/8.png, train: dog/1.png: the same picture under different classes" in done.stdout
    assert "warning: train: dog/2.png, train: dog/7.png: the same picture; keep one" in done.stdout
    assert "warning: val: no image of dog" in done.stdout
    assert lines[-1] == "3 errors, 2 warnings"


def test_a_split_that_cannot_be_listed_is_a_finding(check, root):
    (root / "val/dog").rename(root / "val/dgo")
    done = check()
    assert done.returncode == 1
    assert "class 'dgo' is none of the run's. Did you mean dog?" in done.stdout
