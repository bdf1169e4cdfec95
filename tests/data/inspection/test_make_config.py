"""A configuration for every layout and kind of mask, which loads and fits what is there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.explain import schema_line
from segzoo.config.load import load_config
from segzoo.config.schema import RunConfig
from segzoo.data import build_dataset
from segzoo.data.inspection.choices import Machine, this_machine
from segzoo.data.inspection.make_config import make_config
from segzoo.errors import ConfigError, DataError

CPU = Machine(threads=2, memory=16)
GPU = Machine(threads=16, memory=64, gpu="Some GPU", gpu_memory=24, fast_bf16=True)
SIZE = (96, 128)


def pictures(folder: tuple[Path, Path], names: list[str], values: list[int], suffix: str = ".png") -> None:
    """RGB images and masks that hold each of `values`, in stripes."""
    images, masks = folder
    for index, name in enumerate(names):
        for part in (images, masks):
            part.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(index)
        Image.fromarray(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(images / f"{name}{suffix}")
        mask = np.array(values, np.uint8)[np.arange(SIZE[1]) * len(values) // SIZE[1]]
        Image.fromarray(np.tile(mask, (SIZE[0], 1))).save(masks / f"{name}.png")


def one_folder(root: Path, values: list[int], images: str = "images", masks: str = "masks") -> Path:
    pictures((root / images, root / masks), [f"{index:02}" for index in range(20)], values)
    return root


def made(root: Path, machine: Machine = CPU) -> RunConfig:
    output = root.parent / "made.yaml"
    output.unlink(missing_ok=True)
    make_config(root, output, machine=machine, progress=False)
    return load_config(output)


def values_of(config: RunConfig) -> set[int]:
    return {value for sample in (build_dataset(config.data, "train")[0],) for value in np.unique(sample.mask).tolist()}


@pytest.mark.parametrize(
    ("images", "masks"), [("images", "masks"), ("img", "labels"), ("JPEGImages", "SegmentationClass")]
)
def test_one_folder_of_any_usual_name(tmp_path: Path, images: str, masks: str) -> None:
    config = made(one_folder(tmp_path / "set", [0, 1, 2], images, masks))
    assert config.data.folder.images == images
    assert config.data.folder.masks == masks
    assert config.data.classes == ("class_0", "class_1", "class_2")
    assert len(build_dataset(config.data, "train")) == 16
    assert len(build_dataset(config.data, "val")) == 4
    assert values_of(config) == {0, 1, 2}


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("training", "validation"), ("train", "test")])
def test_split_folders_of_any_usual_name(tmp_path: Path, train: str, val: str) -> None:
    for split in (train, val):
        pictures((tmp_path / "set" / split / "imgs", tmp_path / "set" / split / "annotations"), ["a", "b"], [0, 1])
    config = made(tmp_path / "set")
    assert (config.data.train_split, config.data.val_split) == (train, val)
    assert build_dataset(config.data, val).ids == ("a", "b")
    assert config.data.batch_size == 2


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Training", "validation"), ("train", "test")])
def test_split_folders_inside_images_and_masks(tmp_path: Path, train: str, val: str) -> None:
    for split, names in ((train, "abc"), (val, "xy")):
        pictures((tmp_path / "set/img" / split, tmp_path / "set/labels" / split), list(names), [0, 1])
    config = made(tmp_path / "set")
    assert (config.data.train_split, config.data.val_split) == (train, val)
    assert build_dataset(config.data, train).ids == ("a", "b", "c")
    assert build_dataset(config.data, val).ids == ("x", "y")


@pytest.mark.parametrize("inner", ["", "train"])
def test_what_masks_have_after_their_images_names_is_found(tmp_path: Path, inner: str) -> None:
    root = tmp_path / "set"
    for split in ("train", "val") if inner else ("",):
        place = (root / "images" / split, root / "masks" / split)
        pictures(place, [f"a_{index}" for index in range(5)], [0, 1], ".jpg")
        for path in place[1].iterdir():
            path.rename(path.with_stem(f"{path.stem}_mask"))
    config = made(root)
    assert config.data.folder.mask_suffix == "_mask"
    assert len(build_dataset(config.data, "train")) == (5 if inner else 4)
    assert "masks end in _mask" in (tmp_path / "made.yaml").read_text()


def test_one_number_more_than_names_is_an_offset(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1, 2, 2, 3])
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    config = made(root)
    assert config.data.classes == ("sky", "road", "car")
    assert config.data.folder.mask_offset == 1
    assert values_of(config) == {0, 1, 2, 255}
    assert "- road # 50" in (tmp_path / "made.yaml").read_text()
    assert "0 is unlabelled" in (tmp_path / "made.yaml").read_text()


def test_binary_masks_get_their_values_written_out(tmp_path: Path) -> None:
    config = made(one_folder(tmp_path / "set", [0, 255]))
    assert config.data.folder.mask_values == {"background": (0,), "object": (255,)}
    assert values_of(config) == {0, 1}


def test_values_with_gaps_get_their_values_written_out(tmp_path: Path) -> None:
    config = made(one_folder(tmp_path / "set", [0, 3, 4, 255]))
    assert config.data.folder.mask_values == {"class_0": (0,), "class_1": (3,), "class_2": (4,)}
    assert values_of(config) == {0, 1, 2, 255}


def test_gray_levels_are_classes_with_white_among_them(tmp_path: Path) -> None:
    config = made(one_folder(tmp_path / "set", [0, 128, 255]))
    assert config.data.folder.mask_values == {"class_0": (0,), "class_1": (128,), "class_2": (255,)}


def test_255_beside_class_numbers_is_ignored(tmp_path: Path) -> None:
    config = made(one_folder(tmp_path / "set", [0, 1, 255]))
    assert config.data.classes == ("background", "object")
    assert values_of(config) == {0, 1, 255}


def test_coloured_masks_get_a_colour_table(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1, 2])
    colors = np.array([[0, 0, 0], [250, 10, 0], [0, 0, 255]], np.uint8)
    for path in (root / "masks").iterdir():
        Image.fromarray(colors[np.array(Image.open(path))]).save(path)
    config = made(root)
    assert config.data.folder.colors == {"class_0": (0, 0, 0), "class_1": (0, 0, 255), "class_2": (250, 10, 0)}
    assert values_of(config) == {0, 1, 2}


def test_palette_masks_are_read_by_index(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1, 2])
    for path in (root / "masks").iterdir():
        mask = Image.open(path)
        mask.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        mask.save(path)
    assert made(root).data.classes == ("class_0", "class_1", "class_2")


def test_names_come_from_a_list_beside_the_images(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1, 2])
    (root / "class_names.txt").write_text("sky\n'on', off: #1\ntrue\nnever seen\n")
    assert made(root).data.classes == ("sky", "'on', off: #1", "true", "never seen")


@pytest.mark.parametrize(
    ("name", "below", "classes"), [("voc", "VOCdevkit", 21), ("camvid", "camvid", 11), ("cityscapes", "cityscapes", 19)]
)
def test_the_known_sets_are_recognised(shared: Path, tmp_path: Path, name: str, below: str, classes: int) -> None:
    output = tmp_path / "made.yaml"
    found = make_config(shared / "data" / below, output, machine=CPU, progress=False)
    config = load_config(output)
    assert config.data.name == name
    assert f"classes: {classes} " in found.findings[2]
    assert build_dataset(config.data, config.data.val_split).labels.num_classes == classes
    assert config.model.decoder == "deeplabv3plus"


def test_classes_without_names_are_to_be_named_and_may_be_ignored(tmp_path: Path) -> None:
    root, output = one_folder(tmp_path / "set", [0, 1, 2]), tmp_path / "made.yaml"
    assert make_config(root, output, machine=CPU, progress=False).nameless
    text = output.read_text()
    assert "  ignore_classes: null # or [class_2], if that is a border " in text
    output.write_text(text.replace("ignore_classes: null", "ignore_classes: [class_2]"))
    assert build_dataset(load_config(output).data, "train").labels.names == ("class_0", "class_1")
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    output.unlink()
    assert not make_config(root, output, machine=CPU, progress=False).nameless
    assert "ignore_classes" not in output.read_text()


def test_every_choice_has_its_reason_beside_it(tmp_path: Path) -> None:
    made(one_folder(tmp_path / "set", [0, 1, 1, 1, 1, 1, 1, 2]))
    text = (tmp_path / "made.yaml").read_text()
    assert text.splitlines()[0] == f"# {schema_line(tmp_path / 'made.yaml')}"
    assert text.splitlines()[1].startswith("# data: ")
    assert f"# segzoo train {tmp_path / 'made.yaml'}" in text
    for key in (
        "batch_size",
        "crop_size",
        "scale_range",
        "decoder",
        "width",
        "class_weights",
        "max_steps",
        "precision",
    ):
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
        assert " # " in line, line
    assert "- class_1 # 75 % of the pixels" in text


@pytest.mark.parametrize("machine", [CPU, GPU])
def test_choices_follow_the_machine(tmp_path: Path, machine: Machine) -> None:
    config = made(one_folder(tmp_path / "set", [0, 1]), machine)
    height, width = config.data.crop_size
    assert height % 32 == width % 32 == 0
    assert height <= SIZE[0]
    assert width <= SIZE[1]
    if machine.gpu:
        assert (config.model.backbone.name, config.model.backbone.width) == ("xception65", 1.0)
        assert config.model.backbone.weights == "imagenet"
        assert config.trainer.precision == "bf16"
        assert config.trainer.max_epochs is not None
        assert (height, width) == SIZE
    else:
        assert config.model.backbone.width <= 0.35
        assert config.model.backbone.weights is None
        assert config.trainer.max_steps is not None


def test_more_threads_mean_more_steps_in_the_same_time(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    slow = made(root, Machine(threads=1, memory=16)).trainer.max_steps
    fast = made(root, Machine(threads=4, memory=16)).trainer.max_steps
    assert slow is not None
    assert fast is not None
    assert 2 * slow < fast


def test_a_crop_of_a_large_image_shows_some_of_it(shared: Path, tmp_path: Path) -> None:
    make_config(shared / "data/cityscapes", tmp_path / "made.yaml", machine=CPU, progress=False)
    config = load_config(tmp_path / "made.yaml")
    assert config.data.crop_size == (256, 512)  # of 1024 x 2048
    assert config.data.scale_range == (0.5, 1.0)


def test_one_large_image_in_either_split_is_validated_by_tiles(tmp_path: Path) -> None:
    """Whatever the others' sizes: a validation has the memory for its largest image, or it ends the run."""
    folders = {split: [tmp_path / "set" / split / kind for kind in ("images", "masks")] for split in ("train", "val")}
    for folder in folders.values():
        pictures((folder[0], folder[1]), list("abcde"), [0, 1])
    assert made(tmp_path / "set").evaluation.tile is None
    for folder in folders.values():
        before = [path.read_bytes() for path in (folder[0] / "c.png", folder[1] / "c.png")]
        for path in (folder[0] / "c.png", folder[1] / "c.png"):
            with Image.open(path) as picture:
                picture.resize((2400, 1800), Image.Resampling.NEAREST).save(path)
        assert made(tmp_path / "set").evaluation.tile == 1024
        for path, content in zip((folder[0] / "c.png", folder[1] / "c.png"), before, strict=True):
            path.write_bytes(content)


def test_rare_classes_get_balanced_weights(tmp_path: Path) -> None:
    assert made(one_folder(tmp_path / "even", [0, 1])).loss.class_weights is None
    assert made(one_folder(tmp_path / "rare", [0] * 19 + [1])).loss.class_weights == "balanced"


def test_arrays_and_pictures_of_twelve_bits_get_their_range(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "arrays", [0, 1])
    deep = one_folder(tmp_path / "deep", [0, 1])
    random = np.random.default_rng(0)
    for path in (root / "images").iterdir():
        np.save(path.with_suffix(".npy"), random.integers(0, 4096, (*SIZE, 5)).astype(np.uint16))
        path.unlink()
    config = made(root)
    assert (config.data.channels, config.data.value_range) == (5, (0.0, 4095.0))
    assert build_dataset(config.data, "train")[0].image.max() > 0.9
    for path in (deep / "images").iterdir():
        Image.fromarray(random.integers(0, 3000, SIZE).astype(np.uint16)).save(path)
    config = made(deep)
    assert (config.data.channels, config.data.value_range) == (3, (0.0, 4095.0))
    assert build_dataset(config.data, "train")[0].image.max() > 0.7


TIFFS = {
    "near infrared that GDAL marks as alpha": (4, np.uint8, 250, {}, (4, None)),
    "near infrared": (4, np.uint8, 250, {"photometric": "RGB", "alpha": "NO"}, (4, None)),
    "four bands of 14 bits": (4, np.uint16, 10_000, {}, (4, (0, 16383))),
    "12 bits of 16, coloured": (3, np.uint16, 3000, {"photometric": "RGB"}, (3, (0, 4095))),
    "12 bits of 16": (3, np.uint16, 3000, {}, (3, (0, 4095))),
    "all of 16 bits": (3, np.uint16, 65_000, {}, (3, None)),
    "a height with holes": (1, np.float32, 870, {"nodata": -9999}, (3, (0, 870))),
    "ordinary": (3, np.uint8, 250, {}, (3, None)),
    "two bands": (2, np.uint8, 250, {}, (2, None)),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_channels_and_ranges_are_read_off_tiffs(tmp_path: Path, kind: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    count, dtype, high, profile, expected = TIFFS[kind]
    root, random = one_folder(tmp_path / "set", [0, 1]), np.random.default_rng(0)
    for path in (root / "images").iterdir():
        stored = random.integers(1, high, (count, *SIZE)).astype(dtype)
        stored[:, 0, 0], stored[:, 0, 1] = high, profile.get("nodata", 1)
        settings = {"driver": "GTiff", "count": count, "height": SIZE[0], "width": SIZE[1], "dtype": dtype}
        with rasterio.open(path.with_suffix(".tif"), "w", **settings, **profile) as file:
            file.write(stored)
        path.unlink()
    config = made(root)
    assert (config.data.channels, config.data.value_range) == expected
    image = build_dataset(config.data, "train")[0].image
    assert image.max() > (0.5 if image.dtype == np.float32 else 128)


def test_12_bits_of_coloured_pngs_are_stated(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    root, random = one_folder(tmp_path / "set", [0, 1]), np.random.default_rng(0)
    for path in sorted((root / "images").iterdir()):
        cv2.imwrite(str(path), random.integers(0, 3000, (*SIZE, 3)).astype(np.uint16))
    config = made(root)
    assert (config.data.channels, config.data.value_range) == (3, (0.0, 4095.0))
    assert build_dataset(config.data, "train")[0].image.max() > 0.7
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"8 bits, where .*numbers up to .*data\.value_range"):
        made(root)


@pytest.mark.parametrize(
    ("low", "high", "kind", "expected"),
    [
        (-1, 1, np.float32, (-1, 1)),
        (0, 0.9, np.float32, (0, 1)),
        (-30, 12, np.int16, (-30, 12)),
        (2, 300, float, (0, 300)),
    ],
)
def test_signed_and_floating_arrays_get_the_range_they_have(
    tmp_path: Path, low: float, high: float, kind: type, expected: tuple[float, float]
) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    ramp = np.linspace(low, high, SIZE[0] * SIZE[1] * 2).reshape(*SIZE, 2).astype(kind)
    for path in (root / "images").iterdir():
        np.save(path.with_suffix(".npy"), ramp)
        path.unlink()
    assert made(root).data.value_range == expected


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, *SIZE), np.float32), "first axis looks like channels"),
        (np.full((*SIZE, 4), np.nan, np.float32), "not finite"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    for path in (root / "images").iterdir():
        np.save(path.with_suffix(".npy"), array)
        path.unlink()
    with pytest.raises(DataError, match=words):
        made(root)


def _nothing(root: Path) -> None:
    root.mkdir()


def _loose_images(root: Path) -> None:
    one_folder(root, [0, 1])
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    (root / "images").rmdir()


def _all_in_one_folder(root: Path) -> None:
    _loose_images(root)
    for path in (root / "masks").iterdir():
        path.rename(root / f"mask_{path.name}")
    (root / "masks").rmdir()


def _no_pictures(root: Path) -> None:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (_nothing, "empty folder"),
        (_loose_images, "move them into images/"),
        (_all_in_one_folder, "masks lie beside their images, .* Say so: data.folder.images=. data.folder.masks=. "),
        (_no_pictures, "no images. Known"),
    ],
)
def test_what_is_no_data_set_is_a_wrong_request(tmp_path: Path, plant: Callable[[Path], None], words: str) -> None:
    plant(tmp_path / "set")
    with pytest.raises(ConfigError, match=words):
        made(tmp_path / "set")
    assert not (tmp_path / "made.yaml").exists()


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    (tmp_path / "made.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        make_config(root, tmp_path / "made.yaml", machine=CPU, progress=False)
    assert (tmp_path / "made.yaml").read_text() == "mine"


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    (root / "images/00.png").unlink()
    (root / "masks/01.png").unlink()
    with pytest.raises(DataError) as caught:
        made(root)
    assert len(caught.value.problems) == 2
    (root / "images/02.png").write_bytes(b"")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "masks/03.png")
    for name in ("04", "05", "06"):  # no matter which mask is looked at first
        Image.open(root / f"masks/{name}.png").convert("RGB").save(root / f"masks/{name}.png")
    with pytest.raises(DataError) as caught:
        made(root)
    assert len(caught.value.problems) == 7


@pytest.mark.parametrize(("values", "words"), [([7], "single value 7"), (list(range(100)), "100 different values")])
def test_masks_that_are_no_masks_are_refused(tmp_path: Path, values: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        made(one_folder(tmp_path / "set", values))


def test_this_machine_is_seen() -> None:
    machine = this_machine()
    assert machine.threads >= 1
    assert machine.memory > 0


def test_a_slip_of_the_brush_is_no_class(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    mask = np.array(Image.open(root / "masks" / "07.png"))
    mask[0, :3] = 2
    Image.fromarray(mask).save(root / "masks" / "07.png")
    assert made(root).data.classes == ("background", "object")
    text = (tmp_path / "made.yaml").read_text()
    assert "# warning: " in text
    assert "07.png: 3 px of 2, which no other mask holds" in text
    mask[:2] = 2  # more than a slip
    Image.fromarray(mask).save(root / "masks" / "07.png")
    assert made(root).data.classes == ("class_0", "class_1", "class_2")


def test_12_bits_of_jpeg_2000_are_stated(tmp_path: Path) -> None:
    """Pillow gives 8 of their bits without a word that there were more."""
    cv2 = pytest.importorskip("cv2")
    root, random = one_folder(tmp_path / "set", [0, 1]), np.random.default_rng(0)
    stored = random.integers(0, 3000, (*SIZE, 3)).astype(np.uint16)
    for path in sorted((root / "images").iterdir()):
        lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        cv2.imwrite(str(path.with_suffix(".jp2")), stored, lossless)
        path.unlink()
    config = made(root)
    assert (config.data.channels, config.data.value_range) == (3, (0.0, 4095.0))
    image = build_dataset(config.data, "train")[0].image
    np.testing.assert_allclose(image, stored[..., ::-1] / 4095, atol=1e-6)


def test_pages_of_colours_are_refused_before_a_file_is_written(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    root = one_folder(tmp_path / "set", [0, 1])
    for path in sorted((root / "images").iterdir()):
        tifffile.imwrite(path.with_suffix(".tif"), np.zeros((4, *SIZE, 3), np.uint8), photometric="rgb")
        path.unlink()
    with pytest.raises(DataError, match="4 pages of 3 channels each"):
        make_config(root, tmp_path / "c.yaml", machine=CPU)
    assert not (tmp_path / "c.yaml").exists()


def test_a_configuration_among_the_images_is_refused(tmp_path: Path) -> None:
    root = one_folder(tmp_path / "set", [0, 1])
    with pytest.raises(ConfigError, match="would lie among the images or masks"):
        make_config(root, root / "images" / "c.yaml", machine=CPU)
