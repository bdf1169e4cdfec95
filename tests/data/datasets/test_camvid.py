"""CamVid as it was published: coloured masks, 31 classes and Void."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.camvid import FULL_COLORS, segnet_split
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, DataError

SKY, ROAD, VOID = (128, 128, 128), (128, 64, 128), (0, 0, 0)
MASK = np.array([[SKY, ROAD, VOID], [ROAD, ROAD, VOID]], np.uint8)
FRAMES = ("0001TP_006690", "0001TP_008550", "0016E5_08001", "0016E5_08190", "Seq05VD_f00000")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("701_StillsRaw_full", "LabeledApproved_full"):
        (tmp_path / folder).mkdir()
    for frame in FRAMES:
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "701_StillsRaw_full" / f"{frame}.png")
        Image.fromarray(MASK).save(tmp_path / "LabeledApproved_full" / f"{frame}_L.png")
    return tmp_path


def build(root: Path, split: str = "train", **data: object) -> SegmentationDataset:
    return build_dataset(DataConfig(name="camvid", root=str(root), **data), split)  # type: ignore[arg-type]


def test_colors_become_classes_and_void_is_ignored(root: Path) -> None:
    data = build(root)
    assert data.labels.num_classes == 31
    sky, road = data.labels.names.index("Sky"), data.labels.names.index("Road")
    assert data[0].mask.tolist() == [[sky, road, 255], [road, road, 255]]
    assert (data.labels.palette[sky], data.labels.palette[road]) == (SKY, ROAD)


def test_published_colors() -> None:
    assert len(FULL_COLORS) == len(set(FULL_COLORS.values())) == 32
    # In these colours, every channel is one of the four levels 0, 64, 128, 192.
    assert {level for color in FULL_COLORS.values() for level in color} == {0, 64, 128, 192}


def test_splits_are_segnets_by_name(root: Path) -> None:
    assert build(root).ids == ("0001TP_006690", "0016E5_08190")
    assert build(root, "val").ids == ("0016E5_08001",)
    assert build(root, "test").ids == ("0001TP_008550", "Seq05VD_f00000")
    with pytest.raises(ConfigError, match="no split 'dev'.*Found: test, train, val"):
        build(root, "dev")


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("0016E5_07957", "train"),
        ("0016E5_07959", "val"),
        ("0016E5_08159", "val"),
        ("0016E5_08190", "train"),
        ("0001TP_008520", "train"),
        ("0001TP_008550", "test"),
        ("Seq05VD_f05100", "test"),
        ("0006R0_f03930", "train"),
    ],
)
def test_where_one_split_ends_and_the_next_begins(stem: str, split: str) -> None:
    assert segnet_split(stem) == split


def test_the_rule_gives_segnets_lists(shared: Path) -> None:
    for split in ("train", "val"):
        lines = (shared / "data/camvid" / f"{split}.txt").read_text().splitlines()
        stems = [Path(line.split()[0]).stem for line in lines if line.strip()]
        assert {segnet_split(stem) for stem in stems} == {split}


def test_lists_of_stems_come_first(root: Path) -> None:
    (root / "train.txt").write_text("0016E5_08001\nSeq05VD_f00000.png\n")
    (root / "val.txt").write_text("0001TP_006690\n")
    assert build(root).ids == ("0016E5_08001", "Seq05VD_f00000")
    assert build(root, "val").ids == ("0001TP_006690",)
    with pytest.raises(ConfigError, match="no split 'test'.*Found: train, val"):
        build(root, "test")


def test_label_colors_txt_is_read(root: Path) -> None:
    (root / "label_colors.txt").write_text("128 128 128\t\tSky\r\n128 64 128 Road way\n\n0 0 0\tVoid\n")
    data = build(root)
    assert data.labels.names == ("Sky", "Road way")
    assert data[0].mask.tolist() == [[0, 1, 255], [1, 1, 255]]
    (root / "label_colors.txt").write_text("128 128 Sky\n")
    with pytest.raises(DataError, match=r"label_colors\.txt:1: '128 128 Sky' is not red, green, blue"):
        build(root)


def test_faults_name_the_file(root: Path) -> None:
    (root / "LabeledApproved_full/0016E5_08190_L.png").unlink()
    with pytest.raises(DataError, match=r"0016E5_08190\.png: no mask .*0016E5_08190_L\.png"):
        build(root)
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(root / "LabeledApproved_full/0016E5_08001_L.png")
    with pytest.raises(DataError, match=r"0016E5_08001_L\.png: color \[7, 7, 7\] \(6 px\) is no class"):
        build(root, "val")[0]


def test_classes_can_be_merged(root: Path) -> None:
    data = build(root, ignore_classes=("Sky",), merge_classes={"ground": ("Road", "Sidewalk", "RoadShoulder")})
    ground = data.labels.names.index("ground")
    assert data.labels.num_classes == 31 - 1 - 2
    assert data[0].mask.tolist() == [[255, ground, 255], [ground, ground, 255]]
