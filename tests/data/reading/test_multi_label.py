"""Folders whose classes have masks of their own: files, faults, augmentation, cache, check, make_config."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.load import load_config
from segzoo.config.schema import DataConfig, RunConfig
from segzoo.data import build_dataset
from segzoo.data.class_balance import class_pixels
from segzoo.data.datasets.listing import FileDataset
from segzoo.data.inspection.browse import browse, write_samples
from segzoo.data.inspection.check import check_data, quick_check
from segzoo.data.inspection.make_config import make_config
from segzoo.data.loading.cache import CachedDataset, cached
from segzoo.data.loading.datamodule import SegmentationDataModule
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.transforms.augmentation import EXTRA_TRANSFORMS, build_steps, run_steps
from segzoo.data.transforms.training import TrainTransform, rare_pixel
from segzoo.errors import ConfigError, DataError

CAT = np.array([[0, 255, 255, 0]], np.uint8)
PET = np.array([[1, 1, 0, 0]], np.uint8)


def add(root: Path, stem: str, **masks: np.ndarray) -> None:
    """Add an image and the masks of some classes."""
    planes = {f"masks/{name}": mask for name, mask in masks.items()}
    shape = next(iter(masks.values()), CAT).shape
    for folder, pixels in {"images": np.zeros((*shape, 3), np.uint8), **planes}.items():
        path = root / folder / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def config(root: Path, folder: dict[str, object] | None = None, **data: object) -> DataConfig:
    return DataConfig.model_validate(
        {"name": "folder", "root": str(root), "folder": {"multi_label": True, **(folder or {})}, **data}
    )


def build(root: Path, split: str = "train", folder: dict[str, object] | None = None, **data: object):
    return build_dataset(config(root, folder, **data), split)


def both(root: Path) -> Path:
    add(root / "train", "a", cat=CAT, pet=PET)
    add(root / "val", "b", cat=CAT, pet=PET)
    return root


def test_a_plane_for_each_class(tmp_path: Path) -> None:
    train = build(both(tmp_path))
    assert train.labels.names == ("cat", "pet")
    assert train.labels.multi_label
    assert train[0].mask.tolist() == [[[0, 1, 1, 0]], [[1, 1, 0, 0]]]
    assert build(tmp_path, "val").labels == train.labels
    assert LabelSpace.from_dict(train.labels.to_dict()) == train.labels


def test_pixels_are_those_of_the_files(multi_label_folder: Path) -> None:
    train = build(multi_label_folder)
    for index, sample_id in enumerate(train.ids):
        files = [multi_label_folder / "train/masks" / name / f"{sample_id}.png" for name in ("disc", "square")]
        expected = np.stack([np.array(Image.open(path)) == 255 for path in files])
        np.testing.assert_array_equal(train[index].mask, expected)
    assert class_pixels(train).tolist() == sum(train[index].mask.sum((1, 2)) for index in range(12)).tolist()


def test_classes_named_in_the_configuration_choose_folders_and_their_order(tmp_path: Path) -> None:
    train = build(both(tmp_path), classes=("pet",))
    assert train.labels.names == ("pet",)
    assert train[0].mask.tolist() == [[[1, 1, 0, 0]]]
    (tmp_path / "classes.txt").write_text("pet\ncat\n")
    assert build(tmp_path)[0].mask.tolist() == [[[1, 1, 0, 0]], [[0, 1, 1, 0]]]


def test_other_layouts(tmp_path: Path) -> None:
    for number in range(5):
        add(tmp_path / "flat", f"image_{number}", cat=CAT, pet=PET)
    assert (len(build(tmp_path / "flat")), len(build(tmp_path / "flat", "val"))) == (4, 1)
    (tmp_path / "flat" / "train.txt").write_text("image_1\nimage_3.png\n")
    (tmp_path / "flat" / "val.txt").write_text("image_2\nimage_9\n")
    assert build(tmp_path / "flat").ids == ("image_1", "image_3")
    with pytest.raises(DataError, match=r"val.txt:2: no mask .*cat/image_9.png"):
        build(tmp_path / "flat", "val")
    both(tmp_path / "outer")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "inner" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "outer" / split / kind).rename(tmp_path / "inner" / kind / split)
    assert build(tmp_path / "inner").labels.names == ("cat", "pet")
    assert build(tmp_path / "inner", "val")[0].mask.shape == (2, 1, 4)


def test_a_missing_file_is_a_fault_unless_masks_are_sparse(tmp_path: Path) -> None:
    add(both(tmp_path) / "train", "c", cat=CAT)
    add(tmp_path / "train", "empty")
    with pytest.raises(DataError) as refused:
        build(tmp_path)
    assert len(refused.value.problems) == 3
    assert all("sparse_masks" in line for line in refused.value.problems)
    train = build(tmp_path, folder={"sparse_masks": True})
    assert train.ids == ("a", "c", "empty")
    assert [train[index].mask.sum((1, 2)).tolist() for index in range(3)] == [[2, 2], [2, 0], [0, 0]]
    assert train[2].mask.shape == (2, 1, 4)
    shutil.rmtree(tmp_path / "val" / "masks" / "pet")  # as git and zip do with a class that no image has
    assert build(tmp_path, "val", folder={"sparse_masks": True})[0].mask[1].sum() == 0
    (tmp_path / "train" / "train.txt").write_text("c\n")
    assert build(tmp_path / "train", folder={"sparse_masks": True})[0].mask.tolist() == [[[0, 1, 1, 0]], [[0, 0, 0, 0]]]


def test_a_value_to_ignore(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", cat=np.array([[0, 1, 255, 7]], np.uint8))
    with pytest.raises(DataError, match=r"cat.a.png: value 7 \(1 px\) is no class.*ignore_value"):
        build(tmp_path)[0]
    add(tmp_path / "train", "a", cat=np.array([[0, 1, 255, 0]], np.uint8))
    with pytest.raises(DataError, match=r"cat.a.png: holds 1 and 255.*data.folder.ignore_value=255"):
        build(tmp_path)[0]
    assert build(tmp_path, folder={"ignore_value": 255})[0].mask.tolist() == [[[0, 1, 255, 0]]]
    add(tmp_path / "train", "a", cat=np.array([[0, 255, 255, 7]], np.uint8))
    assert build(tmp_path, folder={"ignore_value": 7})[0].mask.tolist() == [[[0, 1, 1, 255]]]


def test_faults_are_named(tmp_path: Path) -> None:
    add(both(tmp_path) / "train", "wide", cat=np.zeros((1, 5), np.uint8), pet=PET)
    with pytest.raises(DataError, match=r"pet/wide.png: mask is 1x4 but its image wide.png 1x5"):
        build(tmp_path)
    with pytest.raises(DataError, match=r"a folder of masks for each class.*data.folder.multi_label=true"):
        build_dataset(DataConfig(name="folder", root=str(tmp_path)), "train")
    (tmp_path / "loose" / "images").mkdir(parents=True)
    (tmp_path / "loose" / "masks").mkdir()
    with pytest.raises(ConfigError, match="has no folder for each class"):
        build(tmp_path / "loose")
    with pytest.raises(ConfigError, match="ignore_classes and merge_classes need one class a pixel"):
        build(tmp_path, "val", ignore_classes=("cat",))


@pytest.mark.parametrize(
    "folder",
    [{"colors": {"a": [0, 0, 1]}}, {"ignore_value": 1}, {"multi_label": False, "sparse_masks": True}],
)
def test_settings_that_do_not_fit_are_refused(folder: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multi_label|ignore_value"):
        config(tmp_path, folder)


def planes_and_image() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    image = generator.integers(0, 255, (70, 90, 3), np.uint8)
    return image, np.repeat(np.repeat(generator.integers(0, 2, (6, 7, 9), np.uint8), 10, 1), 10, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_size": [40, 50], "scale_range": [0.5, 2.0]},
        {"crop_size": [40, 50], "augmentation": {"rotation": 30, "vertical_flip": 0.5}},
        {"crop_size": [80, 100], "augmentation": {"cutout": 1.0, "color": 0.4}},
        {"crop_size": 64, "augmentation": {"extra": [{"name": "ElasticTransform", "alpha": 300, "sigma": 12, "p": 1}]}},
    ],
    ids=["scale", "rotation", "cutout", "extra"],
)
def test_all_planes_move_as_a_mask_of_one_class_does(settings: dict[str, object], tmp_path: Path) -> None:
    image, planes = planes_and_image()
    transform = TrainTransform(config(tmp_path, **settings))
    for seed in range(5):
        moved, crop = transform(image, planes, seed)
        for plane, single in zip(crop, planes, strict=True):
            alone, expected = transform(image, single, seed)
            np.testing.assert_array_equal(plane, expected)
            np.testing.assert_array_equal(moved, alone)
        assert crop.dtype == np.uint8


def test_every_extra_transform_moves_planes_alike(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    image = generator.integers(0, 255, (64, 64, 3), np.uint8)
    planes = np.repeat(np.repeat(generator.integers(0, 2, (5, 8, 8), np.uint8), 8, 1), 8, 2)
    needed = {"XYMasking": {"num_masks_x": 2, "mask_x_length": [5, 9], "num_masks_y": 0, "mask_y_length": 0}}
    for name in sorted(EXTRA_TRANSFORMS):
        extra = [{"name": name, "p": 1.0, **needed.get(name, {})}]
        steps = build_steps(config(tmp_path, crop_size=64, augmentation={"extra": extra}), (9.0, 9.0, 9.0), 255)
        crop = run_steps(steps, image, planes, 3)[1]
        for plane, single in zip(crop, planes, strict=True):
            np.testing.assert_array_equal(plane, run_steps(steps, image, single, 3)[1], name)


def test_rare_class_crops_look_for_a_plane(tmp_path: Path) -> None:
    planes = np.zeros((2, 50, 60), np.uint8)
    planes[0, :20] = 1
    planes[1, 44, 51] = 1
    drawn = [rare_pixel(planes, 1, 255, np.random.default_rng(seed)) for seed in range(200)]
    rare = [place for place in drawn if place == (44, 51)]
    assert 100 < len(rare) < 200
    assert all(place[0] < 20 for place in drawn if place not in rare)
    assert rare_pixel(np.zeros((2, 5, 5), np.uint8), 1, 255, np.random.default_rng(0)) is None


def test_cache_keeps_the_planes(multi_label_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [build(multi_label_folder)[index] for index in range(3)]
    settings = config(multi_label_folder, cache=str(tmp_path))
    for _ in range(2):  # written, then read, when the files are out of reach
        kept = cached(build_dataset(settings, "train"), settings, "train")
        assert isinstance(kept, CachedDataset)
        for index, sample in enumerate(plain):
            np.testing.assert_array_equal(kept[index].mask, sample.mask)
            np.testing.assert_array_equal(kept[index].image, sample.image)
        monkeypatch.setattr(FileDataset, "__getitem__", lambda *_: pytest.fail("not from the cache"))


def test_a_changed_plane_is_read_anew(tmp_path: Path) -> None:
    settings = config(both(tmp_path / "data"), cache=str(tmp_path / "cache"))
    assert cached(build_dataset(settings, "train"), settings, "train")[0].mask[1].sum() == 2
    Image.fromarray(np.ones((1, 4), np.uint8)).save(tmp_path / "data/train/masks/pet/a.png")  # and nothing else
    assert cached(build_dataset(settings, "train"), settings, "train")[0].mask[1].sum() == 4


def test_batches(multi_label_folder: Path) -> None:
    settings = config(multi_label_folder, batch_size=3, crop_size=[32, 40], num_workers=0)
    data = SegmentationDataModule(settings, steps=2, seed=0, eval_batch_size=2)
    batch = next(iter(data.train_dataloader()))
    assert batch["mask"].shape == (3, 2, 32, 40)
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 255}
    assert next(iter(data.val_dataloader()))[0]["mask"].shape == (2, 48, 64)


def test_the_check_counts_classes_and_names_faults(multi_label_folder: Path, tmp_path: Path) -> None:
    quick_check(config(multi_label_folder))
    report = check_data(config(multi_label_folder), progress=False)
    assert report.findings == ()
    assert report.splits[0].classes is not None
    assert report.splits[0].classes.pixels == tuple(class_pixels(build(multi_label_folder)))
    assert write_samples(config(multi_label_folder), report, tmp_path / "sheet") is not None
    add(both(tmp_path / "bad") / "train", "worse", cat=np.array([[0, 3, 3, 1]], np.uint8), pet=PET)
    add(tmp_path / "bad/val", "none", cat=0 * CAT, pet=0 * PET)
    report = check_data(config(tmp_path / "bad"), progress=False)
    found = report.findings[0]
    assert (found.kind, "cat/worse.png: value 3 (2 px)" in found.line) == (
        "unusable mask",
        True,
    )
    with pytest.raises(DataError, match="worse.png"):
        quick_check(config(tmp_path / "bad"))


def test_pages(multi_label_folder: Path, tmp_path: Path) -> None:
    data = config(multi_label_folder, crop_size=[32, 40])
    settings = RunConfig.model_validate({"data": data.model_dump(), "trainer": {"max_steps": 1}})
    assert browse(settings, tmp_path / "train.png", count=2).is_file()
    assert browse(settings, tmp_path / "val.png", split="val", count=2).is_file()


def test_make_config_writes_what_trains(multi_label_folder: Path, tmp_path: Path) -> None:
    made = make_config(multi_label_folder, tmp_path / "made.yaml", progress=False)
    written = load_config(made.path)
    assert written.data.folder.multi_label
    assert written.loss.name == "binary_cross_entropy"
    assert build_dataset(written.data, "val").labels.names == ("disc", "square")


def test_classes_that_only_val_has_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(both(tmp_path) / "val", "b", cat=CAT, pet=PET, dog=PET)
    with caplog.at_level(logging.WARNING):
        assert build(tmp_path, "val").labels.names == ("cat", "pet")
    assert "dog" in caplog.text
