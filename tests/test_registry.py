import pytest

from segzoo.errors import ConfigError, UnknownNameError
from segzoo.registry import Registry


def test_duplicate_raises() -> None:
    things = Registry[int]("thing")
    things.add("a", 1)
    with pytest.raises(ValueError, match="thing 'a' is registered already.*replace=True") as caught:
        things.add("a", 2)
    assert isinstance(caught.value, ConfigError)
    assert things["a"] == 1


def test_replacing_is_asked_for() -> None:
    things = Registry[int]("thing")
    for entry in (1, 2):
        things.register("a", replace=True)(entry)
    assert things["a"] == 2


def test_unknown_name_suggests() -> None:
    things = Registry[int]("thing")
    things.add("unet", 1)
    with pytest.raises(UnknownNameError, match=r"Unknown thing 'umet'. Did you mean unet\?"):
        things["umet"]
    assert list(things) == ["unet"]


@pytest.mark.parametrize("name", ["", "a\nrun_dir: b", "\x1b[2J", "\udce9"])
def test_a_name_is_text_on_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"thing .*: a name is text on one line\. Take another\."):
        Registry[int]("thing").register(name)(1)
