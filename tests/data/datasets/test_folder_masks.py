"""A folder with every kind of mask and split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.load import config_from_tree
from segzoo.config.schema import DataConfig, FolderConfig
from segzoo.data import build_dataset
from segzoo.data.datasets import classes as data_set_classes
from segzoo.data.datasets.splits import smallest_hashes
from segzoo.data.reading.labels import voc_palette
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, DataError

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def add(root: Path, name: str, mask: np.ndarray | Image.Image, images: str = "images", masks: str = "masks") -> None:
    """Add a black image and its mask."""
    picture = Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask
    for folder in (root / images, root / masks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", picture.size).save(root / images / f"{name}.png")
    picture.save(root / masks / f"{name}.png")


def build(
    root: Path, split: str = "train", classes: tuple[str, ...] | None = None, **folder: object
) -> SegmentationDataset:
    tree = {"name": "folder", "root": str(root), "folder": folder, "classes": list(classes) if classes else None}
    return build_dataset(config_from_tree({"data": tree, "trainer": {"max_steps": 1}}).data, split)


def test_binary_masks_with_a_mapping(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[0, 255, 255, 0]], np.uint8))
    with pytest.raises(DataError, match=r"data\.folder\.mask_values=\{background: 0, object: 255\}"):
        build(tmp_path)
    data = build(tmp_path, mask_values={"background": 0, "cell": 255})
    assert data.labels.names == ("background", "cell")
    assert data[0].mask.tolist() == [[0, 1, 1, 0]]


def test_several_values_for_one_class_and_255_ignored_where_no_class_has_it(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[10, 20, 30, 255]], np.uint8))
    data = build(tmp_path, mask_values={"ground": [10, 20], "sky": 30})
    assert data[0].mask.tolist() == [[0, 0, 1, 255]]
    add(tmp_path / "train", "b", np.array([[10, 11]], np.uint8))
    with pytest.raises(DataError, match=r"b\.png: value 11 \(1 px\) is no class"):
        build(tmp_path, mask_values={"ground": [10, 20], "sky": 30})[1]


def test_gray_levels_are_refused_with_the_mapping_to_set(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[0, 128, 254]], np.uint8))
    with pytest.raises(DataError, match=r"data\.folder\.mask_values=\{class_0: 0, class_1: 128, class_2: 254\}"):
        build(tmp_path)


@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette", "tif", "bmp"])
def test_coloured_masks(tmp_path: Path, kind: str) -> None:
    rows = np.array([[RED, GREEN, WHITE], [WHITE, WHITE, RED]], np.uint8)
    picture = Image.fromarray(rows)
    if kind == "rgba":
        picture.putalpha(255)
    if kind == "palette":  # indices in another order than the classes
        picture = Image.fromarray(np.array([[2, 1, 0], [0, 0, 2]], np.uint8))
        picture.putpalette([*WHITE, *GREEN, *RED])
    add(tmp_path / "train", "a", picture)
    if kind in {"tif", "bmp"}:
        (tmp_path / "train/masks/a.png").unlink()
        picture.save(tmp_path / f"train/masks/a.{kind}")
    data = build(tmp_path, colors={"red": list(RED), "green": list(GREEN), "rest": list(WHITE)})
    assert data.labels.names == ("red", "green", "rest")
    assert data.labels.palette == (RED, GREEN, WHITE)
    assert data[0].mask.tolist() == [[0, 1, 2], [2, 2, 0]]


def test_coloured_masks_without_or_beyond_the_table(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[RED, (254, 0, 0)]], np.uint8))
    with pytest.raises(DataError, match=r"a\.png: RGB picture.*data\.folder\.colors"):
        build(tmp_path)
    with pytest.raises(DataError, match=r"a\.png: color \[254, 0, 0\] \(1 px\) is no class"):
        build(tmp_path, colors={"red": list(RED)})[0]
    see_through = Image.fromarray(np.array([[(255, 0, 0, 255), (255, 0, 0, 0)]], np.uint8))
    add(tmp_path / "train", "a", see_through)
    with pytest.raises(DataError, match=r"a\.png: transparent pixels have no colour"):
        build(tmp_path, colors={"red": list(RED)})[0]


@pytest.mark.parametrize("folder", [{}, {"colors": {"red": [255, 0, 0]}}, {"mask_values": {"a": 0, "b": 1}}])
def test_jpeg_masks_are_refused_with_the_reason(tmp_path: Path, folder: dict[str, object]) -> None:
    add(tmp_path / "train", "a", np.zeros((8, 8), np.uint8))
    Image.open(tmp_path / "train/masks/a.png").save(tmp_path / "train/masks/a.jpg")
    (tmp_path / "train/masks/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG cannot be a mask, its compression changes class numbers"):
        build(tmp_path, **folder)


def test_offset_as_ade20k_has_it(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[0, 1, 2, 3, 255]], np.uint8))
    data = build(tmp_path, mask_offset=1)
    assert data.labels.names == ("class_0", "class_1", "class_2")
    assert data[0].mask.tolist() == [[255, 0, 1, 2, 255]]
    named = build(tmp_path, classes=("wall", "building", "sky"), mask_offset=1)
    assert named[0].mask.tolist() == [[255, 0, 1, 2, 255]]
    beyond = build(tmp_path, classes=("wall", "building"), mask_offset=1)
    with pytest.raises(DataError, match=r"value 3 \(1 px\)"):
        beyond[0]


@pytest.mark.parametrize("offset", [1, 2, 5])
def test_offset_is_a_subtraction(tmp_path: Path, offset: int) -> None:
    mask = np.random.default_rng(0).integers(0, 6 + offset, (20, 30), dtype=np.uint8)
    add(tmp_path / "train", "a", mask)
    shifted = mask.astype(int) - offset
    np.testing.assert_array_equal(build(tmp_path, mask_offset=offset)[0].mask, np.where(shifted < 0, 255, shifted))


def test_16_bit_masks_of_many_ids(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[1000, 2000, 33000]], np.uint16))
    data = build(tmp_path, mask_values={"a": 1000, "b": [2000, 33000]})
    assert data[0].mask.tolist() == [[0, 1, 1]]


def test_palette_masks_are_indices_whatever_their_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8))
    picture.putpalette([channel for color in voc_palette(256) for channel in color])
    add(tmp_path / "train", "a", picture)
    assert build(tmp_path)[0].mask.tolist() == [[0, 1, 2, 255]]


def test_other_folder_names(tmp_path: Path) -> None:
    add(tmp_path / "train", "a", np.array([[0, 1]], np.uint8), "img", "labels/fine")
    data = build(tmp_path, images="img", masks="labels/fine")
    assert data[0].mask.tolist() == [[0, 1]]
    with pytest.raises(ConfigError, match=r"neither images/ and masks/.*data\.folder\.images"):
        build(tmp_path)


def test_lists_split_a_flat_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "day/d"):
        for kind in ("images", "masks"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        add(tmp_path, name, np.array([[0, 1, 2]], np.uint8))
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfc\r\n\r\nday/d.png\r\n")
    (tmp_path / "val.txt").write_text("a\n")
    assert build(tmp_path).ids == ("c", "day/d")
    assert build(tmp_path, "val").ids == ("a",)
    with pytest.raises(ConfigError, match="no split 'test'.*Found: train, val"):
        build(tmp_path, "test")
    (tmp_path / "val.txt").write_text("a\nno\n../b\n")
    (tmp_path / "masks/a.png").unlink()
    with pytest.raises(DataError) as caught:
        build(tmp_path, "val")
    lines = "\n".join(caught.value.problems)
    for words in ("val.txt:3: '../b' leads out", "val.txt:2: no image", "val.txt:2: no mask", "val.txt:1: no mask"):
        assert words in lines


def held_out_ids(ids: Sequence[str], layout: FolderConfig) -> set[str]:
    return set(smallest_hashes(ids, layout.val_fraction, layout.split_seed))


def test_the_held_out_fifth_is_what_it_was() -> None:
    ids = [f"image_{index}" for index in range(20)]
    assert held_out_ids(ids, FolderConfig()) == {"image_15", "image_5", "image_10", "image_12"}


@pytest.mark.parametrize(
    ("fraction", "count", "expected"), [(0.28, 25, 7), (0.2, 35, 7), (0.2, 1, 1), (0.25, 10, 3), (0.1, 10, 1)]
)
def test_fractions_are_exact_and_rounded_up(fraction: float, count: int, expected: int) -> None:
    ids = [f"{index}" for index in range(count)]
    assert len(held_out_ids(ids, FolderConfig(val_fraction=fraction))) == expected


def test_larger_fractions_hold_out_more_of_the_same_and_seeds_others() -> None:
    ids = [f"{index}" for index in range(100)]
    tenth, half = (held_out_ids(ids, FolderConfig(val_fraction=fraction)) for fraction in (0.1, 0.5))
    assert tenth < half
    other = held_out_ids(ids, FolderConfig(val_fraction=0.1, split_seed=1))
    assert other != tenth
    assert held_out_ids(ids[::-1], FolderConfig(val_fraction=0.1, split_seed=1)) == other


def test_masks_are_read_once_for_both_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        add(tmp_path, f"{index}", np.array([[0, 1, 2]], np.uint8))
    read: list[Path] = []
    real = data_set_classes.read_mask
    monkeypatch.setattr(data_set_classes, "read_mask", lambda path: read.append(path) or real(path))
    build(tmp_path)
    build(tmp_path, "val")
    assert len(read) == len(set(read)) == 4
    Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8)).save(read[0])  # changed: read anew
    Image.new("RGB", (4, 1)).save(tmp_path / "images" / read[0].name)
    assert build(tmp_path).labels.num_classes == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"folder": {"mask_values": {"a": 0}, "mask_offset": 1}}, "data.folder: mask_values and mask_offset exclude"),
        ({"folder": {"colors": {"a": [0, 0, 256]}}}, "data.folder.colors: should be less than or equal to 255"),
        ({"folder": {"val_fraction": 1.0}}, "data.folder.val_fraction: should be less than 1"),
        (
            {"folder": {"mask_values": {"a": 0}}, "classes": ["a"]},
            "data: classes: folder.mask_values names them already",
        ),
        ({"channels": 4, "preprocessing": {"mean": [0.5], "std": [0.5]}}, "1 numbers, but data.channels is 4"),
        (
            {"name": "voc", "classes": ["a"]},
            "data: data set voc does not read data.classes. Leave that out, or take a data set that does: folder. To "
            "change classes: data.ignore_classes, data.merge_classes",
        ),
        ({"name": "camvid", "folder": {"mask_offset": 1}}, "data: data set camvid does not read data.folder. Leave"),
        ({"value_range": [3.0, 1.0]}, "value_range: [3.0, 1.0] is empty"),
    ],
)
def test_contradictions_in_the_configuration(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_tree({"data": {"name": "folder", **data}, "trainer": {"max_steps": 1}})
    (line,) = caught.value.problems
    assert message in line


@pytest.mark.parametrize("pixels", [{"channels": 4}, {"value_range": [0, 1]}])
def test_synthetic_scenes_have_pixels_of_their_own(pixels: dict[str, object]) -> None:
    config = DataConfig.model_validate({"name": "synthetic", **pixels})
    with pytest.raises(ConfigError, match="data: channels, value_range: synthetic scenes are 8-bit RGB"):
        build_dataset(config, "train")


def test_a_wrong_number_of_channels_is_one_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_tree({"data": {"name": "folder", "channels": 0}, "trainer": {"max_steps": 1}})
    assert len(caught.value.problems) == 1


def test_defaults_of_preprocessing_follow_the_channels() -> None:
    assert DataConfig(name="folder", channels=5).preprocessing.mean == (0.5,) * 5
    assert DataConfig(name="folder").preprocessing.std == (0.5,) * 3


def test_folders_of_two_classes_with_one_name_are_refused(tmp_path: Path) -> None:
    """What one system writes as a letter is two signs on another; neither folder may go without a word."""
    for name in ("caf\u00e9", "cafe\u0301"):
        add(tmp_path, "a", np.array([[0, 1]], np.uint8), masks=f"masks/{name}")
    with pytest.raises(ConfigError, match="named twice: caf\u00e9"):
        build(tmp_path, multi_label=True)
