"""What can be asked of any data set: the classes in its masks, and whether a split is still the one that it was."""

import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from segzoo.config.schema import DataConfig
from segzoo.data.class_balance import balanced_weights, class_pixels
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import differences, inventory_of


def test_pixels_are_counted_and_ignored_ones_are_not() -> None:
    config = DataConfig.model_validate(
        {"name": "synthetic", "synthetic": {"train_images": 3, "val_images": 1, "size": 32}}
    )
    dataset = build_dataset(config, "train")
    masks = np.stack([dataset[index].mask for index in range(3)])
    counts = class_pixels(dataset)
    assert counts.tolist() == [(masks == index).sum() for index in range(dataset.labels.num_classes)]
    assert counts.sum() + (masks == 255).sum() == masks.size


def test_rare_classes_weigh_more() -> None:
    weights = balanced_weights(np.array([0, 10, 990]))
    assert weights == pytest.approx([1 / np.log(1.02 + share) for share in (0.0, 0.01, 0.99)], abs=0.06)


def test_masks_are_counted_without_their_images() -> None:
    class MasksOnly:
        labels = LabelSpace.from_names(["a", "b"])
        ids = ("x", "y")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> object:
            raise AssertionError("decoded an image")

        def read_mask(self, index: int) -> np.ndarray:
            return np.array([[0, 1, index, 255]], np.uint8)

        def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> np.ndarray:
            raise AssertionError("decoded an image")

    assert class_pixels(MasksOnly()).tolist() == [3, 3]


class Files:
    """A data set of files, as far as an inventory goes."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.ids = names
        self._folder = folder

    def files_of(self, index: int) -> list[Path]:
        return [self._folder / f"{self.ids[index]}.png"]


class Classified(Files):
    classes: tuple[tuple[int, ...], ...] = ((0,), (1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate("abcdefg"):
        (tmp_path / f"{name}.png").write_bytes(bytes(10 + number))
    return tmp_path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("abcde", ""),
        ("abcdefg", "2 added (f, g)"),
        ("ae", "3 removed (b, c, d)"),
        ("fg", "2 added (f, g), 5 removed (a, b, c, ...)"),
        ("abced", "in another order"),
    ],
)
def test_what_was_added_removed_or_put_in_another_order(names: str, said: str, folder: Path) -> None:
    before = json.loads(json.dumps(inventory_of(Files(folder, list("abcde")))))  # as a file keeps it
    assert differences(before, inventory_of(Files(folder, list(names)))) == said


def test_what_was_exchanged(folder: Path) -> None:
    before = inventory_of(Files(folder, list("abc")))
    (folder / "b.png").rename(folder / "t.png")
    (folder / "c.png").rename(folder / "b.png")
    (folder / "t.png").rename(folder / "c.png")
    assert differences(before, inventory_of(Files(folder, list("abc")))) == "2 exchanged (b, c)"
    (folder / "a.png").unlink()
    assert differences(before, inventory_of(Files(folder, list("abc")))) == "3 exchanged (a, b, c)"


def test_an_image_that_got_another_class(folder: Path) -> None:
    data = Classified(folder, ["a", "b"])
    before = json.loads(json.dumps(inventory_of(data)))
    assert differences(before, inventory_of(data)) == ""
    data.classes = ((0,), (1,))
    assert differences(before, inventory_of(data)) == "1 exchanged (b)"


def test_the_same_name_on_two_systems_is_one(folder: Path) -> None:
    """macOS writes an umlaut as two signs; and a data set of one's own need not lie in files."""

    class Named:
        def __init__(self, ids: list[str]) -> None:
            self.ids = ids

    names = ["Straße_ä", "é", "\udcff"]
    for form in ("NFC", "NFD"):
        other = Named([normalize(form, name) for name in names])
        assert differences(inventory_of(Named(names)), inventory_of(other)) == ""
