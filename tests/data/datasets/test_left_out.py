"""Images under every usual name are read, and what is not read is counted in a line."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.reading.images import read_image
from segzoo.errors import ConfigError, DataError
from segzoo.inference.jobs import find_images

PICTURE = np.asarray(Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 9).convert("RGB"))
NAMES = {
    "a.jfif": "JPEG", "b.jpe": "JPEG", "c.mpo": "MPO", "d.avif": "AVIF", "e.jp2": "JPEG2000", "f.j2k": "JPEG2000",
    "g.tga": "TGA", "h.dib": "BMP", "i.pnm": "PPM", "without": "PNG", "WITHOUT_2": "JPEG",
}  # fmt: skip
LEFT_OUT = ("j.heic", "k.heic", "l.json", "README")


def fill(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in NAMES.items():
        Image.fromarray(PICTURE).save(folder / name, format=kind)
    for name in LEFT_OUT:
        (folder / name).write_text("not what its name says")
    (folder / ".hidden").write_text("nobody's")


def test_every_kind_is_read(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in NAMES:
        assert np.abs(read_image(tmp_path / name).astype(int) - PICTURE).mean() < 12, name
    (tmp_path / "text.tga").write_text("this is no picture" * 9)
    with pytest.raises(DataError, match=r"text\.tga"):
        read_image(tmp_path / "text.tga")


@pytest.mark.parametrize("pattern", ["", "*", "**/*"])
def test_predict_lists_them_and_counts_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str) -> None:
    fill(tmp_path / "in")
    with caplog.at_level(logging.WARNING):
        listing = find_images(tmp_path / "in" / pattern, without=tmp_path / "out")
    assert sorted(map(str, listing.images)) == sorted(NAMES)
    (record,) = caplog.records
    line = record.getMessage()
    assert all(part in line for part in ("4 files", "2 .heic", "1 .json", "1 without a suffix", "such as README"))
    for name in NAMES:
        (tmp_path / "in" / name).unlink()
    with pytest.raises(ConfigError, match="2 .heic"):
        find_images(tmp_path / "in" / pattern, without=tmp_path / "out")


def test_data_sets_do_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        fill(tmp_path / split / "images")
        (tmp_path / split / "masks").mkdir()
        for name in NAMES:
            mask = np.full(PICTURE.shape[:2], 1, np.uint8)
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{Path(name).stem}.png")
    config = DataConfig(name="folder", root=str(tmp_path), classes=("a", "b"))
    with caplog.at_level(logging.WARNING):
        assert len(build_dataset(config, "train")) == len(NAMES)
    (record,) = caplog.records
    assert "4 files" in record.getMessage()
    assert "2 .heic" in record.getMessage()


def test_classes_of_images_do_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            fill(tmp_path / split / name)
    config = ClassificationDataConfig(name="image_folder", root=str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert len(build_classification_dataset(config, "train")) == 2 * len(NAMES)
    (record,) = caplog.records
    assert "8 files" in record.getMessage()


def test_arrays_without_channels_are_counted_where_nothing_else_is_there(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    np.save(tmp_path / "train/images/a.npy", np.zeros((4, 5, 4), np.uint8))
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "train/masks/a.png")
    with pytest.raises(DataError, match=r"no images.*1 \.npy"):
        build_dataset(DataConfig(name="folder", root=str(tmp_path), classes=("a", "b")), "train")


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_lossy_pictures_are_no_masks(tmp_path: Path, kind: str) -> None:
    from segzoo.data.reading.masks import read_color_mask

    Image.fromarray(PICTURE).save(tmp_path / "a", format=kind)
    with pytest.raises(DataError, match="cannot be a mask"):
        read_color_mask(tmp_path / "a")
