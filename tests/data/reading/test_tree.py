"""Folders as they lie about: links, circles, hidden files, names in other spellings, folders nobody may read."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.inspection.make_config import make_config
from segzoo.data.reading.tree import files_below
from segzoo.errors import ConfigError, DataError
from segzoo.inference.jobs import find_images


def add(folder: Path, name: str) -> None:
    """Add an image and its mask."""
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    for kind, array in (("images", np.repeat(mask[..., None], 3, axis=2)), ("masks", mask)):
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def ids(root: Path, split: str = "train", **data: object) -> tuple[str, ...]:
    config = DataConfig(name="folder", root=str(root), classes=("a", "b", "c"), **data)  # type: ignore[arg-type]
    return tuple(build_dataset(config, split).ids)


def link(at: Path, to: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder, {".png"})]


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "x.png", "deep/y.png")
    touch(tmp_path / "in", "a.png", "b/c.png")
    link(tmp_path / "in/site", tmp_path / "disk")
    link(tmp_path / "in/b/up", tmp_path / "in")
    link(tmp_path / "disk/deep/back", tmp_path / "disk")
    link(tmp_path / "disk/deep/in", tmp_path / "in")
    link(tmp_path / "in/self", tmp_path / "in/self")
    assert names(tmp_path / "in") == ["a.png", "b/c.png", "site/deep/y.png", "site/x.png"]


def test_each_folder_counts_once_under_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "in", "z_day_1/a.png", "z_day_2/a.png")
    link(tmp_path / "in/a_latest", tmp_path / "in/z_day_2")
    touch(tmp_path / "disk", "x.png")
    link(tmp_path / "in/s2", tmp_path / "disk")
    link(tmp_path / "in/s1", tmp_path / "disk")
    assert names(tmp_path / "in") == ["s1/x.png", "z_day_1/a.png", "z_day_2/a.png"]


def test_links_to_nowhere_are_kept_for_the_reader_and_pipes_are_not(tmp_path: Path) -> None:
    link(tmp_path / "loop.png", tmp_path / "loop.png")
    link(tmp_path / "gone.png", tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert names(tmp_path) == ["gone.png", "loop.png"]


def test_a_link_to_itself_among_files_of_other_kinds_ends_nothing(tmp_path: Path) -> None:
    """Without a suffix it may be a picture; with another it is one of those that are counted."""
    touch(tmp_path, "a.png", "notes.txt")
    for name in ("loop", "loop.txt"):
        link(tmp_path / name, tmp_path / name)
    others: list[Path] = []
    assert files_below(tmp_path, {".png"}, others=others) == [tmp_path / "a.png"]
    assert others == [tmp_path / "notes.txt"]
    assert [str(image) for image in find_images(tmp_path, without=tmp_path / "out").images] == ["a.png"]
    with pytest.raises(ConfigError, match="loop: no such folder"):
        make_config(tmp_path / "loop")


HIDDEN = (
    "._x.png",
    ".x.png",
    "__MACOSX/x.png",
    ".thumbnails/x.png",
    "@eaDir/x.png/thumb.png",
    "sub/.cache/deep/x.png",
    "#recycle/x.png",
    "System Volume Information/x.png",
    "sub/lost+found/x.png",
)


def test_hidden_files_count_nowhere(tmp_path: Path) -> None:
    for index in range(10):
        add(tmp_path / "set", f"i{index}")
    touch(tmp_path / "set/images", *HIDDEN)
    touch(tmp_path / "set/masks", *HIDDEN)
    expected = [f"i{index}.png" for index in range(10)]
    assert names(tmp_path / "set/images") == expected
    assert len(ids(tmp_path / "set")) + len(ids(tmp_path / "set", "val")) == 10
    for pattern in ("set/images", "set/images/*", "set/images/**", "set/**/*.png", "set/**/images/*/*.png"):
        try:
            found = [image.name for image in find_images(tmp_path / pattern, without=tmp_path / "out").images]
        except ConfigError:  # nothing but hidden ones would match
            found = []
        assert sorted(set(found)) in (expected, [])
    asked = find_images(tmp_path / "set/images/.thumbnails/*", without=tmp_path / "out")
    assert asked.images == [Path("x.png")]  # for who asks for them


@pytest.mark.parametrize("beside", ["__MACOSX", "raw", "backup/old", ".thumbnails", ".cache/deep"])
@pytest.mark.parametrize("place", ["", "train", "val"])
def test_neighbours_with_folders_of_the_same_names_break_nothing(tmp_path: Path, beside: str, place: str) -> None:
    root = tmp_path / "set"
    for split in ("train", "val") if place else ("",):
        for index in range(5):
            add(root / split, f"{split}{index}")
    alone = ids(root), ids(root, "val")
    add(root / beside, "train0")
    shutil.rmtree(root / beside / "masks")
    assert (ids(root), ids(root, "val")) == alone
    made = make_config(root, tmp_path / "made.yaml", progress=False)
    assert "5 for training" in made.findings[1] or "4 for training, 1 for validation" in made.findings[1]


@pytest.mark.parametrize("where", ["sub-folders", "top", "split"])
def test_linked_folders_of_a_data_set(tmp_path: Path, where: str) -> None:
    disk, root = tmp_path / "disk", tmp_path / "set"
    for index in range(5):
        add(disk, f"i{index}")
        add(root / "train" if where == "split" else root, f"own/o{index}")
    for kind in ("images", "masks"):
        if where == "top":
            shutil.rmtree(root / kind)
            link(root / kind, disk / kind)
        elif where == "split":
            link(root / "val" / kind, disk / kind)
        else:
            link(root / kind / "linked", disk / kind)
    found = {*ids(root), *ids(root, "val")}
    prefix = {"sub-folders": "linked/", "top": "", "split": ""}[where]
    assert found >= {f"{prefix}i{index}" for index in range(5)}
    assert len(found) == (5 if where == "top" else 10)


def test_linked_folders_of_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        touch(tmp_path / "disk" / name, *(f"{name}{index}.png" for index in range(4)))
    link(tmp_path / "set/cat", tmp_path / "disk/cat")
    link(tmp_path / "set/dog/more", tmp_path / "disk/dog")
    link(tmp_path / "set/dog/more/again", tmp_path / "set/dog")
    touch(tmp_path / "set", "dog/own.png", "dog/._own.png", "__MACOSX/x.png")
    found = [build_classification_dataset(classification(tmp_path / "set"), split) for split in ("train", "val")]
    assert found[0].labels.names == ("cat", "dog")
    assert sorted(name for data in found for name in data.ids) == [
        *(f"cat/cat{index}.png" for index in range(4)),
        *(f"dog/more/dog{index}.png" for index in range(4)),
        "dog/own.png",
    ]


def classification(root: Path) -> ClassificationDataConfig:
    return ClassificationDataConfig(name="image_folder", root=str(root))


def test_classes_whose_names_macos_decomposed_are_the_same_classes(tmp_path: Path) -> None:
    for split, form in (("train", "NFD"), ("val", "NFC")):
        for name in ("café", "thé"):
            touch(tmp_path / split / unicodedata.normalize(form, name), "a.png")  # type: ignore[arg-type]
    train, val = (build_classification_dataset(classification(tmp_path), split) for split in ("train", "val"))
    assert train.labels == val.labels
    assert list(train.classes) == list(val.classes) == [(0,), (1,)]


def refuse_listing(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """As the system does without the permission to read; tests may run as root, whom nothing is refused."""
    real = os.scandir

    def scandir(path: str | Path):  # type: ignore[no-untyped-def]
        if str(path).endswith(end):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("folder", ["masks", "images", "masks/sub"])
def test_a_folder_that_may_not_be_listed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    for index in range(20):
        add(tmp_path, f"sub/i{index}")
    refuse_listing(monkeypatch, folder)
    with pytest.raises(DataError) as caught:
        ids(tmp_path)
    (line,) = caught.value.problems
    assert line.startswith(f"{tmp_path / folder}: this folder cannot be listed (Permission denied)")


def test_a_class_that_may_not_be_listed_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png")
    refuse_listing(monkeypatch, "dog")
    with pytest.raises(DataError, match=r"dog: this folder cannot be listed \(Permission denied\)"):
        build_classification_dataset(classification(tmp_path), "train")


def test_an_input_that_may_not_be_listed_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.png")
    refuse_listing(monkeypatch, "in")
    with pytest.raises(ConfigError, match="in: this folder cannot be listed"):
        find_images(tmp_path / "in", without=tmp_path / "out")
