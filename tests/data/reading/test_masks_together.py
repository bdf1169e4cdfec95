"""What the masks of a set say together: palettes that differ, smoothed borders, numbers that are no class."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from segzoo.config.load import config_from_tree, load_config
from segzoo.config.schema import DataConfig, RunConfig
from segzoo.data import build_dataset
from segzoo.data.inspection.check import check_data, quick_check
from segzoo.data.inspection.choices import Machine
from segzoo.data.inspection.make_config import make_config
from segzoo.data.inspection.report import Report
from segzoo.data.loading.datamodule import SegmentationDataModule
from segzoo.errors import ConfigError, DataError

CPU = Machine(threads=2, memory=16)
COLORS = np.array([[20, 20, 20], [200, 0, 0], [0, 200, 0]], np.uint8)
COUNT = 12


def scene(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A ground of 0 with a rectangle of 1 and a disc of 2; every third has no rectangle."""
    random = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    if seed % 3:
        top, left = random.integers(2, size[0] // 3), random.integers(2, size[1] // 3)
        mask[top : top + size[0] // 3, left : left + size[1] // 3] = 1
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = random.integers(size[0] // 2, size[0] - 8), random.integers(size[1] // 2, size[1] - 8)
    mask[(rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < (size[0] // 6) ** 2] = 2
    return mask


def picture_of(mask: np.ndarray, size: tuple[int, int] | None = None) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(int(mask.sum())).integers(0, 256, (*(size or mask.shape), 3), np.uint8)
    )


def plant(root: Path, store: Callable[[np.ndarray, int], Image.Image], suffix: str = ".png") -> Path:
    """A folder with images, and masks stored in some way."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for index in range(COUNT):
        mask = store(scene(index), index)
        mask.save(root / "masks" / f"{index:02}{suffix}")
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (*mask.size[::-1], 3), np.uint8)).save(
            root / "images" / f"{index:02}.png"
        )
    return root


def indexed(mask: np.ndarray, order: np.ndarray, colors: np.ndarray = COLORS) -> Image.Image:
    """A palette picture whose palette has the classes' colours in some order."""
    picture = Image.fromarray(np.argsort(order)[mask].astype(np.uint8))
    picture.putpalette(colors[order].ravel().tolist())
    return picture


def shuffled(mask: np.ndarray, index: int) -> Image.Image:
    return indexed(mask, np.random.default_rng(index).permutation(3))


def of_what_occurs(mask: np.ndarray, index: int) -> Image.Image:
    """Palette of the colours there are, as GIF files have it."""
    present = np.unique(mask)
    picture = Image.fromarray(np.searchsorted(present, mask).astype(np.uint8))
    picture.putpalette(COLORS[present].ravel().tolist())
    return picture


def gray_or_indexed(mask: np.ndarray, index: int) -> Image.Image:
    """Class numbers: some files hold them, some have them as gray levels in a palette of what occurs."""
    if index % 3:
        return Image.fromarray(mask)
    present = np.unique(mask)
    picture = Image.fromarray(np.searchsorted(present, mask).astype(np.uint8))
    picture.putpalette(np.repeat(present, 3).tolist())
    return picture


def data_config(root: Path, **data: object) -> DataConfig:
    tree = {"name": "folder", "root": str(root), "batch_size": 2, "crop_size": 32, **data}
    return config_from_tree({"data": tree, "trainer": {"max_steps": 1}}).data  # type: ignore[return-value]


def check(root: Path, **data: object) -> Report:
    return check_data(data_config(root, **data), progress=False)


def kinds(report: Report) -> set[tuple[str, str]]:
    return {(finding.severity, finding.kind) for finding in report.findings}


def made(root: Path) -> tuple[RunConfig, str]:
    output = root.parent / f"{root.name}.yaml"
    make_config(root, output, machine=CPU, progress=False)
    config = load_config(output)
    assert isinstance(config, RunConfig)
    return config, output.read_text()


@pytest.mark.parametrize(
    ("store", "suffix"),
    [
        (shuffled, ".png"),
        (shuffled, ".tif"),
        (shuffled, ".bmp"),
        (shuffled, ".gif"),
        (of_what_occurs, ".png"),
        (of_what_occurs, ".gif"),
        (gray_or_indexed, ".png"),
    ],
)
def test_palettes_that_differ_are_never_read_by_number(
    tmp_path: Path, store: Callable[[np.ndarray, int], Image.Image], suffix: str
) -> None:
    root = plant(tmp_path / "set", store, suffix)
    words = rf"masks.\d\d{suffix}: index \d is the colour .* in .*masks.\d\d{suffix}: palettes .*data\.folder\.colors="
    with pytest.raises(DataError, match=words) as caught:
        quick_check(data_config(root))
    assert len(caught.value.problems) == 1
    for stated in ({}, {"classes": ["a", "b", "c"]}, {"folder": {"mask_values": {"a": 0, "b": 1, "c": 2}}}):
        assert ("error", "palettes differ") in kinds(check(root, **stated))
    config, text = made(root)
    assert "# warning: " in text
    assert config.data.folder.colors is not None
    names = {tuple(color): index for index, color in enumerate(config.data.folder.colors.values())}
    colors = np.repeat(np.arange(3)[:, None], 3, axis=1) if store is gray_or_indexed else COLORS
    quick_check(config.data)
    assert check_data(config.data, progress=False).errors == 0
    dataset = build_dataset(config.data, "train")
    for sample in (dataset[index] for index in range(len(dataset))):
        expected = np.array([names[tuple(color)] for color in colors.tolist()])[scene(int(sample.id))]
        np.testing.assert_array_equal(sample.mask, expected)


def test_palettes_that_differ_only_where_nothing_is_are_as_good_as_one(tmp_path: Path) -> None:
    def store(mask: np.ndarray, index: int) -> Image.Image:
        picture = Image.fromarray(np.where(mask == 1, 255, mask // 2).astype(np.uint8))
        spare = np.random.default_rng(index).integers(0, 256, (254, 3))  # of 255, the ignored value, too
        picture.putpalette([*COLORS[:2].ravel().tolist(), *spare.ravel().tolist()])
        return picture

    root = plant(tmp_path / "set", store)
    quick_check(data_config(root))
    assert check(root, classes=["ground", "disc"]).findings == ()
    assert made(root)[0].data.folder.colors is None


def test_palettes_of_chance_name_two_files(tmp_path: Path) -> None:
    def store(mask: np.ndarray, index: int) -> Image.Image:
        return indexed(mask, np.arange(3), np.random.default_rng(index).integers(0, 256, (3, 3), np.uint8))

    root = plant(tmp_path / "set", store)
    with pytest.raises(DataError, match=r"masks.\d\d\.png: index 0 .* in .*masks.\d\d\.png: palettes differ"):
        made(root)
    assert not (tmp_path / "set.yaml").exists()


def test_a_class_alone_is_white_wherever_white_stands_in_its_palette(tmp_path: Path) -> None:
    for part in ("images", "masks/disc"):
        (tmp_path / part).mkdir(parents=True)
    black_and_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    for index in range(COUNT):
        present = (scene(index) == 2).astype(np.uint8)
        picture_of(present).save(tmp_path / "images" / f"{index:02}.png")
        order = np.random.default_rng(index).permutation(2)
        indexed(present, order, black_and_white).save(tmp_path / "masks/disc" / f"{index:02}.png")
    dataset = build_dataset(data_config(tmp_path, folder={"multi_label": True}), "train")
    for sample in (dataset[index] for index in range(len(dataset))):
        np.testing.assert_array_equal(sample.mask[0], scene(int(sample.id)) == 2)


def test_a_transparent_index_does_not_make_a_mask_coloured(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", lambda mask, index: indexed(mask, np.arange(3)))
    for path in (root / "masks").iterdir():
        Image.open(path).save(path, transparency=0)
    config, _ = made(root)
    assert config.data.classes == ("class_0", "class_1", "class_2")
    assert check_data(config.data, progress=False).findings == ()


def resized(values: tuple[int, ...], method: Image.Resampling) -> Callable[[np.ndarray, int], Image.Image]:
    def store(mask: np.ndarray, index: int) -> Image.Image:
        picture = Image.fromarray(np.array(values, np.uint8)[mask])
        return picture.resize((2 * picture.width, 2 * picture.height), method)

    return store


def shrunk(mask: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(np.array([0, 40, 80], np.uint8)[mask]).reduce(2)


def through_jpeg(mask: np.ndarray, index: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.array([0, 4, 8], np.uint8)[mask]).save(file, "JPEG", quality=95)
    return Image.open(file).copy()


SMOOTHED = [
    resized((0, 255, 255), Image.Resampling.BILINEAR),
    resized((0, 5, 10), Image.Resampling.BILINEAR),
    resized((0, 20, 30), Image.Resampling.BICUBIC),
    shrunk,
    through_jpeg,
]


@pytest.mark.parametrize("store", SMOOTHED)
def test_smoothed_masks_are_told_with_their_values(
    tmp_path: Path, store: Callable[[np.ndarray, int], Image.Image]
) -> None:
    root = plant(tmp_path / "set", store)
    words = r"masks .*: \d+ values \(\d+, .*stand only on borders.*nearest-neighbour.*data\.folder\.mask_values"
    with pytest.raises(DataError, match=words) as caught:
        made(root)
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "set.yaml").exists()
    with pytest.raises(DataError, match=words):
        quick_check(data_config(root))
    report = check(root)
    assert ("error", "smoothed masks") in kinds(report)
    assert report.errors == 1
    values = sorted({value for path in (root / "masks").iterdir() for value in np.unique(np.array(Image.open(path)))})
    named = {f"class_{value}": int(value) for value in values}
    assert ("warning", "smoothed masks") in kinds(check(root, folder={"mask_values": named}))


def test_smoothed_values_that_are_counted_to_a_class_are_no_longer_told(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", SMOOTHED[0])
    values = {"ground": list(range(128)), "thing": list(range(128, 256))}
    assert check(root, folder={"mask_values": values}).findings == ()


def test_smoothed_colours_are_told_too(tmp_path: Path) -> None:
    def store(mask: np.ndarray, index: int) -> Image.Image:
        return Image.fromarray(COLORS[mask]).reduce(2)

    root = plant(tmp_path / "set", store)
    with pytest.raises(DataError, match=r"values \(\[.*stand only on borders.*data\.folder\.colors"):
        made(root)


def outlined(mask: np.ndarray, index: int) -> Image.Image:
    """Things of 2 in an outline of 1, a pixel wide, as a person may draw it."""
    thing = (mask > 0).astype(np.uint8)
    return Image.fromarray(thing + cv2.erode(thing, np.ones((3, 3), np.uint8)))


def with_poles(mask: np.ndarray, index: int) -> Image.Image:
    """Poles and wires, a pixel wide, of numbers between those beside them."""
    mask = np.array([0, 8, 9], np.uint8)[mask]
    mask[:24, 40:] = 7
    mask[24, 40:50], mask[24, 52:] = 3, 5
    return Image.fromarray(mask)


@pytest.mark.parametrize("store", [outlined, with_poles])
def test_thin_classes_are_no_smoothed_borders(tmp_path: Path, store: Callable[[np.ndarray, int], Image.Image]) -> None:
    root = plant(tmp_path / "set", store)
    quick_check(data_config(root))
    assert "smoothed masks" not in {kind for _, kind in kinds(check(root))}
    made(root)


def planted_numbers(root: Path, values: list[int], kind: str) -> Path:
    """Masks in TIFFs of any type of number, 0, 1 and 2 replaced."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for index in range(COUNT):
        mask = scene(index)
        picture_of(mask).save(root / "images" / f"{index:02}.png")
        tifffile.imwrite(root / "masks" / f"{index:02}.tif", np.array(values)[mask].astype(kind))
    return root


@pytest.mark.parametrize(("kind", "below"), [("int16", -1), ("int8", -1), ("float32", -9999), ("int32", -9999)])
def test_numbers_below_0_are_ignored_and_can_be_said(tmp_path: Path, kind: str, below: int) -> None:
    root = planted_numbers(tmp_path / "set", [0, 1, below], kind)
    config, text = made(root)
    assert config.data.folder.ignore_value == (below,)
    assert "below 0, is ignored" in text
    expected = {index: np.array([0, 1, 255])[scene(index)] for index in range(COUNT)}
    by_hand = data_config(root, folder={"mask_values": {"dry": 0, "water": 1, "none": below}}, ignore_classes=["none"])
    for data in (config.data, by_hand, data_config(root, folder={"ignore_value": below})):
        quick_check(data)
        for split in ("train", "val"):
            dataset = build_dataset(data, split)
            for sample in (dataset[index] for index in range(len(dataset))):
                np.testing.assert_array_equal(sample.mask, expected[int(sample.id)])


def test_numbers_below_0_that_nobody_named_are_refused_with_the_key(tmp_path: Path) -> None:
    root = planted_numbers(tmp_path / "set", [0, 1, -1], "int16")
    with pytest.raises(DataError, match=r"value -1 \(\d+ px\) is no class.*data\.folder\.ignore_value=\[-1\]"):
        quick_check(data_config(root, folder={"mask_values": {"dry": 0, "water": 1}}))


def test_minus_1_and_1_alone_are_two_classes(tmp_path: Path) -> None:
    config, _ = made(planted_numbers(tmp_path / "set", [-1, 1, 1], "int16"))
    assert config.data.folder.mask_values == {"background": (-1,), "object": (1,)}


def test_gray_pictures_of_class_numbers_ignore_255(tmp_path: Path) -> None:
    def store(mask: np.ndarray, index: int) -> Image.Image:
        mask = mask.copy()
        mask[:5] = 255
        return Image.fromarray(np.repeat(mask[..., None], 3, axis=2))

    root = plant(tmp_path / "set", store)
    (root / "classes.txt").write_text("ground\nbox\ndisc\n")
    config, _ = made(root)
    assert build_dataset(config.data, "train").labels.names == ("ground", "box", "disc")
    sample = build_dataset(config.data, "val")[0]
    expected = scene(int(sample.id))
    expected[:5] = 255
    np.testing.assert_array_equal(sample.mask, expected)


@pytest.mark.parametrize(
    "data",
    [
        {"classes": ["ground", "box", "disc"], "ignore_classes": ["box", "disc"]},
        {"classes": ["ground", "box", "disc"], "merge_classes": {"all": ["ground", "box", "disc"]}},
        {"classes": ["ground", "box", "disc"], "ignore_classes": ["ground"], "merge_classes": {"any": ["box", "disc"]}},
        {"folder": {"mask_values": {"all": [0, 1, 2]}}},
    ],
)
def test_a_single_class_is_refused_before_training(tmp_path: Path, data: dict[str, object]) -> None:
    root = plant(tmp_path / "set", lambda mask, index: Image.fromarray(mask))
    with pytest.raises(ConfigError, match="is the only class.*data.ignore_classes"):
        SegmentationDataModule(data_config(root, **data), steps=1, seed=0, eval_batch_size=1)
    assert ("error", "single class") in kinds(check(root, **data))


def test_a_single_class_of_masks_that_overlap_is_enough(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", lambda mask, index: Image.fromarray((mask == 2).astype(np.uint8)))
    (root / "masks").rename(root / "disc")
    (root / "masks").mkdir()
    (root / "disc").rename(root / "masks/disc")
    data = data_config(root, folder={"multi_label": True})
    assert SegmentationDataModule(data, steps=1, seed=0, eval_batch_size=1).labels.names == ("disc",)
    assert check_data(data, progress=False).errors == 0


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ({"mask_values": {"a": 0, "b": -1}, "ignore_value": -1}, "ignore_value: -1 is class b in mask_values"),
        ({"colors": {"a": [0, 0, 0], "b": [1, 1, 1]}, "ignore_value": 7}, "ignore_value: with colors"),
        ({"mask_values": {"a": 0, "b": -(2**24)}}, "mask_values: should be greater than -16777216"),
        ({"multi_label": True, "ignore_value": [0, 7]}, "ignore_value: 0 says that a class is absent"),
    ],
)
def test_numbers_to_ignore_that_cannot_be_are_refused(tmp_path: Path, folder: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        data_config(tmp_path, folder=folder)


def test_the_number_of_a_class_cannot_be_ignored(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", lambda mask, index: Image.fromarray(mask))
    with pytest.raises(ConfigError, match=r"ignore_value: 2 is the number of class disc.*data\.ignore_classes"):
        build_dataset(data_config(root, classes=["a", "b", "disc"], folder={"ignore_value": 2}), "train")
