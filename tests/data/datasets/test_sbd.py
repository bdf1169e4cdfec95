"""trainaug from a small SBD with the layout of the real one, written by scipy and read back by torchvision and PIL."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix
from torchvision.datasets import SBDataset, VOCSegmentation

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.voc import read_sbd_mask, trainaug_ids, write_trainaug
from segzoo.errors import DataError

SIZE = (6, 9)
VOC = {"train": ["v1", "both"], "val": ["held", "v2"]}
SBD = {"train": ["s1", "both"], "val": ["s2", "held"]}


def sbd_values(name: str) -> np.ndarray:
    """Another mask for each name; values 0 to 20."""
    return np.random.default_rng(list(name.encode())).integers(0, 21, SIZE, dtype=np.uint8)


def write_mat(path: Path, values: np.ndarray) -> None:
    """The fields of SBD's files: a 1x1 struct with sparse boundaries, the mask and the classes present."""
    boundaries = np.empty((20, 1), dtype=object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(values == index + 1)
    present = np.setdiff1d(np.unique(values), [0])[:, None]
    savemat(path, {"GTcls": {"Boundaries": boundaries, "Segmentation": values, "CategoriesPresent": present}})


def write_list(path: Path, names: list[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names))


def sbd_tree(root: Path) -> Path:
    for folder in ("cls", "img"):
        (root / folder).mkdir(parents=True)
    for split, names in SBD.items():
        write_list(root / f"{split}.txt", names)
        for name in names:
            write_mat(root / "cls" / f"{name}.mat", sbd_values(name))
            Image.new("RGB", SIZE[::-1]).save(root / "img" / f"{name}.jpg")
    return root


def voc_tree(root: Path) -> Path:
    """VOC2012 with masks that are 7 with a border of 255, and all images, as in the devkit."""
    voc = root / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (voc / folder).mkdir(parents=True)
    border = np.full(SIZE, 255, np.uint8)
    border[1:-1, 1:-1] = 7
    for split, names in VOC.items():
        write_list(voc / "ImageSets/Segmentation" / f"{split}.txt", names)
        for name in names:
            Image.fromarray(border).save(voc / "SegmentationClass" / f"{name}.png")
    for name in {*VOC["train"], *VOC["val"], *SBD["train"], *SBD["val"]}:
        Image.new("RGB", SIZE[::-1]).save(voc / "JPEGImages" / f"{name}.jpg")
    return voc


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    return sbd_tree(tmp_path / "SBD")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return voc_tree(tmp_path)


def test_trainaug_is_all_of_sbd_without_vocs_val_and_with_its_train(sbd, voc):
    assert write_trainaug(sbd, voc) == 4
    lines = (voc / "ImageSets/Segmentation/trainaug.txt").read_text().splitlines()
    assert sorted(lines) == ["both", "s1", "s2", "v1"]  # neither held nor v2
    assert sorted(path.stem for path in (voc / "SegmentationClassAug").iterdir()) == sorted(lines)


def test_masks_are_sbds_and_vocs_own_where_voc_has_them(sbd, voc):
    write_trainaug(sbd, voc)
    oracle = SBDataset(str(sbd), image_set="train", mode="segmentation")
    theirs = dict(zip(SBD["train"], (np.asarray(oracle[index][1]) for index in range(len(oracle))), strict=True))
    for name in ("s1", "s2"):
        with Image.open(voc / "SegmentationClassAug" / f"{name}.png") as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), sbd_values(name))
            assert mask.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]
    np.testing.assert_array_equal(theirs["s1"], sbd_values("s1"))
    for name in VOC["train"]:
        own = (voc / "SegmentationClass" / f"{name}.png").read_bytes()
        assert (voc / "SegmentationClassAug" / f"{name}.png").read_bytes() == own


def test_the_loader_takes_what_was_written(sbd, voc):
    write_trainaug(sbd, voc)
    data = build_dataset(DataConfig(name="voc", root=str(voc.parent)), "trainaug")
    masks = {sample.id: sample.mask for sample in (data[index] for index in range(len(data)))}
    np.testing.assert_array_equal(masks["s2"], sbd_values("s2"))
    assert set(np.unique(masks["both"])) == {7, 255}
    theirs = VOCSegmentation(str(voc.parent.parent), image_set="train")  # still finds its own
    assert len(theirs) == 2


REAL = {"train": 1_464, "val": 1_449}


def lists_of_real_size(shared_with_val: int) -> tuple[list[str], list[str], list[str]]:
    """VOC's train and val of their real sizes, and 11,355 of SBD of which so many are VOC's val."""
    train, val = ([f"{split}{number}" for number in range(count)] for split, count in REAL.items())
    shared = val[:shared_with_val]
    return train, val, [*shared, *(f"sbd{number}" for number in range(11_355 - shared_with_val))]


def test_the_real_voc_must_give_10582_images():
    train, val, sbd = lists_of_real_size(shared_with_val=1_449)
    with pytest.raises(DataError, match="trainaug: 11,370 images instead of 10,582"):
        trainaug_ids(train, val, sbd)
    fewer = sbd[: 11_355 - 788]
    assert len(trainaug_ids(train, val, fewer)) == 10_582
    with pytest.raises(DataError, match="10,581 images instead of 10,582"):
        trainaug_ids(train, val, fewer[:-1])


def test_lists_of_other_sizes_are_taken_as_they_are():
    assert trainaug_ids(["a"], ["b"], ["b", "c"]) == ["a", "c"]


def test_real_lists(shared):
    lists = shared / "data/VOCdevkit/VOC2012/ImageSets/Segmentation"
    train, val, trainaug = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val", "trainaug"))
    if len(train) != REAL["train"]:
        pytest.skip(f"the VOC that is here has {len(train)} training images, not {REAL['train']:,}")
    assert len(trainaug) == 10_582
    assert trainaug_ids(train, val, trainaug) == sorted(trainaug)


def test_real_trainaug_masks_keep_vocs_masks_and_sbds_have_no_border(shared):
    """What `write_trainaug` promises is so in masks that others made."""
    voc = shared / "data/VOCdevkit/VOC2012"
    of_voc = {path.name for path in (voc / "SegmentationClass").iterdir()}
    for path in (voc / "SegmentationClassAug").iterdir():
        with Image.open(path) as opened:
            mask = np.asarray(opened)
        if path.name in of_voc:
            with Image.open(voc / "SegmentationClass" / path.name) as own:
                np.testing.assert_array_equal(mask, np.asarray(own))
        else:
            assert mask.max() <= 20


def break_mat(kind: str, path: Path) -> None:
    if kind == "missing":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "text":
        path.write_text("no mat")
    elif kind == "other":
        savemat(path, {"GTinst": {"Segmentation": sbd_values("s1")}})
    elif kind == "value":
        write_mat(path, np.full(SIZE, 21, np.uint8))
    else:
        savemat(path, {"GTcls": {"Segmentation": np.zeros((2, 3, 4), np.uint8)}})


@pytest.mark.parametrize("kind", ["missing", "cut", "text", "other", "value", "shape"])
def test_a_damaged_mask_is_named_and_leaves_nothing(sbd, voc, kind):
    break_mat(kind, sbd / "cls" / "s1.mat")
    with pytest.raises(DataError, match=r"s1\.mat: ") as caught:
        write_trainaug(sbd, voc)
    assert len(caught.value.problems) == 1
    assert sorted(path.name for path in voc.iterdir()) == ["ImageSets", "JPEGImages", "SegmentationClass"]
    assert not (voc / "ImageSets/Segmentation/trainaug.txt").exists()


def test_values_are_those_of_the_file(sbd):
    np.testing.assert_array_equal(read_sbd_mask(sbd / "cls" / "s2.mat"), sbd_values("s2"))


def test_masks_that_are_there_are_kept(sbd, voc):
    write_trainaug(sbd, voc)
    (voc / "ImageSets/Segmentation/trainaug.txt").unlink()
    mask = voc / "SegmentationClassAug" / "s1.png"
    before = mask.stat().st_mtime_ns
    assert write_trainaug(sbd, voc) == 4
    assert mask.stat().st_mtime_ns == before
    mask.unlink()
    with pytest.raises(DataError, match="SegmentationClassAug: 1 of 4 masks are missing. Move the folder away"):
        write_trainaug(sbd, voc)


@pytest.mark.parametrize("line", ["/etc/passwd", "sub/a", "../a"])
def test_ids_that_are_paths_are_refused(sbd, voc, line):
    write_list(sbd / "val.txt", ["s2", line])
    with pytest.raises(DataError, match=r"val\.txt.*: '.*' (is no plain image id|leads out)"):
        write_trainaug(sbd, voc)


def test_missing_lists_are_named(sbd, voc):
    (sbd / "train.txt").unlink()
    with pytest.raises(DataError, match=r"SBD/train\.txt: no such list"):
        write_trainaug(sbd, voc)
