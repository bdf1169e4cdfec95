"""How images find their masks: names with more in them, lists of any editor, one line for one mistake."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.load import load_config
from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.folder_names import Affixes, likely_affixes
from segzoo.data.inspection.make_config import make_config
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError, DataError, SegzooError
from segzoo.inference.jobs import find_images

COUNT = 10


def image(path: Path, number: int) -> None:
    """A small picture that tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 4, 3), 20 * (number % 12), np.uint8)).save(path)


def mask(path: Path, number: int) -> None:
    """A mask that tells its number, to see that it is the right one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([[0, 1, 2, number % 3]] * 3, np.uint8)).save(path)


def build(root: Path, split: str = "train", **data: object) -> SegmentationDataset:
    config = {"classes": ("a", "b", "c"), **data}
    return build_dataset(DataConfig(name="folder", root=str(root), **config), split)  # type: ignore[arg-type]


def check_pairs(root: Path, **data: object) -> list[str]:
    """Both splits' ids, after a look whether each image has its own mask."""
    ids = []
    for split in ("train", "val"):
        dataset = build(root, split, **data)
        for index, name in enumerate(dataset.ids):
            sample = dataset[index]
            assert int(sample.mask[0, 3]) == int(sample.image[0, 0, 0]) // 20 % 3, name
        ids += dataset.ids
    return sorted(ids)


# Names with more in them: image, mask, what has to be stated.
NAMED = {
    "DeepGlobe": ("{}00_sat.png", "{}00_mask.png", Affixes(image_suffix="_sat", mask_suffix="_mask")),
    "DRIVE": ("{}1_training.tif", "{}1_manual1.gif", Affixes(image_suffix="_training", mask_suffix="_manual1")),
    "prefixes": ("image_{}.png", "mask_{}.png", Affixes(image_prefix="image_", mask_prefix="mask_")),
    "Potsdam": (
        "top_2_{}_RGB.tif",
        "top_2_{}_label.tif",
        Affixes(image_suffix="_RGB", mask_suffix="_label"),
    ),
    "no marks": ("img{}.png", "gt{}.png", Affixes(image_prefix="img", mask_prefix="gt")),
    "both ends": ("im_{}_a.png", "{}_b.png", Affixes(image_prefix="im_", image_suffix="_a", mask_suffix="_b")),
    "masks only": ("{}.png", "{}.label.png", Affixes(mask_suffix=".label")),
    "mask prefix": ("{}.png", "seg-{}.png", Affixes(mask_prefix="seg-")),
    "in sub-folders": ("day/{}_x.png", "day/{}_y.png", Affixes(image_suffix="_x", mask_suffix="_y")),
}


@pytest.mark.parametrize("case", NAMED)
def test_names_with_more_in_them_are_found_by_make_config_and_named_by_training(tmp_path: Path, case: str) -> None:
    image_name, mask_name, expected = NAMED[case]
    root = tmp_path / "set"
    for number in range(COUNT):
        image(root / "images" / image_name.format(number), number)
        mask(root / "masks" / mask_name.format(number), number)
    assert len(check_pairs(root, folder=expected.stated())) == COUNT
    with pytest.raises(DataError) as caught:
        build(root)
    (line,) = caught.value.problems
    assert line.endswith(
        "Say so: " + " ".join(f"data.folder.{key}={value}" for key, value in expected.stated().items())
    )
    make_config(root, tmp_path / "made.yaml", progress=False)
    made = load_config(tmp_path / "made.yaml")
    assert {key: value for key, value in made.data.folder if key in Affixes().__dict__ and value} == expected.stated()


@pytest.mark.parametrize("names", [("a_{}", "b{}_x_y_z{}"), ("{}", "other_{}_"), ("x", "y")])
def test_names_that_have_nothing_in_common_are_not_explained(names: tuple[str, str]) -> None:
    images, masks = ([name.format(10 * number, 7) for number in range(1, 5)] for name in names)
    masks = [name.translate(str.maketrans("0123456789", "qwertyuiop")) for name in masks]
    assert likely_affixes(set(images), set(masks)) == Affixes()


def one_line(error: SegzooError) -> str:
    (line,) = error.problems
    return line


def outlines(root: Path, split: str = "") -> None:
    for number in range(COUNT):
        image(root / "images" / split / f"s{number}.png", number)
        path = root / "masks" / split / f"s{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0.1 0.1 0.4 0.1 0.4 0.5\n")


def coco(root: Path) -> None:
    for number in range(COUNT):
        image(root / "images" / f"s{number}.png", number)
    (root / "masks").mkdir()
    (root / "masks/instances_default.json").write_text(json.dumps({"annotations": []}))


def in_valid(root: Path) -> None:
    for number in range(COUNT):
        image(root / "images" / f"s{number}.png", number)
        mask(root / "masks/valid" / f"s{number}.png", number)


def other_case(root: Path) -> None:
    for number in range(COUNT):
        image(root / "images" / f"{'ABCDEFGHIJ'[number]}.png", number)
        mask(root / "masks" / f"{'abcdefghij'[number]}.png", number)


def empty(root: Path) -> None:
    for number in range(COUNT):
        image(root / "images" / f"s{number}.png", number)
    (root / "masks").mkdir()


def arrays(root: Path) -> None:
    empty(root)
    for number in range(COUNT):
        np.save(root / "masks" / f"s{number}.npy", np.zeros((3, 4), np.uint8))


def half(root: Path) -> None:
    for number in range(2 * COUNT):
        image(root / "images" / f"s{number:02}.png", number)
        if number % 2:
            mask(root / "masks" / f"s{number:02}.png", number)


MISTAKES: list[tuple[Callable[[Path], None], str]] = [
    (outlines, "masks: no mask, but 10 .txt files such as s0.txt, outlines or tables"),
    (coco, "masks: no mask, but 1 .json file such as instances_default.json, outlines or tables"),
    (in_valid, "s0.png and 9 more"),
    (in_valid, "no mask masks/s0.png, but masks/valid/s0.png has its name"),
    (other_case, "no mask masks/A.png, but masks/a.png has its name"),
    (empty, "masks: no mask in this folder"),
    (arrays, "masks: no mask, but 10 .npy files such as s0.npy, none of the pictures that are read"),
    (half, "no mask masks/s00.png. Add it or remove the image"),
]


@pytest.mark.parametrize(("mistake", "expected"), MISTAKES)
def test_one_mistake_is_one_line(tmp_path: Path, mistake: Callable[[Path], None], expected: str) -> None:
    root = tmp_path / "set"
    mistake(root)
    with pytest.raises(DataError) as caught:
        build(root)
    assert expected in one_line(caught.value)
    with pytest.raises((DataError, ConfigError)) as made:
        make_config(root, tmp_path / "made.yaml", progress=False)
    assert expected in one_line(made.value)


def test_masks_in_a_folder_of_another_name_are_told(tmp_path: Path) -> None:
    for split, other in (("train", "train"), ("val", "valid")):
        for number in range(COUNT):
            image(tmp_path / "images" / split / f"s{number}.png", number)
            mask(tmp_path / "masks" / other / f"s{number}.png", number)
    with pytest.raises(DataError) as caught:
        build(tmp_path, "val")
    assert "masks/val. Put the masks there" in one_line(caught.value)
    assert one_line(caught.value).endswith("Beside it lie: train, valid.")


NAMES = [f"day {number % 2}/s{number}" for number in range(COUNT)]
WINDOWS = {
    "plain": NAMES,
    "with endings": [f"{name}.PNG" for name in NAMES],
    "back-slashes": [name.replace("/", "\\") for name in NAMES],
    "back-slashes and endings": [f".\\{name}.PNG".replace("/", "\\") for name in NAMES],
    "quoted": [f'"{name}"' for name in NAMES],
    "from the root": [f"images/{name}.PNG" for name in NAMES],
    "from above": [f"set\\images\\{name}.PNG" for name in NAMES],
    "pairs": [f"images/{name}.PNG masks/{name}.png" for name in NAMES],
    "pairs with a tab": [f"{name}\t{name}" for name in NAMES],
    "pairs of a table": [f'"images/{name}.PNG", "masks/{name}.png"' for name in NAMES],
    "pairs with ;": [f"images\\{name}.PNG;masks\\{name}.png" for name in NAMES],
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lists") / "set"
    for number, name in enumerate(NAMES):
        image(root / "images" / f"{name}.PNG", number)
        mask(root / "masks" / f"{name}.png", number)
    return root


def write_lists(root: Path, lines: list[str], encoding: str = "utf-8") -> None:
    for split, part in (("train", lines[:8]), ("val", lines[8:])):
        (root / f"{split}.txt").write_bytes("\r\n".join([*part, ""]).encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", WINDOWS)
def test_lists_from_windows(listed: Path, kind: str, encoding: str) -> None:
    write_lists(listed, WINDOWS[kind], encoding)
    assert check_pairs(listed) == sorted(NAMES)
    (listed / "all.txt").write_bytes((listed / "train.txt").read_bytes())
    if "images" in WINDOWS[kind][0] and "set" not in WINDOWS[kind][0]:  # predict counts from the list's folder
        found = find_images(listed / "all.txt", without=listed / "out")
        assert [path.as_posix() for path in found.images] == [f"images/{name}.PNG" for name in NAMES[:8]]
        assert not found.faults


def test_pairs_in_a_list_may_have_different_names(tmp_path: Path) -> None:
    lines = []
    for number in range(COUNT):
        image(tmp_path / "images" / f"photo{number}.png", number)
        mask(tmp_path / "masks" / f"drawn by me {number}.png", number)
        lines.append(f"photo{number}.png drawn by me {number}.png")
    write_lists(tmp_path, lines)
    assert len(check_pairs(tmp_path)) == COUNT


def test_one_image_in_two_spellings_counts_once(listed: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lists(listed, [*NAMES[:7], f"images\\{NAMES[0]}.PNG", *NAMES[8:]])
    assert len(build(listed)) == 7
    assert "train.txt:8: 'images\\day 0/s0.PNG' is listed twice; counted once" in caplog.text


@pytest.mark.parametrize("forms", [("NFD", "NFC", "NFC"), ("NFC", "NFD", "NFD"), ("NFD", "NFD", "NFC")])
def test_accents_that_macos_takes_apart(tmp_path: Path, forms: tuple[str, str, str]) -> None:
    names = [f"Übung/Straße_{number}_café" for number in range(COUNT)]
    of_images, of_masks, in_list = ([unicodedata.normalize(form, name) for name in names] for form in forms)  # type: ignore[arg-type]
    for number in range(COUNT):
        image(tmp_path / "images" / f"{of_images[number]}.png", number)
        mask(tmp_path / "masks" / f"{of_masks[number]}.png", number)
    assert check_pairs(tmp_path) == sorted(of_images)
    write_lists(tmp_path, in_list)
    assert check_pairs(tmp_path) == sorted(of_images)
    (tmp_path / "images/list.txt").write_text("\n".join(f"{name}.png" for name in in_list))
    assert len(find_images(tmp_path / "images/list.txt", without=tmp_path / "out").images) == COUNT


def test_lists_in_windows_ansi(tmp_path: Path) -> None:
    for number in range(COUNT):
        image(tmp_path / "images" / f"Straße_{number}.png", number)
        mask(tmp_path / "masks" / f"Straße_{number}.png", number)
    write_lists(tmp_path, [f"Straße_{number}" for number in range(COUNT)], "cp1252")
    assert len(check_pairs(tmp_path)) == COUNT


@pytest.mark.parametrize(
    "line", ["{outside}", "{outside}.png", "C:\\private\\x.png", "/etc/hostname", "\\\\host\\x.png"]
)
def test_absolute_lines_that_lead_out_are_refused(listed: Path, tmp_path: Path, line: str) -> None:
    image(tmp_path / "private/x.png", 1)
    mask(tmp_path / "private/x.png.png", 1)
    write_lists(listed, [*NAMES[:7], line.format(outside=tmp_path / "private/x"), *NAMES[8:]])
    with pytest.raises(DataError, match=r"train.txt:8: .* leads out of the data set"):
        build(listed)


def test_absolute_lines_into_the_data_set_are_read(listed: Path) -> None:
    write_lists(listed, [f"{listed}/images/{name}.PNG" for name in NAMES])
    assert check_pairs(listed) == sorted(NAMES)


@pytest.mark.parametrize("name", ["/etc", "../masks", "a/../../b"])
@pytest.mark.parametrize("key", ["images", "masks"])
def test_folders_that_lead_out_are_refused(listed: Path, key: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["data.name=folder", f"data.root={listed}", f"data.folder.{key}={name}"])
    (line,) = (line for line in caught.value.problems if "data.folder" in line)
    assert line.startswith(f"data.folder.{key}: '{name}' leads out of data.root")


def test_one_split_alone_gets_advice_that_helps(tmp_path: Path) -> None:
    for number in range(COUNT):
        image(tmp_path / "images" / f"s{number}.png", number)
        mask(tmp_path / "masks" / f"s{number}.png", number)
    (tmp_path / "train.txt").write_text("s1\n")
    with pytest.raises(
        ConfigError, match=r"no split 'val' .* Found: train. Add it, or take the list away: then a share"
    ):
        build(tmp_path, "val")
    (tmp_path / "train.txt").unlink()
    assert len(check_pairs(tmp_path)) == COUNT


@pytest.mark.parametrize("inner", [False, True])
def test_one_folder_alone_gets_advice_that_helps(tmp_path: Path, inner: bool) -> None:
    images, masks = ("images/train", "masks/train") if inner else ("train/images", "train/masks")
    for number in range(COUNT):
        image(tmp_path / images / f"s{number}.png", number)
        mask(tmp_path / masks / f"s{number}.png", number)
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, "val")
    line = one_line(caught.value)
    assert line.endswith(f"data.folder.images={images} data.folder.masks={masks}")
    assert len(check_pairs(tmp_path, folder={"images": images, "masks": masks})) == COUNT


def side_by_side(folder: Path, image_name: str, mask_name: str) -> None:
    for number in range(COUNT):
        image(folder / image_name.format(number), number)
        mask(folder / mask_name.format(number), number)


TOGETHER = {
    "mask_suffix": ("{}.jpg", "{}_mask.png"),
    "both suffixes": ("{}00_sat.jpg", "{}00_mask.png"),
    "one format": ("day_{}_rgb.png", "day_{}_GT.png"),
    "prefixes": ("image_{}.png", "label_{}.png"),
}
PLACES = {"": ".", "images": "images", "train": ".", "train/images": "images", "images/train": "images"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("names", TOGETHER)
def test_images_and_masks_in_one_folder_are_told_with_the_keys_that_read_them(
    tmp_path: Path, names: str, place: str
) -> None:
    root = tmp_path / "set"
    for split in ("train", "val") if "train" in place else ("",):
        side_by_side(root / place.replace("train", split), *TOGETHER[names])
    with pytest.raises(SegzooError) as made:
        make_config(root, tmp_path / "made.yaml", progress=False)
    with pytest.raises(SegzooError) as caught:
        build(root)
    line = one_line(caught.value)
    assert line == one_line(made.value)
    assert "10 masks lie beside their images, such as" in line
    keys = dict(key.split("=") for key in line.split("Say so: ")[1].split())
    folder = {key.removeprefix("data.folder."): value for key, value in keys.items()}
    assert folder["images"] == folder["masks"] == PLACES[place]
    assert len(check_pairs(root, folder=folder)) == (2 * COUNT if "train" in place else COUNT)


@pytest.mark.parametrize("place", ["", "images", "train/images"])
def test_pictures_of_one_name_in_one_folder_are_one_line(tmp_path: Path, place: str) -> None:
    side_by_side(tmp_path / "set" / place, "s{}.jpg", "s{}.png")
    for folder in ({}, {"images": place or ".", "masks": place or "."}):
        with pytest.raises(SegzooError) as caught:
            build(tmp_path / "set", folder=folder)
        assert "10 names have two pictures, such as s0.jpg and s0.png. Where one is" in one_line(caught.value)
    with pytest.raises(SegzooError) as caught:
        make_config(tmp_path / "set", tmp_path / "made.yaml", progress=False)
    assert "put the masks into a folder masks/ and the images into images/" in one_line(caught.value)


@pytest.mark.parametrize("suffix", [".json", ".xml"])
@pytest.mark.parametrize("place", ["", "images", "train"])
def test_outlines_beside_images_are_one_line(tmp_path: Path, place: str, suffix: str) -> None:
    for number in range(COUNT):
        image(tmp_path / "set" / place / f"s{number}.png", number)
        (tmp_path / "set" / place / f"s{number}{suffix}").write_text("{}")
    (tmp_path / "set" / place / "readme.txt").write_text("mine")
    expected = f"10 images, and beside them 10 {suffix} files such as s0{suffix}, outlines or tables. Only pictures"
    with pytest.raises(SegzooError) as caught:
        build(tmp_path / "set")
    assert expected in one_line(caught.value)
    with pytest.raises(SegzooError) as caught:
        make_config(tmp_path / "set", tmp_path / "made.yaml", progress=False)
    assert expected in one_line(caught.value)


def test_one_folder_without_masks_is_not_its_own_masks(tmp_path: Path) -> None:
    for number in range(COUNT):
        mask(tmp_path / "images" / f"gray_left_{number}.png", number)
        mask(tmp_path / "images" / f"gray_right_{number}.png", number)
    with pytest.raises(DataError) as caught:
        build(tmp_path, folder={"masks": "images"})
    assert one_line(caught.value).endswith("the folder of the images and of the masks. Name another: data.folder.masks")


@pytest.mark.parametrize(
    ("stated", "advice"),
    [
        ({"mask_suffix": "_mask"}, "image_suffix=_sat data.folder.mask_suffix=_mask"),
        ({"image_suffix": "_sat"}, "image_suffix=_sat data.folder.mask_suffix=_mask"),
        ({"mask_suffix": "_label"}, "image_suffix=_sat data.folder.mask_suffix=_mask"),
        ({"image_prefix": "x", "mask_prefix": "y"}, "image_suffix=_sat data.folder.mask_suffix=_mask"),
    ],
)
def test_keys_that_do_not_fit_the_names_are_one_line(tmp_path: Path, stated: dict[str, str], advice: str) -> None:
    for number in range(COUNT):
        image(tmp_path / "images" / f"{number}00_sat.jpg", number)
        mask(tmp_path / "masks" / f"{number}00_mask.png", number)
    with pytest.raises(DataError) as caught:
        build(tmp_path, folder=stated)
    assert one_line(caught.value).endswith(f"000_mask.png is that of 000_sat.jpg. Say so: data.folder.{advice}")


def test_a_key_that_is_not_needed_is_one_line(tmp_path: Path) -> None:
    side_by_side(tmp_path, "images/s{}.jpg", "masks/s{}.png")
    with pytest.raises(DataError) as caught:
        build(tmp_path, folder={"mask_suffix": "_mask"})
    assert one_line(caught.value).endswith("have their images' names. Leave out data.folder.mask_suffix=_mask")


def test_lists_in_a_folder_beside_mmsegs(tmp_path: Path) -> None:
    side_by_side(tmp_path, "img_dir/{}.jpg", "ann_dir/{}.png")
    (tmp_path / "splits").mkdir()
    for split, numbers in (("train", range(8)), ("val", range(8, 10))):
        (tmp_path / f"splits/{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
    folder = {"images": "img_dir", "masks": "ann_dir", "lists": "splits"}
    assert build(tmp_path, "val", folder=folder).ids == ("8", "9")
    assert len(check_pairs(tmp_path, folder=folder)) == COUNT
