"""Cityscapes: the published table, the real scenes, and small trees with faults."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.cityscapes import CITYSCAPES_LABELS, LABELS
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, DataError

IDS = np.array([[7, 8, 26, 0, 1, 33]], np.uint8)
TRAIN_IDS = np.array([[0, 1, 13, 255, 255, 18]], np.uint8)


def add(root: Path, frame: str, mask: np.ndarray | None = IDS, split: str = "train", kind: str = "labelIds") -> None:
    """Add an image, and its mask if there is one."""
    city = frame.split("_")[0]
    images, masks = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((1, 6, 3), np.uint8)).save(images / f"{frame}_leftImg8bit.png")
    if mask is not None:
        Image.fromarray(mask).save(masks / f"{frame}_gtFine_{kind}.png")


def build(root: Path, split: str = "train", **data: object) -> SegmentationDataset:
    return build_dataset(DataConfig(name="cityscapes", root=str(root), **data), split)  # type: ignore[arg-type]


def test_the_table_is_the_published_one() -> None:
    published = pytest.importorskip(
        "cityscapesscripts.helpers.labels", reason="pip install --no-deps cityscapesScripts"
    )
    ours = [(label.id, label.name, label.train_id, label.category, label.color) for label in CITYSCAPES_LABELS]
    theirs = [(label.id, label.name, label.trainId, label.category, label.color) for label in published.labels]
    assert ours == [row for row in theirs if row[0] >= 0]
    for index, name in enumerate(LABELS.names):
        label = published.trainId2label[index]
        assert (name, LABELS.palette[index]) == (label.name, label.color)


def test_the_19_classes_as_papers_list_them() -> None:
    assert LABELS.names == (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    assert dict(LABELS.raw_ids)[7] == 0
    assert [raw for raw, index in LABELS.raw_ids if index == 255] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        9,
        10,
        14,
        15,
        16,
        18,
        29,
        30,
    ]


def test_real_scenes_equal_the_published_mapping_pixel_for_pixel(shared: Path) -> None:
    published = pytest.importorskip(
        "cityscapesscripts.helpers.labels", reason="pip install --no-deps cityscapesScripts"
    )
    root = shared / "data" / "cityscapes"
    train, val = build(root), build(root, "val")
    assert (len(train), len(val)) == (3, 1)
    assert train.ids == tuple(f"aachen_00000{index}_000019" for index in range(3))
    for data, split in ((train, "train"), (val, "val")):
        for index, name in enumerate(data.ids):
            sample = data[index]
            raw = np.asarray(Image.open(root / "gtFine" / split / "aachen" / f"{name}_gtFine_labelIds.png"))
            expected = np.zeros_like(raw)
            for value in np.unique(raw).tolist():
                expected[raw == value] = published.id2label[value].trainId
            np.testing.assert_array_equal(sample.mask, expected)
            image = Image.open(root / "leftImg8bit" / split / "aachen" / f"{name}_leftImg8bit.png")
            np.testing.assert_array_equal(sample.image, np.asarray(image))


def test_cities_are_joined_in_order(tmp_path: Path) -> None:
    for frame in ("zurich_000000_000019", "aachen_000000_000019"):
        add(tmp_path, frame)
    data = build(tmp_path)
    assert data.ids == ("aachen_000000_000019", "zurich_000000_000019")
    np.testing.assert_array_equal(data[0].mask, TRAIN_IDS)


def test_train_ids_are_read_where_there_are_no_label_ids(tmp_path: Path) -> None:
    add(tmp_path, "aachen_000000_000019", TRAIN_IDS, kind="labelTrainIds")
    add(tmp_path, "ulm_000000_000019", TRAIN_IDS, "val", "labelTrainIds")
    train, val = build(tmp_path), build(tmp_path, "val")
    assert train.labels == val.labels
    np.testing.assert_array_equal(train[0].mask, TRAIN_IDS)
    add(tmp_path, "aachen_000000_000019")  # both kinds: label ids count
    np.testing.assert_array_equal(build(tmp_path)[0].mask, TRAIN_IDS)
    assert build(tmp_path).labels == LABELS


def test_files_under_the_other_kind_of_name_are_recognised(tmp_path: Path) -> None:
    add(tmp_path / "ids", "aachen_000000_000019", TRAIN_IDS)
    with pytest.raises(
        DataError, match=r"labelIds\.png: value 255 \(2 px\).*trainIds.*name such files \*_gtFine_labelTrain"
    ):
        build(tmp_path / "ids")[0]
    add(tmp_path / "train_ids", "aachen_000000_000019", IDS, kind="labelTrainIds")
    with pytest.raises(
        DataError,
        match=r"labelTrainIds\.png: value 26 \(1 px\), 33 \(1 px\) is no class.*0 to 18.*labelIds, where trainIds",
    ):
        build(tmp_path / "train_ids")[0]


def test_all_missing_and_orphan_masks_are_told_at_once(tmp_path: Path) -> None:
    add(tmp_path, "aachen_000000_000019")
    add(tmp_path, "aachen_000001_000019", mask=None)
    add(tmp_path, "bochum_000000_000019", mask=None)
    add(tmp_path, "bochum_000001_000019")
    (tmp_path / "leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    first, second, third = caught.value.problems
    assert (
        "aachen_000001_000019_leftImg8bit.png: no mask gtFine/train/aachen/aachen_000001_000019_gtFine_label" in first
    )
    assert "bochum_000000_000019_leftImg8bit.png: no mask" in second
    assert "bochum_000001_000019_gtFine_labelIds.png: no image" in third


def test_what_is_not_there_is_one_line_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "cityscapes/leftImg8bit/train").mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"no gtFine in .*segzoo prepare-data cityscapes --root {tmp_path}$"):
        build(tmp_path / "cityscapes")
    (tmp_path / "cityscapes/gtFine").mkdir()
    with pytest.raises(ConfigError, match="no split 'val'.*Found: train"):
        build(tmp_path / "cityscapes", "val")
    with pytest.raises(DataError, match="train: empty"):
        build(tmp_path / "cityscapes")
    with pytest.raises(
        ConfigError, match=r"split 'test' has no public masks.*segzoo predict CHECKPOINT .*leftImg8bit/test"
    ):
        build(tmp_path / "cityscapes", "test")
