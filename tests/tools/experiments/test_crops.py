"""The built-in task: balanced, repeatable, and of the class that is in the middle."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from laboratory.experiments.crops import SIDE, crop_around, write_crops
from segzoo.data.datasets.synthetic import LABELS


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.png")
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops") / "pictures"
    write_crops(folder, train=3, val=2)
    return folder


def test_every_class_has_its_pictures_in_both_splits(pictures):
    for split, count in (("train", 3), ("val", 2)):
        assert {path.name for path in (pictures / split).iterdir()} == set(LABELS.names)
        for name in LABELS.names:
            files = list((pictures / split / name).iterdir())
            assert len(files) == count
            assert all(Image.open(file).size == (SIDE, SIDE) for file in files)


def test_all_pictures_differ_and_come_again(pictures, tmp_path):
    found = digests(pictures)
    assert len(set(found.values())) == len(found) == 5 * LABELS.num_classes
    unfinished = tmp_path / "again.part" / "train" / "sky"
    unfinished.mkdir(parents=True)
    (unfinished / "left_by_a_killed_call.png").touch()
    write_crops(tmp_path / "again", train=3, val=2)
    assert digests(tmp_path / "again") == found
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_what_is_there_stays(pictures):
    before = digests(pictures)
    write_crops(pictures, train=9, val=9)
    assert digests(pictures) == before


def test_the_middle_is_of_the_class():
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 50, (70, 80)).astype(np.uint8)
    rows, columns = np.mgrid[:70, :80]
    image = np.stack([rows, columns, mask], axis=-1).astype(np.uint8)  # tells where it was cut
    seen = set()
    for _ in range(300):
        crop = crop_around(7, image, mask, rng, side=20)
        assert crop.shape == (20, 20, 3)
        row, column, middle = crop[10, 10]
        assert middle == 7
        seen.add((int(row), int(column)))
    inside = (rows >= 10) & (rows <= 60) & (columns >= 10) & (columns <= 70)
    assert seen <= set(zip(*np.nonzero(inside & (mask == 7)), strict=True))
    assert len(seen) == np.count_nonzero(inside & (mask == 7))
    assert crop_around(99, image, mask, rng, side=20) is None
