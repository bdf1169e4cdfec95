"""Whether a split is still the one that it was."""

import json
from pathlib import Path
from unicodedata import normalize

import pytest

from segzoo.data.sample import differences, inventory_of


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
