"""ADE20K's scene parsing challenge: a drawn folder of its layout, and a published network measured on it."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_files
from PIL import Image

import segzoo
from segzoo.backbones.weights.tensorflow import read_tensorflow
from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, DataError

VALUES = np.array([[0, 1, 2, 150, 150, 3]], np.uint8)
FOLDERS = ("training", "validation")


def add(root: Path, split: str, name: str, mask: np.ndarray, image: np.ndarray | None = None) -> None:
    for folder in (root / "images" / split, root / "annotations" / split):
        folder.mkdir(parents=True, exist_ok=True)
    image = np.full((*mask.shape, 3), 90, np.uint8) if image is None else image
    Image.fromarray(image).save(root / "images" / split / f"{name}.jpg", quality=95)
    Image.fromarray(mask).save(root / "annotations" / split / f"{name}.png")


def build(root: Path, split: str = "train", **data: object) -> SegmentationDataset:
    return build_dataset(DataConfig(name="ade20k", root=str(root), **data), split)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "ADEChallengeData2016"
    for split in FOLDERS:
        add(root, split, f"ADE_{split}_00000001", VALUES)
    return root


def test_150_classes_and_0_is_ignored(root: Path) -> None:
    data = build(root)
    assert data.ids == ("ADE_training_00000001",)
    assert (data.labels.num_classes, data.labels.names[0], data.labels.names[149]) == (150, "wall", "flag")
    np.testing.assert_array_equal(data[0].mask, [[255, 0, 1, 149, 149, 2]])
    assert build(root.parent, "val").ids == ("ADE_validation_00000001",)


def test_other_may_be_scored_and_is_ignored_all_the_same(root: Path) -> None:
    data = build(root, ade20k={"other": True})
    assert (data.labels.num_classes, data.labels.names[:2]) == (151, ("other", "wall"))
    np.testing.assert_array_equal(data[0].mask, [[255, 1, 2, 150, 150, 3]])


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no images/training and annotations/training .* segzoo prepare-data ade20k"):
        build(root / "images")
    with pytest.raises(ConfigError, match="no split 'test' in .*Found: train, val"):
        build(root, "test")
    (root / "annotations" / "training" / "ADE_training_00000001.png").unlink()
    add(root, "training", "b", VALUES)
    (root / "images" / "training" / "b.jpg").unlink()
    with pytest.raises(DataError) as raised:
        build(root)
    assert "ADE_training_00000001.jpg: no mask annotations/training/ADE_training_00000001.png" in str(raised.value)
    assert "b.png: no image of this name" in str(raised.value)


def test_a_number_beyond_the_classes_is_refused(root: Path) -> None:
    add(root, "training", "c", VALUES + 1)
    with pytest.raises(DataError, match=r"c\.png.*151"):
        build(root)[1].mask  # noqa: B018


def test_the_folder_is_recognised(root: Path, tmp_path: Path, call_tool) -> None:
    made = call_tool("make_config.py", root, "--output", tmp_path / "made.yaml")
    assert made.returncode == 0, made.stderr
    assert "name: ade20k" in (tmp_path / "made.yaml").read_text()


def test_a_published_network_is_measured(tmp_path: Path, shared: Path) -> None:
    """Of 151 classes, one of which is no class: against counts of what it predicts, made here."""
    oracle = shared / "oracles" / "tf_deeplab" / "xception65"
    variables = read_tensorflow(oracle / "model.ckpt.index", "x")
    last = {name: value for name, value in variables.items() if name.startswith("logits/semantic")}
    for name, value in last.items():
        wide = np.full((*value.shape[:-1], 151), -1e3 if value.ndim == 1 else 0, np.float32)
        wide[..., :21] = np.roll(value, 2, axis=-1)  # so that it says 0, too
        variables[name] = wide
    file = tensorflow_files.write_checkpoint(tmp_path / "network" / "model.ckpt", variables)
    image = np.load(oracle / "os16_129x129.npz")["image"]
    root = tmp_path / "ADEChallengeData2016"
    truth = np.random.default_rng(0).integers(0, 22, image.shape[:2]).astype(np.uint8)
    for split in FOLDERS:
        add(root, split, "a", truth, image)
    stored = np.array(Image.open(root / "images" / "validation" / "a.jpg"))
    found = segzoo.Predictor(file)(stored).mask
    assert 0 in found[truth > 0], "this network never says other: nothing is tested"
    evaluation = segzoo.evaluate(file, [f"data.root={root}"], output=tmp_path / "evaluation")
    counted = truth > 0
    classes = [number for number in range(151) if ((found == number) | (truth == number))[counted].any()]
    overlap = np.array([((found == number) & (truth == number) & counted).sum() for number in classes])
    union = np.array([(((found == number) | (truth == number)) & counted).sum() for number in classes])
    assert (classes[0], overlap[0]) == (0, 0)
    assert evaluation.scores.miou == pytest.approx((overlap / union).mean())
    assert evaluation.scores.pixel_accuracy == pytest.approx(overlap.sum() / counted.sum())
