"""Every kind of fault planted, alone and all in one tree; nothing found in clean data; statistics by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import LabelSpace, Sample, register_dataset
from segzoo.data.inspection.browse import write_samples
from segzoo.data.inspection.check import check_data
from segzoo.data.inspection.report import Report, finding_lines
from segzoo.data.reading.images import read_image
from segzoo.errors import ConfigError, DataError

Expected = tuple[str, ...]


def check(root: Path, name: str = "folder") -> Report:
    return check_data(DataConfig(name=name, root=str(root)), progress=False)


def image_of(root: Path, name: str) -> Path:
    return root / "train/images" / f"{name}.png"


def mask_of(root: Path, name: str) -> Path:
    return root / "train/masks" / f"{name}.png"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    Image.fromarray(change(np.array(Image.open(path)))).save(path)


def save_with_orientation(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def missing_mask(root: Path) -> Expected:
    mask_of(root, "t00").unlink()
    return "error", "images/t00.png: no mask masks/t00.png. Add it"


def orphan_mask(root: Path) -> Expected:
    image_of(root, "t01").unlink()
    return "error", "masks/t01.png: no image of this name"


def two_images_with_one_stem(root: Path) -> Expected:
    Image.open(image_of(root, "t02")).rotate(180).save(image_of(root, "t02").with_suffix(".bmp"))
    return "error", "images/t02.bmp: t02.png has the same name"


def size_mismatch(root: Path) -> Expected:
    rewrite(mask_of(root, "t03"), lambda mask: mask[:12])
    return "error", "masks/t03.png: mask is 12x20 but its image t03.png 16x20", "export the mask"


def turned_by_exif(root: Path) -> Expected:
    save_with_orientation(image_of(root, "t04"), 6)
    return "error", "masks/t04.png: mask is 16x20 but its image t04.png 20x16", "EXIF"


def value_out_of_range(root: Path) -> Expected:
    def change(mask: np.ndarray) -> np.ndarray:
        mask[0, :7] = 9
        return mask

    rewrite(mask_of(root, "t05"), change)
    return "error", "masks/t05.png: value 9 (7 px) is no class. The 3 classes are 0 to 2"


def binary_mask(root: Path) -> Expected:
    rewrite(mask_of(root, "t06"), lambda mask: np.where(np.arange(20) < 5, 255, 0 * mask).astype(np.uint8))
    return "error", "masks/t06.png: holds only 0 (240 px) and 255 (80 px)", "write its number"


def rgb_mask(root: Path) -> Expected:
    rewrite(mask_of(root, "t07"), lambda mask: np.repeat(mask[..., None], 3, axis=2))
    return "error", "masks/t07.png: RGB picture where a mask", "data.folder.colors"


def jpeg_mask(root: Path) -> Expected:
    Image.open(mask_of(root, "t08")).save(mask_of(root, "t08").with_suffix(".jpg"))
    mask_of(root, "t08").unlink()
    return "error", "masks/t08.jpg: a JPEG cannot be a mask"


def truncated_image(root: Path) -> Expected:
    path = image_of(root, "t09")
    path.write_bytes(path.read_bytes()[:-100])
    return "error", "images/t09.png: damaged or unreadable"


def empty_image(root: Path) -> Expected:
    image_of(root, "t10").write_bytes(b"")
    return "error", "images/t10.png: empty file"


def text_with_image_suffix(root: Path) -> Expected:
    image_of(root, "t11").write_text("<html>404</html>")
    return "error", "images/t11.png: not an image"


def damaged_mask(root: Path) -> Expected:
    path = mask_of(root, "t12")
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF
    path.write_bytes(content)
    return "error", "masks/t12.png: damaged or unreadable"


def train_and_val_share_an_image(root: Path) -> Expected:
    # Other bytes, the same pixels.
    Image.open(image_of(root, "t13")).save(root / "val/images/v00.png", compress_level=1)
    return "error", "val/images/v00.png: the same picture as", "train/images/t13.png", "in train and val"


def ignored_mask(root: Path) -> Expected:
    rewrite(mask_of(root, "t14"), lambda mask: np.full_like(mask, 255))
    return "warning", "masks/t14.png: all 320 px are ignored"


def duplicate_image(root: Path) -> Expected:
    image_of(root, "t16").write_bytes(image_of(root, "t15").read_bytes())
    return "warning", "images/t15.png: the same picture as", "images/t16.png, 2 times"


def gray_16_bit_and_alpha_images(root: Path) -> Expected:
    rewrite(image_of(root, "t17"), lambda image: image[..., 0].copy())
    rewrite(image_of(root, "t18"), lambda image: image[..., 0].astype(np.uint16) * 257)
    Image.open(image_of(root, "t19")).convert("RGBA").save(image_of(root, "t19"))
    return "warning", "stored in different ways", "1 gray", "1 16-bit gray", "1 with alpha"


def mirrored_by_exif(root: Path) -> Expected:
    save_with_orientation(image_of(root, "t20"), 2)
    return "warning", "images/t20.png: turned or mirrored by the EXIF orientation, 1 images"


def orphan_in_val(root: Path) -> Expected:
    (root / "val/images/v01.png").unlink()
    return "error", "val/masks/v01.png: no image of this name"


def class_only_in_val(root: Path) -> Expected:
    (root / "classes.txt").write_text("background\ncell\nedge\nrare\n")
    rewrite(root / "val/masks/v02.png", lambda mask: np.where(np.arange(20) < 2, 3, mask).astype(np.uint8))
    return "warning", "no pixel of rare in train, but in val"


FAULTS = [
    missing_mask,
    orphan_mask,
    two_images_with_one_stem,
    size_mismatch,
    turned_by_exif,
    value_out_of_range,
    binary_mask,
    rgb_mask,
    jpeg_mask,
    truncated_image,
    empty_image,
    text_with_image_suffix,
    damaged_mask,
    train_and_val_share_an_image,
    ignored_mask,
    duplicate_image,
    gray_16_bit_and_alpha_images,
    mirrored_by_exif,
    orphan_in_val,
    class_only_in_val,
]


def says(report: Report, expected: Expected) -> bool:
    severity, *words = expected
    return any(
        finding.severity == severity and all(word in finding.line for word in words) for finding in report.findings
    )


def test_nothing_is_found_in_clean_data(clean: Path) -> None:
    report = check(clean)
    assert report.findings == ()
    assert [(split.name, split.samples) for split in report.splits] == [("train", 30), ("val", 5)]


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_each_fault_alone_is_the_only_finding(clean: Path, plant: Callable[[Path], Expected]) -> None:
    expected = plant(clean)
    report = check(clean)
    assert says(report, expected), [finding.line for finding in report.findings]
    assert len(report.findings) == 1, [finding.line for finding in report.findings]
    assert report.errors == (expected[0] == "error")


def test_twenty_faults_are_found_in_one_run(clean: Path) -> None:
    assert len(FAULTS) == 20
    planted = [plant(clean) for plant in FAULTS]
    # With a fourth class the message about the value out of range counts it.
    planted = [tuple(word.replace("The 3 classes are 0 to 2", "The 4 classes") for word in words) for words in planted]
    report = check(clean)
    missed = [words for words in planted if not says(report, words)]
    assert not missed, [finding.line for finding in report.findings]
    assert len(report.findings) == len(planted), [finding.line for finding in report.findings]
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities)


def test_faults_of_a_split_without_classes_file_are_named(clean: Path) -> None:
    (clean / "classes.txt").unlink()
    expected = [value_out_of_range(clean), binary_mask(clean)]
    rewrite(mask_of(clean, "t21"), lambda mask: np.where(mask == 2, 200, mask).astype(np.uint8))
    report = check(clean)
    assert report.labels is not None
    assert report.labels.names == ("class_0", "class_1", "class_2")
    assert all(says(report, words) for words in expected)
    assert says(report, ("error", "masks/t21.png: value 200"))


def test_masks_that_hold_no_class_numbers_are_one_finding(clean: Path) -> None:
    (clean / "classes.txt").unlink()
    for path in clean.glob("*/masks/*.png"):
        rewrite(path, lambda mask: (mask * 100).astype(np.uint8))
    report = check(clean)
    assert [finding.kind for finding in report.findings] == ["no class numbers"]
    assert "values 0, 100, 200" in report.findings[0].line
    assert report.labels is None
    assert report.as_dict()["classes"] is None
    assert write_samples(DataConfig(name="folder", root=str(clean)), report, clean / "sheet") is None


def test_255_beside_other_classes_is_what_is_ignored(clean: Path) -> None:
    """Then a mask of 0 and 255 is most likely sound, and the finding only a warning."""
    binary_mask(clean)
    rewrite(mask_of(clean, "t22"), lambda mask: np.where(np.arange(20) < 3, 255, mask).astype(np.uint8))
    report = check(clean)
    assert [finding.severity for finding in report.findings] == ["warning"]


def test_stated_values_make_binary_masks_sound(clean: Path) -> None:
    for path in clean.glob("*/masks/*.png"):
        rewrite(path, lambda mask: np.where(mask == 0, 0, 255).astype(np.uint8))
    assert check(clean).errors == 35
    stated = DataConfig.model_validate(
        {"name": "folder", "root": str(clean), "folder": {"mask_values": {"background": 0, "cell": 255}}}
    )
    assert check_data(stated, progress=False).findings == ()


def test_an_empty_val_split_is_found_beside_other_faults(clean: Path) -> None:
    for path in clean.glob("val/*/*.png"):
        path.unlink()
    expected = missing_mask(clean)
    report = check(clean)
    assert says(report, expected)
    assert says(report, ("error", "val/images: no images"))
    assert report.splits[1].images is None


def test_a_split_that_is_not_there_is_found_beside_other_faults(clean: Path) -> None:
    (clean / "val").rename(clean / "test")
    expected = missing_mask(clean)
    report = check(clean)
    assert says(report, expected)
    assert says(report, ("error", "no split 'val'", "test, train"))


def test_no_folder_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        check(tmp_path / "nowhere")


def test_faults_of_split_lists_do_not_hide_each_other(tmp_path: Path) -> None:
    for folder, name in (("train", "a"), ("trainannot", "a"), ("val", "b"), ("valannot", "b")):
        (tmp_path / folder).mkdir()
        random = np.random.default_rng(ord(name))
        pixels = random.integers(0, 11, (48, 64), dtype=np.uint8)
        picture = pixels if folder.endswith("annot") else np.repeat(pixels[..., None], 3, axis=2)
        Image.fromarray(picture).save(tmp_path / folder / f"{name}.png")
    lines = [
        "train/a.png trainannot/a.png",
        "",
        "../x.png y.png",
        "train/a.png trainannot/a.png",
        "alone",
        "q.png r.png",
    ]
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    (tmp_path / "val.txt").write_text("val/b.png valannot/b.png\n")
    report = check(tmp_path, "camvid")
    assert says(report, ("error", "train.txt:3: '../x.png y.png' leads out"))
    assert says(report, ("warning", "train.txt:4:", "listed twice"))
    assert says(report, ("error", "train.txt:5: 'alone'"))
    assert says(report, ("error", "train.txt:6: no image"))
    assert says(report, ("error", "train.txt:6: no mask"))
    assert len(report.findings) == 5
    assert [split.samples for split in report.splits] == [1, 1]


def test_an_empty_list_is_found(tmp_path: Path) -> None:
    (tmp_path / "trainannot").mkdir()
    (tmp_path / "train.txt").write_text("")
    (tmp_path / "val.txt").write_text("\n\n")
    report = check(tmp_path, "camvid")
    assert {finding.kind for finding in report.findings} == {"empty split"}
    assert len(report.findings) == 2


def test_statistics_are_those_of_numpy_over_all_pixels(clean: Path) -> None:
    rewrite(mask_of(clean, "t00"), lambda mask: np.where(np.arange(20) < 3, 255, mask).astype(np.uint8))
    rewrite(clean / "val/masks/v00.png", lambda mask: np.zeros_like(mask))  # weights are those of training
    report = check(clean)
    train = report.splits[0]
    images = np.stack([np.array(Image.open(path)) for path in (clean / "train/images").iterdir()]) / 255
    masks = np.stack([np.array(Image.open(path)) for path in (clean / "train/masks").iterdir()])
    assert train.images is not None
    assert train.classes is not None
    np.testing.assert_allclose(train.images.mean, images.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(train.images.std, images.std(axis=(0, 1, 2)), atol=1e-4)
    assert train.classes.pixels == tuple(int((masks == index).sum()) for index in range(3))
    assert train.classes.ignored == 16 * 3
    assert train.classes.images == (30, 30, 30)
    shares = np.array(train.classes.pixels) / (masks != 255).sum()
    np.testing.assert_allclose(train.classes.shares, shares)
    assert report.class_weights is not None
    np.testing.assert_allclose(report.class_weights, 1 / np.log(1.02 + shares), atol=0.051)


def test_four_channel_arrays_have_statistics_in_units_of_their_range(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = random.integers(0, 4096, (4, 8, 10, 4)).astype(np.uint16)
    for index, split in enumerate(("train", "train", "train", "val")):
        for part in ("images", "masks"):
            (tmp_path / split / part).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / split / "images" / f"{index}.npy", arrays[index])
        Image.fromarray(np.tile(np.array([[0, 1]], np.uint8), (8, 5))).save(tmp_path / split / "masks" / f"{index}.png")
    config = DataConfig(name="folder", root=str(tmp_path), channels=4, value_range=(0.0, 4095.0))
    report = check_data(config, progress=False)
    assert report.findings == ()
    assert report.splits[0].images is not None
    np.testing.assert_allclose(report.splits[0].images.mean, arrays[:3].mean(axis=(0, 1, 2)) / 4095, atol=1e-4)
    assert report.splits[0].images.channels == (4,)
    assert write_samples(config, report, tmp_path / "sheet") is not None


def test_many_findings_of_one_kind_do_not_bury_another(clean: Path) -> None:
    for index in range(25):
        mask_of(clean, f"t{index:02}").unlink()
    (clean / "val/images/v03.png").write_bytes(b"")
    report = check(clean)
    assert len(report.findings) == 26  # --json lists all
    images = clean / "train/images"
    assert list(finding_lines(report)) == [
        f"error: {images}/t00.png and 24 more ({images}/t01.png, {images}/t02.png, ...): no mask masks/t00.png. Add it "
        "or remove the image.",
        f"error: {clean}/val/images/v03.png: empty file",
    ]


def test_a_data_set_of_ones_own_class_is_read_sample_by_sample(own_parts: None) -> None:
    class Own:
        labels = LabelSpace(("road", "car"), ((1, 2, 3), (4, 5, 6)), raw_ids=((7, 0), (8, 1)))
        ids = ("a", "b", "c")

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Sample:
            if index == 1:
                raise DataError("b: gone")
            image = np.full((4, 6, 3), 10 * index, np.uint8)
            return Sample(image, np.tile(np.array([0, 1], np.uint8), (4, 3)), self.ids[index])

    register_dataset("checks_own")(lambda config, split: Own())
    report = check_data(DataConfig(name="checks_own", val_split="train"), progress=False)
    assert [finding.line for finding in report.findings] == ["b: gone"]
    assert report.splits[0].classes is not None
    assert report.splits[0].classes.pixels == (24, 24)


def test_the_sheet_shows_images_masks_and_ignored_pixels(clean: Path) -> None:
    ignored_mask(clean)
    config = DataConfig(name="folder", root=str(clean))
    report = check(clean)
    with pytest.raises(ConfigError, match=r"--output: .*t01\.png: cannot be written to"):
        write_samples(config, report, image_of(clean, "t01"))
    path = write_samples(config, report, clean / "sheet")
    assert path is not None
    sheet = read_image(path)
    seen = set(np.unique(sheet.astype(int) @ (65536, 256, 1)).tolist())
    assert {0x800000, 0x008000, 0x000000} <= seen  # the classes' colours, in the masks and the legend
    assert sheet.shape[1] == 8 + 6 * (256 + 8)


@pytest.mark.parametrize(
    ("kind", "raw", "words"),
    [
        ("labelIds", [7, 0, 255], ("value 255 (16 px)", "trainIds, where the data set's own ids belong")),
        ("labelTrainIds", [0, 26, 33], ("value 26 (16 px), 33 (16 px)", "labelIds, where trainIds belong")),
    ],
)
def test_one_kind_of_cityscapes_ids_in_the_place_of_the_other(
    tmp_path: Path, kind: str, raw: list[int], words: Expected
) -> None:
    for split, values in (("train", [7, 8, 26] if kind == "labelIds" else [0, 1, 255]), ("val", raw)):
        stem = f"{split}/ulm/ulm_00000{len(split)}_000019"
        for part in ("leftImg8bit", "gtFine"):
            (tmp_path / part / stem).parent.mkdir(parents=True)
        image = np.random.default_rng(len(split)).integers(0, 256, (4, 12, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png")
        mask = np.tile(np.repeat(np.array(values, np.uint8), 4), (4, 1))
        Image.fromarray(mask).save(tmp_path / "gtFine" / f"{stem}_gtFine_{kind}.png")
    report = check(tmp_path, "cityscapes")
    assert report.errors == 1
    assert says(report, ("error", f"gtFine/val/ulm/ulm_000003_000019_gtFine_{kind}.png", *words))


def test_split_folders_inside_images_and_masks_are_examined(clean: Path) -> None:
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (clean / part).mkdir(exist_ok=True)
            (clean / split / part).rename(clean / part / split)
        (clean / split).rmdir()
    assert check(clean).findings == ()
    (clean / "masks/val/v01.png").unlink()
    report = check(clean)
    assert says(report, ("error", "images/val/v01.png: no mask masks/val/v01.png"))
    assert [(split.name, split.samples) for split in report.splits] == [("train", 30), ("val", 4)]


@pytest.mark.parametrize(("name", "root"), [("cityscapes", "cityscapes"), ("folder", "nuclei"), ("voc", "VOCdevkit")])
def test_the_shared_sets_have_no_errors(shared: Path, name: str, root: str) -> None:
    report = check(shared / "data" / root, name)
    assert report.errors == 0, list(finding_lines(report))
