import os
from pathlib import Path

import pytest

from segzoo.errors import ConfigError
from segzoo.inference.listing import list_images, mask_names


def names(*images: str) -> list[str]:
    return [str(name) for name in mask_names([Path(image) for image in images]).values()]


def test_masks_mirror_the_tree() -> None:
    assert names("a.jpg", "sub/a.jpg", "sub/b.tif") == ["a.png", "sub/a.png", "sub/b.png"]


def test_one_stem_twice_names_the_extension_in_all_of_them() -> None:
    assert names("a.jpg", "a.png", "sub/a.jpg") == ["a_jpg.png", "a_png.png", "sub/a.png"]


def test_clash_that_remains_adds_a_hash_and_no_two_names_are_equal_ignoring_case() -> None:
    found = names("a.jpg", "a.png", "sub/a.jpg", "A.JPG")
    assert len({name.casefold() for name in found}) == 4
    assert found[1:3] == ["a_png.png", "sub/a.png"]
    assert found == names("a.jpg", "a.png", "sub/a.jpg", "A.JPG")


def test_only_regular_image_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("b.jpg", "sub/a.PNG", "notes.txt", "out/b.png"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert list_images(tmp_path, without=tmp_path / "out") == [Path("b.jpg"), Path("sub/a.PNG")]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no images in this folder"):
        list_images(tmp_path, without=tmp_path / "out")
    with pytest.raises(ConfigError, match="no such file or folder"):
        list_images(tmp_path / "nowhere", without=tmp_path)
