"""Any folder of images and masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, DataError

MASK = np.array([[0, 1, 2, 255]], np.uint8)


def add(folder: Path, name: str, mask: np.ndarray = MASK, suffix: str = ".png") -> None:
    """Add an image and its mask."""
    for kind in ("images", "masks"):
        (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(folder / "images" / f"{name}{suffix}")
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


def build(root: Path, split: str = "train", **data: object) -> SegmentationDataset:
    return build_dataset(DataConfig(name="folder", root=str(root), **data), split)  # type: ignore[arg-type]


def test_real_nuclei(shared: Path) -> None:
    root = shared / "data" / "nuclei"
    train, val = build(root), build(root, "val")
    assert (len(train), len(val)) == (48, 12)
    assert train.labels == val.labels
    assert train.labels.names == ("class_0", "class_1", "class_2")
    assert set(np.unique(train[0].mask)) == {0, 1, 2}


def test_split_folders(tmp_path: Path) -> None:
    add(tmp_path / "train", "a")
    add(tmp_path / "val", "b", suffix=".jpg")
    assert (build(tmp_path).ids, build(tmp_path, "val").ids) == (("a",), ("b",))
    with pytest.raises(ConfigError, match="no split 'test'.*Found: train, val"):
        build(tmp_path, "test")


def test_a_flat_folder_is_split_by_name(tmp_path: Path) -> None:
    for index in range(20):
        add(tmp_path, f"image_{index}")
    train, val = build(tmp_path), build(tmp_path, "val")
    assert (len(train), len(val)) == (16, 4)
    assert not set(train.ids) & set(val.ids)
    add(tmp_path, "one_more")
    assert len(set(val.ids) - set(build(tmp_path, "val").ids)) <= 1
    with pytest.raises(ConfigError, match="no split 'test'.*Found: train, val"):
        build(tmp_path, "test")


def test_two_flat_images_give_one_for_each_split(tmp_path: Path) -> None:
    add(tmp_path, "a")
    with pytest.raises(DataError, match="one image makes no train and val"):
        build(tmp_path)
    add(tmp_path, "b")
    assert (len(build(tmp_path)), len(build(tmp_path, "val"))) == (1, 1)


def test_names_come_from_config_then_file_then_masks(tmp_path: Path) -> None:
    add(tmp_path / "train", "a")
    assert build(tmp_path).labels.names == ("class_0", "class_1", "class_2")
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfsky\r\n\r\nroad\r\nmy car\r\n")
    assert build(tmp_path).labels.names == ("sky", "road", "my car")
    assert build(tmp_path, classes=("x", "y", "z")).labels.names == ("x", "y", "z")


def test_classes_are_counted_in_the_training_masks_for_every_split(tmp_path: Path) -> None:
    add(tmp_path / "train", "a")
    add(tmp_path / "val", "b", np.array([[0, 1]], np.uint8))
    assert build(tmp_path, "val").labels.num_classes == 3


def test_folders_in_folders_keep_their_path_as_id(tmp_path: Path) -> None:
    add(tmp_path / "train", "day/a")
    add(tmp_path / "train", "night/a")
    assert build(tmp_path).ids == ("day/a", "night/a")


def test_hidden_and_other_files_do_not_count(tmp_path: Path) -> None:
    add(tmp_path / "train", "a")
    (tmp_path / "train/images/._a.png").write_bytes(b"what macOS leaves")
    (tmp_path / "train/images/notes.txt").write_text("")
    assert build(tmp_path).ids == ("a",)


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    for name in ("fine", "lonely", "twice", "size", "coloured", "jpeg", "broken"):
        add(folder, name)
    (folder / "masks/lonely.png").unlink()
    (folder / "images/twice.jpg").write_bytes((folder / "images/twice.png").read_bytes())
    Image.fromarray(MASK.T.copy()).save(folder / "masks/size.png")
    Image.fromarray(np.zeros((1, 4, 3), np.uint8)).save(folder / "masks/coloured.png")
    (folder / "masks/jpeg.png").unlink()
    Image.fromarray(MASK).save(folder / "masks/jpeg.jpg")
    (folder / "images/broken.png").write_bytes(b"")
    Image.fromarray(MASK).save(folder / "masks/orphan.png")
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    expected = {
        "images/lonely.png: no mask masks/lonely.png. Add it",
        "images/twice.jpg: twice.png has the same name",
        "masks/size.png: mask is 4x1 but its image size.png 1x4",
        "masks/coloured.png: RGB picture where a mask",
        "masks/jpeg.jpg: a JPEG cannot be a mask",
        "images/broken.png: empty file",
        "masks/orphan.png: no image of this name",
    }
    assert len(caught.value.problems) == len(expected)
    for words in expected:
        assert any(words in line for line in caught.value.problems), words


def test_many_faults_are_counted_not_listed(tmp_path: Path) -> None:
    for index in range(70):
        add(tmp_path / "train", f"{index:02}")
    for index in range(60):
        (tmp_path / "train/masks" / f"{index:02}.png").unlink()
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    images = tmp_path / "train/images"
    assert caught.value.problems == [
        f"{images}/00.png and 59 more ({images}/01.png, {images}/02.png, ...): no mask masks/00.png. Add it or remove "
        "the image."
    ]


@pytest.mark.parametrize("classes", [None, ("background", "object")])
def test_binary_pictures_are_refused_with_a_hint(tmp_path: Path, classes: tuple[str, ...] | None) -> None:
    add(tmp_path / "train", "a", np.array([[0, 255]], np.uint8))
    add(tmp_path / "train", "b", np.array([[0, 0]], np.uint8))
    with pytest.raises(DataError, match=r"values 0, 255.*1 in place of 255"):
        build(tmp_path, classes=classes)
    add(tmp_path / "train", "c", np.array([[0, 1]], np.uint8))  # now 255 is what is ignored
    assert build(tmp_path, classes=classes).labels.num_classes == 2


def test_gray_levels_are_not_taken_for_classes(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[0, 128]], np.uint8))
    with pytest.raises(DataError, match="values 0, 128"):
        build(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither images/ and masks/ nor train/images"):
        build(tmp_path)
    (tmp_path / "train/images").mkdir(parents=True)
    with pytest.raises(DataError, match="images: no folder .*train/masks. Put the masks there"):
        build(tmp_path)
    (tmp_path / "train/masks").mkdir()
    with pytest.raises(DataError, match="no images"):
        build(tmp_path)


def add_to_split(root: Path, split: str, name: str) -> None:
    """Add `images/<split>/<name>.jpg` and its mask."""
    add(root / "all", name, suffix=".jpg")
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
        for path in (root / "all" / kind).iterdir():
            path.rename(root / kind / split / path.name)
        (root / "all" / kind).rmdir()
    (root / "all").rmdir()


def test_split_folders_inside_images_and_masks(tmp_path: Path) -> None:
    for split, names in (("train", "abcde"), ("val", "af"), ("extra", "g")):
        for name in names:
            add_to_split(tmp_path, split, name)
    train, val = build(tmp_path), build(tmp_path, "val")
    assert (train.ids, val.ids) == (tuple("abcde"), tuple("af"))
    assert build(tmp_path, "extra").ids == ("g",)
    assert val[0].mask.shape == MASK.shape
    with pytest.raises(ConfigError, match="no split 'test'.*Found: extra, train, val"):
        build(tmp_path, "test")
    (tmp_path / "masks/val/f.png").unlink()
    with pytest.raises(DataError, match=r"images/val/f.jpg: no mask masks/val/f.png\."):
        build(tmp_path, "val")
    (tmp_path / "masks/val").rename(tmp_path / "masks/other")
    with pytest.raises(DataError, match="images/val: no folder .*masks/val. Put"):
        build(tmp_path, "val")


def test_split_folders_of_other_names_never_mix(tmp_path: Path) -> None:
    """Else a fifth of both would be measured, most of it seen in training."""
    add_to_split(tmp_path, "Training", "a")
    add_to_split(tmp_path, "validation", "b")
    with pytest.raises(ConfigError, match="no split 'train'.*Found: Training, validation.*data.train_split"):
        build(tmp_path)
    splits = {"train_split": "Training", "val_split": "validation"}
    assert build(tmp_path, "Training", **splits).ids == ("a",)
    assert build(tmp_path, "validation", **splits).ids == ("b",)


def test_folders_that_are_no_splits_and_folders_beside_lists_are_part_of_the_name(tmp_path: Path) -> None:
    for place in ("north", "south"):
        for name in "abcde":
            add_to_split(tmp_path, place, name)
    train, val = build(tmp_path), build(tmp_path, "val")
    assert (len(train), len(val)) == (8, 2)
    assert all("/" in name for name in (*train.ids, *val.ids))
    add_to_split(tmp_path, "train", "x")
    (tmp_path / "train.txt").write_text("train/x\nnorth/a\n")
    assert build(tmp_path).ids == ("train/x", "north/a")


def with_mask_suffix(root: Path, names: str, suffix: str = "_mask") -> None:
    for name in names:
        add(root, name, suffix=".jpg")
        (root / f"masks/{name}.png").rename(root / f"masks/{name}{suffix}.png")


def test_masks_with_more_in_their_names(tmp_path: Path) -> None:
    with_mask_suffix(tmp_path / "train", "abc")
    data = build(tmp_path, folder={"mask_suffix": "_mask"})
    assert data.ids == ("a", "b", "c")
    np.testing.assert_array_equal(data[0].mask, MASK)
    (tmp_path / "train/masks/a_mask.png").rename(tmp_path / "train/masks/a.png")
    with pytest.raises(DataError) as caught:
        build(tmp_path, folder={"mask_suffix": "_mask"})
    lonely, unnamed = sorted(caught.value.problems)
    assert "images/a.jpg: no mask masks/a_mask.png." in lonely
    assert "masks/a.png: its name has not what data.folder.mask_suffix=_mask asks for" in unnamed


def test_a_suffix_that_is_not_stated_is_one_line_with_the_key(tmp_path: Path) -> None:
    with_mask_suffix(tmp_path / "train", "abc")
    add(tmp_path / "train", "orphan")
    (tmp_path / "train/images/orphan.png").unlink()
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    (line,) = caught.value.problems
    assert "train/masks: no mask has its image's name, but a_mask.png is that of a.jpg. Say so:" in line
    assert line.endswith("data.folder.mask_suffix=_mask")


def test_names_in_lists_are_those_of_images(tmp_path: Path) -> None:
    with_mask_suffix(tmp_path, "abc", ".label")
    (tmp_path / "train.txt").write_text("a\nc.jpg\n")
    (tmp_path / "val.txt").write_text("b\nd\n")
    suffix = {"mask_suffix": ".label"}
    assert build(tmp_path, folder=suffix).ids == ("a", "c")
    with pytest.raises(DataError, match=r"val.txt:2: no mask .*masks/d.label.png"):
        build(tmp_path, "val", folder=suffix)


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    with_mask_suffix(tmp_path / "train", "abc")
    for path in (tmp_path / "train/masks").iterdir():
        path.rename(tmp_path / "train/images" / path.name)
    (tmp_path / "train/images").rename(tmp_path / "train/both")
    data = build(tmp_path, folder={"images": "both", "masks": "both", "mask_suffix": "_mask"})
    assert data.ids == ("a", "b", "c")
    np.testing.assert_array_equal(data[2].mask, MASK)


def test_a_names_file_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    add(tmp_path / "train", "a")
    (tmp_path / "classes.txt").write_bytes("background\nb\xe4ume\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"classes.txt: no UTF-8 text"):
        build(tmp_path)


def test_one_value_too_many_hints_at_the_offset(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[0, 1, 2, 3]], np.uint8))
    data = build(tmp_path, classes=("x", "y", "z"))
    with pytest.raises(DataError, match=r"value 3 \(1 px\) is no class.*data.folder.mask_offset=1"):
        data[0]
