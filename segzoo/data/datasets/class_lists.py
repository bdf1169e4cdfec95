"""The files beside images and masks that name their classes, as annotation programs write them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.config.load import read_yaml
from segzoo.data.reading.coding import Color
from segzoo.data.reading.tree import is_file
from segzoo.errors import ConfigError, DataError
from segzoo.files import text_of

_COLOR_MAP = "labelmap.txt"
_NAME_LISTS = ("classes.txt", "class_names.txt", "labels.txt")
_YAML_LISTS = ("data.yaml", "dataset.yaml")
_NO_CLASS = "__ignore__"  # labelme's first line, for what it stores as 255
_COLOR_LINE = re.compile(r"(?P<name>.+?)\s*:\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)\s*(:.*)?")


@dataclass(frozen=True)
class ClassList:
    """Classes that a file names.

    Args:
        file: its name; empty where there is none.
        names: in the order of the file.
        colors: one for each name where the file says them, else none.
        objects: whether the file names objects only, so that the masks may hold a background besides.
    """

    file: str = ""
    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    objects: bool = False


def find_class_list(root: Path) -> ClassList:
    """The classes that a file in a folder names: CVAT's labelmap.txt, a list of names, or the data.yaml of YOLO.

    Args:
        root: of the data set.

    Raises:
        DataError: the file is no text, or no YAML.
    """
    for found in _lists(root):
        if found.names:
            return found
    return ClassList()


def _lists(root: Path) -> Iterator[ClassList]:
    lines = listed_names(root / _COLOR_MAP)
    matches = [_COLOR_LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    parts = [match for match in matches if match]
    if len(parts) == len(matches):
        yield ClassList(
            _COLOR_MAP, tuple(part["name"] for part in parts), tuple(_color(part["color"]) for part in parts)
        )
    for name in (*_NAME_LISTS, _COLOR_MAP):
        names = listed_names(root / name)
        yield ClassList(name, names[1:] if names[:1] == (_NO_CLASS,) else names)
    for name in _YAML_LISTS:
        yield ClassList(name, _yaml_names(root / name), objects=True)


def listed_names(path: Path) -> tuple[str, ...]:
    """The names in a file, one a line; none where there is no such file.

    Raises:
        DataError: the file is no text.
    """
    if not is_file(path):
        return ()
    return tuple(line.strip() for line in text_of(path).splitlines() if line.strip())


def _color(text: str) -> Color:
    red, green, blue = (min(int(level), 255) for level in text.split(","))
    return red, green, blue


def _yaml_names(path: Path) -> tuple[str, ...]:
    """The names of a data.yaml: a list, or a mapping from numbers."""
    if not path.is_file():
        return ()
    try:
        names = read_yaml(path).get("names")
    except ConfigError as error:
        raise DataError(error.problems) from None
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names, key=int)] if all(str(key).isdigit() for key in names) else []
    return tuple(map(str, names)) if isinstance(names, Sequence) and not isinstance(names, str) else ()
