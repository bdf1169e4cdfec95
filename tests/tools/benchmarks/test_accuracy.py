"""The baseline that the README compares with: SMP's network, trained by a plain loop, measured by our protocol."""

import json

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch.nn import functional as F

from laboratory.benchmarks import accuracy
from segzoo.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    """Eight images whose classes are two colours, and a border that is void."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for number in range(count):
            mask = np.zeros((40, 56), np.uint8)
            mask[:, generator.integers(16, 40) :] = 1
            image = np.where(mask[..., None] == 1, (200, 60, 40), (30, 90, 180)).astype(np.uint8)
            mask[:2] = 255
            for kind, array in (("images", image), ("masks", mask)):
                path = tmp_path / "data" / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    return tmp_path / "data"


@pytest.fixture
def small_encoder(monkeypatch):
    monkeypatch.setattr(accuracy, "ENCODER", "mobilenet_v2")
    monkeypatch.setattr(
        accuracy,
        "baseline_network",
        lambda classes: smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=classes),
    )


def words(folder, *more):
    config = ("data.name=folder", f"data.root={folder}", "data.batch_size=2", "data.crop_size=[32,48]")
    return ("quickstart", *config, "data.num_workers=0", "trainer.max_steps=40", "optimizer.learning_rate=0.003", *more)


def test_it_learns_and_is_measured_by_our_protocol(folder, small_encoder, call_tool, tmp_path):
    done = call_tool("train_baseline.py", *words(folder), "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["miou"] > 0.8
    assert "mIoU" in done.stdout
    assert "GiB at most" in done.stdout


def test_a_seed_is_a_number(folder, small_encoder, call_tool, tmp_path):
    scores = []
    for seed in (1, 1, 2):
        more = ("trainer.max_steps=3", f"seed={seed}", "--output", tmp_path / "out", "--overwrite")
        assert call_tool("train_baseline.py", *words(folder, *more)).returncode == 0
        scores.append((tmp_path / "out" / "counts.npz").read_bytes())
    assert scores[0] == scores[1] != scores[2]


def test_the_loss_is_torchs_without_void():
    logits = torch.randn(2, 3, 4, 5)
    mask = torch.randint(0, 3, (2, 4, 5))
    mask[0, :2], mask[1, 0] = 255, 11
    kept = mask < 3
    expected = F.cross_entropy(logits.permute(0, 2, 3, 1)[kept], mask[kept])
    torch.testing.assert_close(accuracy.loss_without_void(logits, mask), expected)


def test_what_cannot_be_compared_is_refused(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="max_steps: null"):
        accuracy.train_baseline(tiny_config("trainer.max_steps=null", "trainer.max_epochs=1"), tmp_path)
    with pytest.raises(ConfigError, match="not read from pairs of files"):
        accuracy.train_baseline(tiny_config(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.folder.mask_values={a: 1, b: 0}"], "classes' numbers"),
        (["data.channels=4", "data.preprocessing={mean: [0, 0, 0, 0], std: [1, 1, 1, 1]}"], "classes' numbers"),
        (["data.val_split=nowhere"], "nowhere"),
    ],
)
def test_it_refuses_before_it_trains(changes, said, folder, small_encoder, call_tool, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "train_plainly", lambda *_: pytest.fail("trained"))
    done = call_tool("train_baseline.py", *words(folder, *changes), "--output", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_its_folder_is_there_before_it_trains(folder, small_encoder, call_tool, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "train_plainly", lambda *_: pytest.fail("trained"))
    (tmp_path / "file").touch()
    done = call_tool("train_baseline.py", *words(folder), "--output", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: --output: {tmp_path}/file/out: cannot be written to (Not a directory). Name another folder.\n"
    )
