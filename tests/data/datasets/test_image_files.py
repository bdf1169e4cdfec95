"""VOC and CamVid: the shared real images, and small trees with faults."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import DATASETS, build_dataset
from segzoo.errors import ConfigError, DataError, UnknownNameError


def voc_tree(root: Path, ids: list[str]) -> Path:
    """A small VOC2012 folder below `root`, its lists naming `ids`."""
    voc = root / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (voc / folder).mkdir(parents=True)
    for name in ids:
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(voc / "JPEGImages" / f"{name}.jpg")
        for folder, value in (("SegmentationClass", 1), ("SegmentationClassAug", 2)):
            Image.fromarray(np.full((4, 6), value, np.uint8)).save(voc / folder / f"{name}.png")
    for split in ("train", "val", "trainaug"):
        (voc / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids))
    return voc


def camvid_tree(root: Path, line: str) -> Path:
    """A small CamVid folder with one pair; train.txt holds `line`."""
    for folder in ("train", "trainannot"):
        (root / folder).mkdir(parents=True)
        Image.fromarray(np.full((4, 6), 11, np.uint8)).save(root / folder / "x.png")
    (root / "train.txt").write_text(line)
    return root


def test_builtin_data_sets_are_registered() -> None:
    assert {"camvid", "folder", "synthetic", "voc"} <= set(DATASETS)
    with pytest.raises(UnknownNameError, match="Did you mean camvid"):
        build_dataset(DataConfig(name="camvd"), "train")


@pytest.mark.parametrize(
    ("root", "split", "count"),
    [("VOCdevkit", "train", 8), ("VOCdevkit/VOC2012", "val", 4), ("VOCdevkit", "trainaug", 15)],
)
def test_real_voc(shared: Path, root: str, split: str, count: int) -> None:
    data = build_dataset(DataConfig(name="voc", root=str(shared / "data" / root)), split)
    assert len(data) == len(data.ids) == len(set(data.ids)) == count
    for index in range(count):
        sample = data[index]
        assert sample.id == data.ids[index]
        assert sample.image.shape == (*sample.mask.shape, 3)
        assert set(np.unique(sample.mask)) <= {*range(21), 255}


def test_real_voc_mask_holds_the_known_classes(shared: Path) -> None:
    data = build_dataset(DataConfig(name="voc", root=str(shared / "data" / "VOCdevkit")), "train")
    sample = data[data.ids.index("2007_000032")]
    names = {data.labels.names[value] for value in np.unique(sample.mask) if value != 255}
    assert names == {"background", "aeroplane", "person"}


def test_trainaug_takes_the_masks_of_sbd(tmp_path: Path) -> None:
    voc_tree(tmp_path, ["a"])
    config = DataConfig(name="voc", root=str(tmp_path))
    assert set(np.unique(build_dataset(config, "train")[0].mask)) == {1}
    assert set(np.unique(build_dataset(config, "trainaug")[0].mask)) == {2}


def test_voc_names_the_line_of_every_missing_file(tmp_path: Path) -> None:
    voc = voc_tree(tmp_path, ["a", "b"])
    (voc / "JPEGImages" / "a.jpg").unlink()
    (voc / "SegmentationClass" / "b.png").unlink()
    with pytest.raises(DataError) as caught:
        build_dataset(DataConfig(name="voc", root=str(tmp_path)), "train")
    first, second = caught.value.problems
    assert "train.txt:1: no image" in first
    assert "a.jpg" in first
    assert "train.txt:2: no mask" in second


@pytest.mark.parametrize("line", ["/etc/passwd", "sub/a", "C:a"])
def test_voc_refuses_ids_that_are_paths(tmp_path: Path, line: str) -> None:
    voc = voc_tree(tmp_path, ["a"])
    (voc / "ImageSets/Segmentation/train.txt").write_text(line)
    with pytest.raises(DataError, match=r"train\.txt:1: .* no plain image id"):
        build_dataset(DataConfig(name="voc", root=str(tmp_path)), "train")


def test_value_out_of_range_names_file_value_and_count(tmp_path: Path) -> None:
    voc = voc_tree(tmp_path, ["a"])
    mask = np.zeros((4, 6), np.uint8)
    mask[0, :3] = 77
    Image.fromarray(mask).save(voc / "SegmentationClass" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: value 77 \(3 px\)"):
        build_dataset(DataConfig(name="voc", root=str(tmp_path)), "train")[0]


def test_size_mismatch_is_refused_when_read(tmp_path: Path) -> None:
    voc = voc_tree(tmp_path, ["a"])
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(voc / "SegmentationClass" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: mask is 6x4 but its image a\.jpg 4x6"):
        build_dataset(DataConfig(name="voc", root=str(tmp_path)), "train")[0]


def test_real_camvid(shared: Path) -> None:
    config = DataConfig(name="camvid", root=str(shared / "data" / "camvid"))
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert (len(train), len(val)) == (367, 101)
    assert train.labels == val.labels
    sample = train[0]
    assert (sample.image.shape, sample.mask.shape) == ((360, 480, 3), (360, 480))
    assert set(np.unique(sample.mask)) == {0, 1, 2, 3, 4, 5, 6, 8, 9, 255}


@pytest.mark.parametrize(
    "line",
    ["train/x.png trainannot/x.png", "/SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png\r\n"],
)
def test_camvid_paths_count_from_their_last_two_parts(tmp_path: Path, line: str) -> None:
    data = build_dataset(DataConfig(name="camvid", root=str(camvid_tree(tmp_path, line))), "train")
    assert data.ids == ("x",)
    assert set(np.unique(data[0].mask)) == {255}  # 11 is void


def test_camvid_refuses_lines_that_are_no_pair(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path, "train/x.png")
    with pytest.raises(DataError, match=r"train\.txt:1: 'train/x\.png' is not an image path and a mask path"):
        build_dataset(DataConfig(name="camvid", root=str(root)), "train")


@pytest.mark.parametrize("name", ["voc", "camvid", "folder"])
def test_missing_roots_are_one_line_with_what_to_do(tmp_path: Path, name: str) -> None:
    for root, message in (
        (None, "data.root: not set.*data.root=FOLDER"),
        (str(tmp_path / "no"), "data.root: no folder '.*no'.*data.root=FOLDER"),
        (str(tmp_path), "data.root: "),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            build_dataset(DataConfig(name=name, root=root), "train")
        assert len(caught.value.problems) == 1
        assert caught.value.exit_status == 2


def test_unknown_splits_list_those_found(tmp_path: Path) -> None:
    voc_tree(tmp_path, ["a"])
    with pytest.raises(ConfigError, match="no split 'trian'.*Found: train, trainaug, val"):
        build_dataset(DataConfig(name="voc", root=str(tmp_path)), "trian")
    root = camvid_tree(tmp_path / "camvid", "train/x.png trainannot/x.png")
    with pytest.raises(ConfigError, match="no split 'val'.*Found: train"):
        build_dataset(DataConfig(name="camvid", root=str(root)), "val")


def test_empty_splits_are_refused(tmp_path: Path) -> None:
    voc = voc_tree(tmp_path, ["a"])
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n\n")
    with pytest.raises(DataError, match=r"val\.txt: empty"):
        build_dataset(DataConfig(name="voc", root=str(tmp_path)), "val")
