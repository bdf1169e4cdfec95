"""What INPUT may be: a pattern, a list, and folders that cannot be read whole."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.errors import ConfigError
from segzoo.inference.jobs import Shard, find_images
from segzoo.inference.predict import predict
from segzoo.training.train import TrainResult


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "out/e.jpg", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path) if path.suffix != ".txt" else path.touch()
    return tmp_path / "photos"


def found(source: Path, photos: Path) -> tuple[Path, list[str]]:
    listing = find_images(source, without=photos / "out")
    return listing.folder, [str(image) for image in listing.images]


def test_patterns(photos: Path) -> None:
    assert found(photos / "*.jpg", photos) == (photos, ["a.jpg"])
    assert found(photos / "**/*.jpg", photos) == (photos, ["a.jpg", "sub/c.jpg", "sub/deep/d.jpg"])
    assert found(photos / "sub/*", photos) == (photos / "sub", ["c.jpg"])
    assert found(photos / "*", photos) == (photos, ["a.jpg", "b.png"])
    for loop in (photos / "loop", photos / "sub" / "loop"):
        loop.symlink_to(photos)  # followed, they would give a path for each way through them
    (photos / ".cache").mkdir()
    (photos / "a.jpg").rename(photos / ".cache" / "a.jpg")
    assert found(photos / "**/*.jpg", photos) == (photos, ["sub/c.jpg", "sub/deep/d.jpg"])
    assert found(photos / "**/s*/**/c.jpg", photos) == (photos, ["sub/c.jpg"])
    assert found(photos / ".c*/**", photos) == (photos, [".cache/a.jpg"])
    with pytest.raises(ConfigError, match="no image matches"):
        find_images(photos / "*.bmp", without=photos / "out")


def test_what_exists_is_no_pattern(photos: Path) -> None:
    folder = photos / "with [brackets]"
    folder.mkdir()
    (photos / "a.jpg").rename(folder / "x[1].jpg")
    assert found(folder, photos) == (folder, ["x[1].jpg"])
    assert found(folder / "x[1].jpg", photos) == (folder, ["x[1].jpg"])


@pytest.mark.parametrize(
    "content",
    [
        b"b.png\na.jpg\nsub/c.jpg\nb.png\n",
        b"\xef\xbb\xbfb.png\r\n\r\na.jpg\r\n  \r\nsub/c.jpg",
        "b.png\r\na.jpg\r\nsub/c.jpg\r\n".encode("utf-16"),
    ],
)
def test_lists_of_every_editor(photos: Path, content: bytes) -> None:
    (photos / "list.txt").write_bytes(content)
    assert found(photos / "list.txt", photos) == (photos, ["b.png", "a.jpg", "sub/c.jpg"])


def test_a_list_of_images_elsewhere_mirrors_their_common_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "some.txt"
    path.write_text(f"{photos / 'a.jpg'}\n../photos/sub/c.jpg\n")
    assert found(path, photos) == (photos, ["a.jpg", "sub/c.jpg"])


def test_lines_that_name_nothing_are_told(photos: Path) -> None:
    (photos / "list.txt").write_text("a.jpg\n\nmissing.jpg\n")
    listing = find_images(photos / "list.txt", without=photos / "out")
    assert listing.images == [Path("a.jpg")]
    assert listing.faults == {Path("missing.jpg"): "no such file (list.txt, line 3)"}
    for content in (b"\n \n", b"PK\0\0binary"):
        (photos / "list.txt").write_bytes(content)
        with pytest.raises(ConfigError, match=r"names no image|no text, for it holds zero bytes"):
            find_images(photos / "list.txt", without=photos / "out")


def test_missing_lines_end_in_failed_json(tiny_run: TrainResult, photos: Path, tmp_path: Path) -> None:
    (photos / "list.txt").write_text("a.jpg\nmissing.jpg\n")
    report = predict(tiny_run.run_dir, photos / "list.txt", output=tmp_path / "out")
    assert report.written == [Path("a.jpg")]
    assert report.failed == {"missing.jpg": "no such file (list.txt, line 2)"}
    assert (tmp_path / "out" / "failed.json").exists()


def test_a_folder_that_cannot_be_listed_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = find_images(photos, without=photos / "out")
    assert listing.faults == {Path("sub/deep"): "Permission denied"}
    assert len(listing.images) == 3


def test_outputs_never_clash_with_each_other_or_with_inputs(tiny_run: TrainResult, tmp_path: Path) -> None:
    for name in ("in/a.jpg", "in/_color/a.jpg", "other/a.png", "other/other/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    with pytest.raises(ConfigError, match=r"_color.a\.png: two outputs would have this name"):
        predict(tiny_run.run_dir, tmp_path / "in", output=tmp_path / "out", save=("mask", "color"))
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "list.txt").write_text("other/a.png\nother/other/a.png\n")
    for output in ("other", "link"):  # the mask of other/a.png would lie in other/other
        with pytest.raises(ConfigError, match="is an image of the input"):
            predict(tiny_run.run_dir, tmp_path / "list.txt", output=tmp_path / output)
    assert not (tmp_path / "out").exists()


def test_rasters_become_rasters(tiny_run: TrainResult, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "in").mkdir()
    place = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(5e5, 5e6, 1, 1)}
    with rasterio.open(
        tmp_path / "in/geo.tif", "w", driver="GTiff", width=40, height=32, count=3, dtype="uint8", **place
    ) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, 32, 40), np.uint8))
    Image.new("RGB", (8, 6)).save(tmp_path / "in/flat.tif")
    with pytest.raises(ConfigError, match="--save: overlay: rasters"):
        predict(tiny_run.run_dir, tmp_path / "in", output=tmp_path / "out", save=("mask", "overlay"))
    predict(tiny_run.run_dir, tmp_path / "in", output=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.stem in ("geo", "flat")} == {
        "geo.tif",
        "flat.png",
    }


def test_wrong_shards() -> None:
    for text in ("3/3", "0/0", "-1/3", "1", "a/b", "1/2/3", ""):
        with pytest.raises(ConfigError, match="--shard"):
            Shard.parse(text)
