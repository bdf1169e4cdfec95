import pytest

from segzoo.errors import UnknownNameError
from segzoo.registry import Registry


def test_duplicate_raises() -> None:
    things = Registry[int]("thing")
    things.add("a", 1)
    with pytest.raises(ValueError, match="thing 'a' is registered already"):
        things.add("a", 2)


def test_unknown_name_suggests() -> None:
    things = Registry[int]("thing")
    things.add("unet", 1)
    with pytest.raises(UnknownNameError, match=r"Unknown thing 'umet'. Did you mean unet\?"):
        things["umet"]
    assert list(things) == ["unet"]
