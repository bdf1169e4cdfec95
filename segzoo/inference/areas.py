"""How many pixels of each class every image has, in one table."""

import re
from collections.abc import Sequence
from pathlib import Path

from segzoo.inference.image_table import ImageTable, Row

_SHARE = re.compile(r"\d\.\d{6}")


class AreaTable(ImageTable):
    """A CSV with a row for each image and class: pixels, and their share of the image.

    Args:
        path: the file.
        names: of the classes.
        keep: take over the images that the file has already; else it starts anew.
    """

    def __init__(self, path: Path, names: Sequence[str], *, keep: bool) -> None:
        self._names = list(names)
        super().__init__(path, ["image", "class", "pixels", "share"], self._is_complete, keep=keep)

    def add(self, image: str, counts: Sequence[int], size: int) -> None:
        """Append an image's rows; `size` is the number of its pixels."""
        entries = zip(self._names, counts, strict=True)
        self.write(image, [[name, str(count), f"{count / size:.6f}"] for name, count in entries])

    def _is_complete(self, rows: list[Row]) -> bool:
        return [row[0] for row in rows] == self._names and all(_SHARE.fullmatch(row[-1]) for row in rows)
