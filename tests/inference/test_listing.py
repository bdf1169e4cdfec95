"""Which images a folder has, and what their predictions are called: the same whatever part of it is asked for."""

import os
from pathlib import Path

import pytest
from PIL import Image

from segzoo.errors import ConfigError
from segzoo.inference.jobs import Listing, find_images, output_names
from segzoo.inference.predict import predict
from segzoo.training.train import TrainResult


@pytest.fixture
def names(tmp_path: Path):
    """The masks' names of all images of a folder, or of those that are asked for."""
    folder = tmp_path / "images"

    def of(*images: str, asked: tuple[str, ...] = ()) -> list[str]:
        for image in images:
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3)).save(folder / image, format="PNG")
        found = output_names(Listing(folder, [Path(image) for image in asked or images]))
        return [str(name) for name in found.values()]

    return of


def test_masks_mirror_the_tree(names) -> None:
    assert names("a.jpg", "sub/a.jpg", "sub/b.tif") == ["a.png", "sub/a.png", "sub/b.png"]


def test_one_stem_twice_names_the_extension_in_all_of_them(names) -> None:
    assert names("a.jpg", "a.png", "sub/a.jpg") == ["a_jpg.png", "a_png.png", "sub/a.png"]


def test_clash_that_remains_adds_a_hash_and_no_two_names_are_equal_ignoring_case(names) -> None:
    found = names("a.jpg", "a.png", "sub/a.jpg", "A.JPG")
    assert len({name.casefold() for name in found}) == 4
    assert found[1:3] == ["a_png.png", "sub/a.png"]
    assert found == names("a.jpg", "a.png", "sub/a.jpg", "A.JPG")
    assert names("b.jpg", "b.png", "b_jpg.bmp")[0] == "b_jpg_7a11ab94.png"  # sha256sum says: of "b.jpg"


def test_names_follow_from_the_folder_and_not_from_what_is_asked_for(names, tmp_path: Path) -> None:
    """Of a shard, a list or a single file, an image has the name that it has of the whole folder."""
    images = ("a.jpg", "a.png", "A.JPG", "b.jpg", "sub/b.png", "c.jpg", "c.png", "sub/d.jpg", "sub/D.jpg")
    whole = dict(zip(images, names(*images), strict=True))
    for asked in (images[::2], images[1::2], *((image,) for image in images)):
        assert names(asked=asked) == [whole[image] for image in asked]
    assert whole["b.jpg"] == "b.png"
    alone = output_names(Listing(tmp_path / "images" / "sub", [Path("d.jpg")]))  # as `segzoo predict images/sub/d.jpg`
    assert [f"sub/{name}" for name in alone.values()] == [whole["sub/d.jpg"]]


def test_what_is_no_image_clashes_with_nothing(names, tmp_path: Path) -> None:
    for name in ("a.txt", "a.json", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_text("no picture")
    os.mkfifo(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").mkdir()
    assert names("a.jpg", "b.jpg") == ["a.png", "b.png"]


def test_images_whose_suffix_says_nothing_have_names_too(names) -> None:
    assert names("a.dat", "a.dat2", "b.dat", "b.jpg", "c.dat") == [
        "a_dat.png",
        "a_dat2.png",
        "b_dat.png",
        "b.png",
        "c.png",
    ]


def test_folders_that_differ_in_case_alone(names) -> None:
    found = names("sub/a.jpg", "SUB/a.jpg", "SUB/b.jpg")
    assert found[2] == "SUB/b.png"
    assert len({name.casefold() for name in found}) == 3


def test_a_file_alone_has_its_name_of_the_whole_folder(tiny_run: TrainResult, names, tmp_path: Path) -> None:
    names("a.jpg", "a.png", "b.png")
    predict(tiny_run.run_dir, tmp_path / "images", output=tmp_path / "whole")
    for image in ("a.jpg", "b.png"):
        predict(tiny_run.run_dir, tmp_path / "images" / image, output=tmp_path / "alone", skip_existing=True)
    masks = {path.name for path in (tmp_path / "alone").glob("*.png")}
    assert masks == {"a_jpg.png", "b.png"} < {path.name for path in (tmp_path / "whole").glob("*.png")}


def test_only_regular_image_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("b.jpg", "sub/a.PNG", "notes.txt", "out/b.png"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert find_images(tmp_path, without=tmp_path / "out").images == [Path("b.jpg"), Path("sub/a.PNG")]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no images in this folder"):
        find_images(tmp_path, without=tmp_path / "out")
    with pytest.raises(ConfigError, match="no such file or folder"):
        find_images(tmp_path / "nowhere", without=tmp_path)
