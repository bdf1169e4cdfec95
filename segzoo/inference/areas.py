"""How many pixels of each class every image has, in one table."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from segzoo.escapes import csv_line
from segzoo.files import write_atomically

AREAS_FILE = "areas.csv"


def write_areas(path: Path, names: Sequence[str], images: Iterable[tuple[str, Sequence[int], int]]) -> None:
    """Write a CSV with a row for each image and class: pixels, and their share of the image.

    Args:
        path: the file.
        names: of the classes.
        images: name, pixels of each class, and pixels of the image.
    """
    lines = [csv_line(["image", "class", "pixels", "share"])]
    for image, counts, size in images:
        entries = zip(names, counts, strict=True)
        lines += [csv_line([image, name, count, f"{count / size:.6f}"]) for name, count in entries]
    write_atomically(path, "".join(lines).encode())
