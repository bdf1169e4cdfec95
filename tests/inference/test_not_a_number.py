"""Scores that are no numbers: a failure of the image, never a mask of class 0, whoever computes and whoever asks."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segzoo.checkpoint.read import load_segmenter
from segzoo.errors import DataError
from segzoo.evaluation.evaluate import evaluate, evaluate_classifier
from segzoo.inference.augment import TestTimeAugmentation
from segzoo.inference.predict import classify, predict
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult

NO_NUMBERS = "scores are no numbers"
Damage = Callable[[str, Tensor], Tensor]


def negative_variance(name: str, tensor: Tensor) -> Tensor:
    return -tensor - 1 if "running_var" in name else tensor


def overflow(name: str, tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, 3e38) if tensor.is_floating_point() else tensor


def damaged(run: TrainResult, damage: Damage, target: Path) -> Path:
    """The run's checkpoint with other weights; all of them finite, so that it loads."""
    content = torch.load(run.run_dir / "checkpoints" / "best.ckpt", weights_only=True)
    weights = {name: damage(name, tensor) for name, tensor in content["state_dict"].items()}
    assert all(tensor.isfinite().all() for tensor in weights.values())
    torch.save({"segzoo": content["segzoo"], "state_dict": weights}, target)
    return target


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 200, (40, 56, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("damage", [negative_variance, overflow])
def test_such_images_fail_and_leave_no_file(
    tiny_run: TrainResult, images: Path, tmp_path: Path, damage: Damage
) -> None:
    checkpoint = damaged(tiny_run, damage, tmp_path / "damaged.ckpt")
    report = predict(checkpoint, images, output=tmp_path / "out", save=("mask", "probabilities"), batch_size=2)
    assert report.written == []
    assert [name for name, reason in report.failed.items() if NO_NUMBERS in reason] == [f"{n}.png" for n in range(5)]
    assert json.loads((tmp_path / "out" / "failed.json").read_text()) == report.failed
    assert not [*(tmp_path / "out").rglob("*.png"), *(tmp_path / "out").rglob("*.npz")]
    assert str(report).count(NO_NUMBERS) == 1  # told once, with a count and some names
    assert "failed: 5 images: 0.png, 1.png, 2.png, ...: " in str(report)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_every_engine(tiny_run: TrainResult, images: Path, tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    checkpoint = damaged(tiny_run, negative_variance, tmp_path / "damaged.ckpt")
    with pytest.raises(DataError, match=rf"(0\.png|damaged\.ckpt): .*{NO_NUMBERS}"):
        Predictor(checkpoint, engine=engine)(images / "0.png")


def test_tiles_augmentation_probabilities_and_streams(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    source = load_segmenter(damaged(tiny_run, negative_variance, tmp_path / "damaged.ckpt"))
    augmentation = TestTimeAugmentation(scales=(0.75, 1.0), flip=True)
    for predictor in (Predictor(source, tile=32), Predictor(source, tta=augmentation)):
        for then in (None, source.labels.coding.predict_mask):
            with pytest.raises(DataError, match=NO_NUMBERS):
                predictor.scores(torch.zeros(1, 3, 40, 56, dtype=torch.uint8), then)
    with pytest.raises(DataError, match=rf"0\.png: .*{NO_NUMBERS}"):
        next(Predictor(source).stream([images / "0.png"]))
    with pytest.raises(DataError, match=NO_NUMBERS):
        Predictor(source)(np.zeros((40, 56, 3), np.uint8))


def test_one_such_image_of_a_batch_spoils_no_other(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    predict(tiny_run.run_dir, images, output=tmp_path / "good")
    Image.new("RGB", (56, 40), "white").save(images / "2.png")
    predictor = Predictor(tiny_run.run_dir)
    whole = predictor.engine

    class NoNumbersForWhite:
        name, precision, device = whole.name, whole.precision, predictor.device

        def __call__(self, seen: Tensor) -> Tensor:
            scores = whole(seen)
            white = (seen == 255).flatten(1).all(1)
            return torch.where(white[:, None, None, None], torch.nan, scores)

    predictor.engine = NoNumbersForWhite()
    report = predict(predictor, images, output=tmp_path / "out", batch_size=3)
    assert list(report.failed) == ["2.png"]
    for name in ("0.png", "1.png", "3.png", "4.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "good" / name).read_bytes()


def test_rasters(tiny_run: TrainResult, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    place = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(5e5, 5e6, 1, 1)}
    path = tmp_path / "images" / "field.tif"
    path.parent.mkdir()
    with rasterio.open(path, "w", driver="GTiff", width=70, height=50, count=3, dtype="uint8", **place) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, 50, 70), np.uint8))
    report = predict(damaged(tiny_run, overflow, tmp_path / "damaged.ckpt"), path.parent, output=tmp_path / "out")
    assert NO_NUMBERS in report.failed["field.tif"]
    assert not list((tmp_path / "out").rglob("*.tif"))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_nothing_is_measured(tiny_run: TrainResult, tmp_path: Path, batch_size: int) -> None:
    checkpoint = damaged(tiny_run, negative_variance, tmp_path / "damaged.ckpt")
    with pytest.raises(DataError, match=NO_NUMBERS) as refused:
        evaluate(checkpoint, [f"evaluation.batch_size={batch_size}"], output=tmp_path / "out")
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith("one of val_" if batch_size > 1 else "val_")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_classifiers(tiny_classifier_run: TrainResult, images: Path, tmp_path: Path) -> None:
    checkpoint = damaged(tiny_classifier_run, negative_variance, tmp_path / "damaged.ckpt")
    report = classify(checkpoint, images, output=tmp_path / "out", save=("csv", "cam"), batch_size=2)
    assert (report.written, len(report.failed)) == ([], 5)
    assert all(NO_NUMBERS in reason for reason in report.failed.values())
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == []
    with pytest.raises(DataError, match=NO_NUMBERS):
        evaluate_classifier(checkpoint, output=tmp_path / "measured")
    assert not (tmp_path / "measured" / "metrics.json").exists()
