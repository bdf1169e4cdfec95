"""What annotation programs export, VOC's layout with other classes, and what a person states."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.commands.data import make_config as command
from segzoo.config.load import load_config
from segzoo.config.schema import DataConfig, RunConfig
from segzoo.data import build_dataset
from segzoo.data.inspection.check import check_data
from segzoo.data.inspection.choices import Machine
from segzoo.data.inspection.make_config import make_config
from segzoo.data.reading.labels import voc_palette
from segzoo.errors import ConfigError, DataError

CPU = Machine(threads=2, memory=16)
COLORS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
MASK = np.tile(np.repeat(np.array([0, 1, 2], np.uint8), 16), (40, 1))
NAMES = "background\nroof\ntree\n"
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroof:250,50,83::\ntree: 51, 221, 255::\n"
IDS = [f"frame_{index:06}" for index in range(10)]


def pairs(root: Path, masks: str, store: Callable[[np.ndarray], Image.Image], ids: list[str] = IDS) -> Path:
    for folder in ("JPEGImages", masks):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate(ids):
        picture = np.random.default_rng([index, *root.name.encode()]).integers(0, 256, (*MASK.shape, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg")
        store(MASK).save(root / masks / f"{name}.png")
    return root


def lists(root: Path, **splits: list[str]) -> None:
    folder = root / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    for name, ids in splits.items():
        (folder / f"{name}.txt").write_text("\n".join(ids) + "\n")


def painted(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(COLORS[mask])


def numbers(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask)


def with_palette(colors: np.ndarray) -> Callable[[np.ndarray], Image.Image]:
    def store(mask: np.ndarray) -> Image.Image:
        picture = Image.fromarray(mask)
        picture.putpalette(colors.astype(np.uint8).ravel().tolist())
        return picture

    return store


VOC_COLORS = np.array(voc_palette(256))


def made(root: Path, *overrides: str) -> tuple[RunConfig, str]:
    output = root.parent / "made.yaml"
    output.unlink(missing_ok=True)
    make_config(root, output, overrides, machine=CPU, progress=False)
    config = load_config(output)
    assert isinstance(config, RunConfig)
    return config, output.read_text()


def sound(config: RunConfig, names: tuple[str, ...], *, train: int, val: int) -> None:
    """The configuration reads the masks as they were drawn."""
    for split, count in ((config.data.train_split, train), (config.data.val_split, val)):
        dataset = build_dataset(config.data, split)
        assert (len(dataset), dataset.labels.names) == (count, names)
        np.testing.assert_array_equal(dataset[0].mask, MASK)
    assert check_data(config.data, progress=False).errors == 0


@pytest.mark.parametrize("store", [painted, with_palette(COLORS), with_palette(COLORS[[2, 0, 1]])])
def test_cvats_masks_have_the_names_and_colours_of_labelmap(
    tmp_path: Path, store: Callable[[np.ndarray], Image.Image]
) -> None:
    root = pairs(tmp_path / "set", "SegmentationClass", store)
    lists(root, default=IDS)
    (root / "labelmap.txt").write_text(LABELMAP)
    config, _ = made(root)
    assert config.data.folder.colors == {"background": (0, 0, 0), "roof": (250, 50, 83), "tree": (51, 221, 255)}
    dataset = build_dataset(config.data, "train")
    with Image.open(root / "SegmentationClass" / f"{dataset.ids[0]}.png") as picture:
        shown = np.array(picture.convert("RGB"))
    np.testing.assert_array_equal(COLORS[dataset[0].mask], shown)


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Train", "Validation")])
def test_lists_of_both_splits_in_vocs_place_are_used(tmp_path: Path, train: str, val: str) -> None:
    root = pairs(tmp_path / "set", "SegmentationClass", painted)
    lists(root, **{train: IDS[:7], val: IDS[7:]})
    (root / "labelmap.txt").write_text(LABELMAP)
    config, _ = made(root)
    assert (config.data.train_split, config.data.val_split) == (train, val)
    sound(config, ("background", "roof", "tree"), train=7, val=3)


def test_colours_that_labelmap_does_not_name_are_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path / "set", "SegmentationClass", painted)
    (root / "labelmap.txt").write_text("background:0,0,0::\nroof:250,50,83::\n")
    with pytest.raises(DataError, match=r"labelmap\.txt names 2 colours.*1 others: \[51, 221, 255\] \(6400 px\)"):
        made(root)


@pytest.mark.parametrize("masks", ["SegmentationClassPNG", "SegmentationClass"])
def test_labelmes_export_has_the_names_of_its_list(tmp_path: Path, masks: str) -> None:
    root = pairs(tmp_path / "set", masks, with_palette(VOC_COLORS))
    arrays = "SegmentationClass" if masks.endswith("PNG") else "SegmentationClassNpy"
    for folder in (arrays, "SegmentationClassVisualization"):
        (root / folder).mkdir(exist_ok=True)
    np.save(root / arrays / f"{IDS[0]}.npy", MASK)
    painted(MASK).save(root / "SegmentationClassVisualization" / f"{IDS[0]}.jpg")
    (root / "class_names.txt").write_text("_background_\nroof\ntree\n")
    config, _ = made(root)
    assert config.data.folder.masks == masks
    sound(config, ("_background_", "roof", "tree"), train=8, val=2)
    (root / "class_names.txt").unlink()
    (root / "labels.txt").write_text("__ignore__\n_background_\nroof\ntree\n")
    sound(made(root)[0], ("_background_", "roof", "tree"), train=8, val=2)


def _names(root: Path) -> None:
    (root / "class_names.txt").write_text(NAMES)


def _yaml(root: Path) -> None:
    (root / "data.yaml").write_text("nc: 2\nnames: {0: roof, 1: tree}\n")


def _yaml_list(root: Path) -> None:
    (root / "data.yaml").write_text("names:\n- background\n- roof\n- tree\n")


def _nothing(root: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("store", "name", "names"),
    [
        (with_palette(VOC_COLORS), _names, ("background", "roof", "tree")),
        (numbers, _yaml, ("background", "roof", "tree")),
        (numbers, _yaml_list, ("background", "roof", "tree")),
        (with_palette(VOC_COLORS), _nothing, ("class_0", "class_1", "class_2")),
        (with_palette(COLORS), _nothing, ("class_0", "class_1", "class_2")),
    ],
)
def test_vocs_layout_with_other_classes_is_no_voc(
    tmp_path: Path,
    store: Callable[[np.ndarray], Image.Image],
    name: Callable[[Path], None],
    names: tuple[str, ...],
) -> None:
    root = pairs(tmp_path / "set", "SegmentationClass", store)
    lists(root, train=IDS[:7], val=IDS[7:])
    name(root)
    config, text = made(root)
    assert config.data.name == "folder"
    assert "as in Pascal VOC, but " in text
    sound(config, names, train=7, val=3)


def test_numbers_beyond_vocs_are_other_classes(tmp_path: Path) -> None:
    root = pairs(tmp_path / "set", "SegmentationClass", lambda mask: Image.fromarray(mask * np.uint8(20)))
    lists(root, train=IDS[:7], val=IDS[7:])
    assert made(root)[0].data.folder.mask_values == {"class_0": (0,), "class_1": (20,), "class_2": (40,)}


def test_voc_with_its_own_names_and_classes_is_voc(tmp_path: Path) -> None:
    ids = [f"2007_{index:06}" for index in range(10)]
    root = pairs(tmp_path / "set", "SegmentationClass", with_palette(VOC_COLORS), ids)
    lists(root, train=ids[:7], val=ids[7:])
    config, _ = made(root)
    assert config.data.name == "voc"
    sound(config, build_dataset(config.data, "train").labels.names, train=7, val=3)


@pytest.mark.parametrize(
    ("store", "name", "words"),
    [
        (with_palette(VOC_COLORS), _names, r"class_names\.txt names other classes \(background, roof, tree\)"),
        (with_palette(COLORS), _nothing, r"\.png paints 1 \[250, 50, 83\], and VOC aeroplane another colour"),
        (painted, _nothing, r"\.png is a coloured picture"),
    ],
)
def test_voc_by_name_alone_is_refused(
    tmp_path: Path, store: Callable[[np.ndarray], Image.Image], name: Callable[[Path], None], words: str
) -> None:
    root = pairs(tmp_path / "set", "SegmentationClass", store)
    lists(root, train=IDS[:7], val=IDS[7:])
    name(root)
    with pytest.raises(ConfigError, match=f"is not Pascal VOC: .*{words}.*segzoo make-config") as caught:
        build_dataset(DataConfig(name="voc", root=str(root)), "train")
    assert len(caught.value.problems) == 1


def test_a_list_of_names_says_nothing_of_colours(tmp_path: Path) -> None:
    root = pairs(tmp_path / "set", "masks", painted)
    (root / "classes.txt").write_text(NAMES)
    config, text = made(root)
    assert config.data.folder.colors is not None
    assert list(config.data.folder.colors) == ["class_0", "class_1", "class_2"]
    assert "give them the 3 names in classes.txt" in text


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
def test_a_single_name_is_that_of_the_object(tmp_path: Path, values: tuple[int, int]) -> None:
    table = np.array([*values, values[1]], np.uint8)
    root = pairs(tmp_path / "set", "masks", lambda mask: Image.fromarray(table[mask]))
    (root / "classes.txt").write_text("roof\n")
    assert build_dataset(made(root)[0].data, "train").labels.names == ("background", "roof")


def test_what_a_person_states_counts_and_is_written(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("day1", "day2"):
        pairs(root / split, "truth", painted)
        (root / split / "JPEGImages").rename(root / split / "left")
    with pytest.raises(ConfigError, match="no images/ and masks/"):
        made(root)
    config, text = made(
        root,
        "data.train_split=day1",
        "data.val_split=day2",
        "data.folder.images=left",
        "data.folder.masks=truth",
        "data.folder.colors={none: [0, 0, 0], roof: [250, 50, 83], tree: [51, 221, 255]}",
        "data.batch_size=3",
    )
    sound(config, ("none", "roof", "tree"), train=10, val=10)
    assert config.data.batch_size == 3
    assert "train_split: day1 # as you said" in text


def test_every_key_that_an_error_of_make_config_names_may_be_given(tmp_path: Path) -> None:
    root = pairs(tmp_path / "set", "masks", numbers)
    for fold, ids in (("train", IDS[:5]), ("val", IDS[5:9]), ("fold2", IDS[9:])):
        (root / f"{fold}.txt").write_text("\n".join(ids))
    (root / "JPEGImages").rename(root / "images")
    config, _ = made(root, "data.val_split=fold2", "data.ignore_classes=[class_0]")
    assert len(build_dataset(config.data, config.data.val_split)) == 1
    assert build_dataset(config.data, "train").labels.names == ("class_1", "class_2")
    with pytest.raises(ConfigError, match="no split 'fold3'"):
        made(root, "data.val_split=fold3")
    offset, _ = made(root, "data.folder.mask_offset=1")
    assert np.unique(build_dataset(offset.data, "train")[0].mask).tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train_split=a", "train_split: only what says how the data are read.*data.train_split"),
        ("trainer.max_steps=3", "trainer.max_steps: only what says"),
        ("data.root=x", "data.root: the folder decides"),
        ("data.batch_sise=3", "data.batch_sise: unknown key. Did you mean data.batch_size"),
        ("data.folder.masks", "not understood. Write key.sub=value"),
    ],
)
def test_what_cannot_be_stated_is_refused(tmp_path: Path, override: str, words: str) -> None:
    root = pairs(tmp_path / "set", "masks", numbers)
    with pytest.raises(ConfigError, match=words):
        made(root, override)
    assert not (tmp_path / "made.yaml").exists()


def test_the_command_takes_what_is_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "set", "masks", numbers)
    arguments = [str(root), "--data.train_split", "train", "data.classes=[a,b,c]", "--output", str(tmp_path / "a.yaml")]
    assert command(arguments) == 0
    assert "classes: 3 (a, b, c)" in capsys.readouterr().out
    assert load_config(tmp_path / "a.yaml").data.classes == ("a", "b", "c")


def test_a_file_that_would_be_refused_is_not_left(tmp_path: Path) -> None:
    root = pairs(tmp_path / "set", "masks", painted)
    (root / "labelmap.txt").write_text("a:0,0,0::\na:250,50,83::\nb:51,221,255::\n")  # twice the same key
    with pytest.raises(ConfigError, match=r"made\.yaml: line \d+: found duplicate key"):
        made(root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
