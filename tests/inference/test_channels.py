"""Networks for images of other than three 8-bit channels: trained, saved, measured, and used on files."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.evaluation.evaluate import evaluate
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult, train

CHANNELS = 5
RANGE = (100.0, 4000.0)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A 16-bit image of five channels and its mask: a field that only the fifth channel shows."""
    random = np.random.default_rng(seed)
    mask = np.zeros((40, 48), np.uint8)
    top, left = random.integers(0, 20, 2)
    mask[top : top + 20, left : left + 20] = 1
    image = random.integers(100, 2000, (40, 48, CHANNELS), dtype=np.uint16)
    image[..., 4] += np.uint16(1900) * mask
    return image, mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("five_channels")
    for split, count in (("train", 6), ("val", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, mask = scene(index + 100 * len(split))
            np.save(root / split / "images" / f"{index}.npy", image)
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    tree = {
        "data": {
            "name": "folder",
            "root": str(folder),
            "classes": ["ground", "field"],
            "channels": CHANNELS,
            "value_range": list(RANGE),
            "batch_size": 3,
            "crop_size": 32,
            "num_workers": 0,
        },
        "model": {"decoder": "unet", "output_stride": 16, "backbone": {"name": "xception", "width": 0.1}},
        "optimizer": {"name": "adamw", "learning_rate": 0.005},
        "trainer": {"max_steps": 12, "progress": False, "accelerator": "cpu"},
        "run_dir": str(tmp_path_factory.mktemp("runs") / "five"),
    }
    return train(config_from_tree(tree))


def test_the_network_takes_all_channels(run: TrainResult) -> None:
    predictor = Predictor(run.run_dir)
    assert predictor.source.segmenter.backbone.in_channels == CHANNELS
    assert predictor.source.preprocessing.mean == (0.5,) * CHANNELS
    assert "\n  channels: 5\n" in (run.run_dir / "config.yaml").read_text()


def test_files_and_arrays_are_segmented_alike(run: TrainResult, folder: Path) -> None:
    predictor = Predictor(run.run_dir, device="cpu")
    path = folder / "val/images/0.npy"
    from_file, from_array = predictor(path), predictor(np.load(path))
    np.testing.assert_array_equal(from_file.mask, from_array.mask)
    assert from_file.mask.shape == (40, 48)
    assert (from_file.image.shape, from_file.image.dtype) == ((40, 48, 3), np.uint8)
    # The fifth channel decides: without it, the network sees other logits.
    blind = np.load(path)
    blind[..., 4] = 100
    assert (predictor(blind).mask != from_file.mask).any()


def test_a_tiff_of_the_same_numbers_gives_the_same_mask(run: TrainResult, folder: Path, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    image = np.load(folder / "val/images/0.npy")
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig")
    predictor = Predictor(run.run_dir, device="cpu")
    np.testing.assert_array_equal(predictor(tmp_path / "a.tif").mask, predictor(image).mask)


def test_a_folder_of_arrays_is_predicted_and_wrong_files_are_told(
    run: TrainResult, folder: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(2):
        (images / f"{index}.npy").write_bytes((folder / f"val/images/{index}.npy").read_bytes())
    Image.new("RGB", (8, 8)).save(images / "photo.png")
    report = predict(run.run_dir, images, output=tmp_path / "masks", save=("mask", "overlay"))
    assert sorted(map(str, report.written)) == ["0.npy", "1.npy"]
    assert "3 channels where 5 belong" in report.failed["photo.png"]
    for name in ("0.png", "_overlay/0.png"):
        assert Image.open(tmp_path / "masks" / name).size == (48, 40)


def test_evaluation_gives_the_validations_numbers(run: TrainResult, tmp_path: Path) -> None:
    assert evaluate(run.run_dir / "checkpoints/last.ckpt", output=tmp_path).scores.miou == run.scores.miou


def test_evaluation_counts_the_masks_that_prediction_writes_where_rasters_have_holes(
    run: TrainResult, folder: Path, tmp_path: Path
) -> None:
    """Gray in the image and ignored in the mask, whether it is read whole or by windows."""
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("tifffile")
    (tmp_path / "val/masks").mkdir(parents=True)
    (tmp_path / "val/images").mkdir()
    place = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(5e5, 5e6, 1, 1)}
    for index in range(2):
        bands = np.load(folder / f"val/images/{index}.npy").transpose(2, 0, 1).copy()
        bands[:, 4:14, 20 + index : 40] = 0
        settings = {"driver": "GTiff", "count": CHANNELS, "height": 40, "width": 48, "dtype": "uint16", "nodata": 0}
        with rasterio.open(tmp_path / f"val/images/{index}.tif", "w", **settings, **place) as file:
            file.write(bands)
        (tmp_path / f"val/masks/{index}.png").write_bytes((folder / f"val/masks/{index}.png").read_bytes())
    measured = evaluate(run.run_dir, [f"data.root={tmp_path}"], output=tmp_path / "evaluation")
    predict(run.run_dir, tmp_path / "val/images", output=tmp_path / "masks")
    counted = np.zeros((2, 2), int)
    for index in range(2):
        with rasterio.open(tmp_path / f"masks/{index}.tif") as file:
            mask = file.read(1)
        assert np.count_nonzero(mask == 255) == 10 * (20 - index)
        truth = np.asarray(Image.open(tmp_path / f"val/masks/{index}.png"))
        np.add.at(counted, (truth[mask < 255], mask[mask < 255]), 1)
    np.testing.assert_array_equal(measured.matrix, counted)


def test_what_is_not_a_number_is_ignored_in_the_masks_of_whole_images(run: TrainResult, tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(*RANGE, (33, 40, CHANNELS)).astype(np.float32)
    image[3:9, 5:20] = np.nan
    image[20, 20, 2] = np.nan
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", image)
    predict(run.run_dir, tmp_path / "in", output=tmp_path / "out", save=("mask", "areas"))
    written = np.asarray(Image.open(tmp_path / "out/a.png"))
    np.testing.assert_array_equal(written == 255, np.isnan(image).all(axis=2))
    np.testing.assert_array_equal(Predictor(run.run_dir, device="cpu")(image).mask, written)
    rows = [line.split(",") for line in (tmp_path / "out/areas.csv").read_text().splitlines()[1:]]
    assert sum(int(row[2]) for row in rows) == 33 * 40 - 6 * 15


def test_weights_of_rgb_bring_their_preprocessing_along_for_more_channels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from segzoo.backbones.weights import with_weights_settings

    config = config_from_tree(
        apply_overrides(
            {"data": {"name": "folder", "root": "x", "channels": 4}, "trainer": {"max_steps": 1}},
            ["model.backbone.name=xception", "model.backbone.weights=imagenet"],
        )
    )
    with caplog.at_level(logging.WARNING):
        completed = with_weights_settings(config)
    assert len(completed.data.preprocessing.mean) == 4
    assert not caplog.records
